//! `dead-letters`: what could not be read or delivered, for people and for programs.
//!
//! Reads the spool's file beside a running relay, or without one; what changes it, a running relay does itself. What came from
//! outside is escaped before a terminal sees it.

mod purge;
mod redrive;
mod show;

use std::collections::BTreeSet;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::anyhow;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::place::Place;
use super::spool::deliveries;
use super::table::{Table, cell};
use super::{Global, WrongInput};
use crate::config::{Config, similar};
use crate::event::{FAMILIES, Reason};
use crate::spool::{DeadLetters, Filter, Listed, SpoolError, waits};
use crate::telemetry::printable;

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List them, the newest first
    List(List),
    /// Show one, whole: its properties, its body, and its event if it is one
    Show(Show),
    /// Give them another chance, the oldest first
    Redrive(redrive::Redrive),
    /// Delete those that have been dealt with
    Purge(purge::Purge),
}

/// Which ones.
#[derive(Debug, Default, Args)]
pub struct Which {
    /// Only of this tenant
    #[arg(long)]
    tenant: Option<String>,
    /// Only with this status
    #[arg(long)]
    status: Option<String>,
    /// Only those that this sink could not be given
    #[arg(long)]
    sink: Option<String>,
    /// Only for this reason
    #[arg(long, value_parser = reason())]
    reason: Option<Reason>,
    /// Only with this correlation id
    #[arg(long, value_name = "ID")]
    correlation_id: Option<String>,
    /// Only as old as this (90m, 24h, 7d), or since this time (2025-05-01, 2025-05-01T12:00:00Z)
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<i64>,
    /// At most so many: of `list` the newest, of `redrive` and `purge` the oldest
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

/// Which ones, and how.
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    which: Which,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// Which one, and how.
#[derive(Debug, Args)]
pub struct Show {
    /// The number that `list` shows
    id: i64,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Does what was asked.
pub fn run(global: &Global, command: &Command) -> anyhow::Result<ExitCode> {
    let place = Place::of(global)?;
    place.has_spool()?;
    let path = &place.spool;
    let letters = DeadLetters::open_read_only(path)?;
    if let Some(which) = command.which() {
        which.check(&letters, place.config.as_ref())?;
    }
    let mut out = BufWriter::new(std::io::stdout().lock());
    let code = match command {
        Command::List(list) => {
            let code = list.print(&letters, path, &mut out)?;
            list.say_what_waits(&place)?;
            code
        }
        Command::Show(asked) => {
            let shown = letters.show(asked.id)?;
            let shown = shown.ok_or_else(|| anyhow!("there is no dead letter {} in {}", asked.id, path.display()))?;
            show::print(&shown, asked.json, &mut out)?;
            ExitCode::SUCCESS
        }
        Command::Redrive(redrive) => redrive.run(&letters, &place, &mut out)?,
        Command::Purge(purge) => purge.run(&letters, &place, &mut out)?,
    };
    out.flush()?;
    Ok(code)
}

/// How many there are of these now, the oldest first, and which: what comes meanwhile has been seen by nobody.
fn seen(letters: &DeadLetters, which: &Which) -> anyhow::Result<(u64, Filter)> {
    let (mut count, mut newest) = (0_u64, None);
    let filter = Filter { oldest_first: true, ..which.filter() };
    letters.list(&filter, |letter: Listed| -> Result<(), SpoolError> {
        count += 1;
        newest = Some(letter.id);
        Ok(())
    })?;
    Ok((count, Filter { up_to: newest, ..filter }))
}

impl Command {
    fn which(&self) -> Option<&Which> {
        match self {
            Self::List(list) => Some(&list.which),
            Self::Show(_) => None,
            Self::Redrive(redrive) => Some(redrive.which()),
            Self::Purge(purge) => Some(purge.which()),
        }
    }
}

impl Which {
    fn filter(&self) -> Filter {
        Filter {
            tenant: self.tenant.clone(),
            status: self.status.clone(),
            sink: self.sink.clone(),
            reason: self.reason,
            correlation_id: self.correlation_id.clone(),
            since: self.since,
            up_to: None,
            limit: self.limit,
            oldest_first: false,
        }
    }

    /// A sink or a status that neither the configuration nor any dead letter has is a slip, not an empty answer.
    fn check(&self, letters: &DeadLetters, config: Option<&Config>) -> anyhow::Result<()> {
        let is_stored = |filter: Filter| -> Result<bool, SpoolError> {
            let mut found = false;
            letters.list(&Filter { limit: Some(1), ..filter }, |_| {
                found = true;
                Ok(())
            })?;
            Ok(found)
        };
        if let (Some(sink), Some(config)) = (&self.sink, config) {
            let known: Vec<_> = config.sinks.iter().map(|sink| sink.name.as_str()).collect();
            if !known.contains(&sink.as_str()) && !is_stored(Filter { sink: self.sink.clone(), ..Filter::default() })? {
                return Err(unknown("sink", sink, &known).into());
            }
        }
        if let Some(status) = &self.status {
            let known: Vec<_> = FAMILIES.iter().flat_map(|family| family.statuses).map(|(status, _)| *status).collect();
            if !known.contains(&status.as_str())
                && !is_stored(Filter { status: self.status.clone(), ..Filter::default() })?
            {
                return Err(unknown("status", status, &known).into());
            }
        }
        Ok(())
    }

    fn is_filtered(&self) -> bool {
        self.tenant.is_some()
            || self.status.is_some()
            || self.sink.is_some()
            || self.reason.is_some()
            || self.correlation_id.is_some()
            || self.since.is_some()
    }
}

/// `known` may name some words twice.
fn unknown(what: &str, word: &str, known: &[&str]) -> WrongInput {
    let known: BTreeSet<_> = known.iter().copied().collect();
    let names = known.iter().copied().collect::<Vec<_>>().join(", ");
    let meant = similar(word, known).map_or_else(String::new, |meant| format!("; did you mean `{meant}`?"));
    WrongInput(format!("no dead letter has the {what} {word}, and the known ones are {names}{meant}"))
}

impl List {
    fn print(&self, letters: &DeadLetters, path: &Path, out: &mut impl Write) -> anyhow::Result<ExitCode> {
        let mut count = 0_u64;
        let mut table = Table::new(HEADS);
        letters.list(&self.which.filter(), |letter| -> anyhow::Result<()> {
            count += 1;
            if self.json {
                crate::cli::write_json(&Line::of(&letter), &mut *out)?;
            } else {
                table.row(cells(&letter), out)?;
            }
            Ok(())
        })?;
        table.finish(out)?;
        out.flush()?;
        self.say(count, letters, path);
        Ok(ExitCode::SUCCESS)
    }

    /// A request that is looked for among the dead letters may still wait for a sink.
    fn say_what_waits(&self, place: &Place) -> anyhow::Result<()> {
        let Some(id) = &self.which.correlation_id else { return Ok(()) };
        if self.json {
            return Ok(());
        }
        deliveries::Which::of_request(id).list(place, &waits(&place.spool)?, |line| {
            let line = line.sentence();
            // Nobody is there to read it.
            let _ = writeln!(std::io::stderr(), "{}", printable(&line));
            Ok(())
        })?;
        Ok(())
    }

    /// What only a person reads.
    fn say(&self, count: u64, letters: &DeadLetters, path: &Path) {
        let path = path.display();
        let line = match count {
            0 if !letters.exists() => format!("no dead letters: nothing was ever stored in {path}"),
            0 if self.which.is_filtered() => format!("none of the dead letters in {path} is like that"),
            0 => format!("no dead letters in {path}"),
            _ if self.json => return,
            1 => "1 dead letter; `regards-relay dead-letters show ID` shows it whole".to_owned(),
            _ => format!("{count} dead letters; `regards-relay dead-letters show ID` shows one whole"),
        };
        // Nobody is there to read it.
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

/// A dead letter as programs get it. These keys are relied on.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    id: i64,
    reason: &'a str,
    detail: &'a str,
    sink: Option<&'a str>,
    source: &'a str,
    tenant: Option<&'a str>,
    status: Option<&'a str>,
    correlation_id: Option<&'a str>,
    attempts: u32,
    at: String,
}

impl<'a> Line<'a> {
    fn of(letter: &'a Listed) -> Self {
        Self {
            id: letter.id,
            reason: &letter.reason,
            detail: &letter.detail,
            sink: letter.sink.as_deref(),
            source: &letter.source,
            tenant: letter.tenant.as_deref(),
            status: letter.status.as_deref(),
            correlation_id: letter.correlation_id.as_deref(),
            attempts: letter.attempts,
            at: letter.at.to_rfc3339(),
        }
    }
}

const HEADS: [&str; 10] =
    ["ID", "AT", "REASON", "SINK", "SOURCE", "TENANT", "STATUS", "CORRELATION ID", "ATTEMPTS", "DETAIL"];

/// A dead letter as people get it.
fn cells(letter: &Listed) -> [String; HEADS.len()] {
    [
        letter.id.to_string(),
        letter.at.to_rfc3339(),
        cell(Some(&letter.reason)),
        cell(letter.sink.as_deref()),
        cell(Some(&letter.source)),
        cell(letter.tenant.as_deref()),
        cell(letter.status.as_deref()),
        cell(letter.correlation_id.as_deref()),
        letter.attempts.to_string(),
        cell(Some(&letter.detail)),
    ]
}

fn reason() -> impl TypedValueParser<Value = Reason> {
    PossibleValuesParser::new(Reason::NAMES).try_map(|name| name.parse())
}

/// A time, or how long ago it is, as milliseconds since 1970.
fn since(text: &str) -> Result<i64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3_600),
        "d" => Some(86_400),
        "w" => Some(604_800),
        _ => None,
    };
    let wrong = || "expected how long ago (90m, 24h, 7d) or a time (2025-05-01, 2025-05-01T12:00:00Z)".to_owned();
    if let Some(seconds) = seconds {
        let ago: i64 = number.parse().map_err(|_| wrong())?;
        let ago = ago.checked_mul(seconds).and_then(|ago| ago.checked_mul(1_000)).ok_or_else(wrong)?;
        return Ok(crate::clock::WallTime::now().0.saturating_sub(ago));
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(time.as_millisecond());
    }
    let day: jiff::civil::Date = text.parse().map_err(|_| wrong())?;
    day.to_zoned(jiff::tz::TimeZone::UTC).map(|day| day.timestamp().as_millisecond()).map_err(|_| wrong())
}

#[cfg(test)]
mod tests;
