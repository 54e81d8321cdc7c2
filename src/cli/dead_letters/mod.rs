//! `dead-letters`: lists, shows, redrives and purges dead letters.
//!
//! `list` and `show` read the spool's file, whether a relay runs or not; a redrive or purge is done by the running relay. Text from
//! outside is escaped for terminals.

mod purge;
mod redrive;
mod show;

use std::collections::BTreeSet;
use std::io::{BufWriter, Write};
use std::process::ExitCode;

use anyhow::anyhow;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::client::JobPart;
use super::spool::deliveries;
use super::table::{Table, cell};
use super::target::Target;
use super::{Global, InvalidInput, note};
use crate::config::{self, Config, similar};
use crate::event::{FAMILIES, Reason};
use crate::relay::JobRequest;
use crate::spool::{DeadLetterFilter, DeadLetterSummary, DeadLetters, ShardName, SpoolError, SpoolReader};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// List dead letters, the newest first
    List(List),
    /// Show one dead letter with its properties, body and event
    Show(Show),
    /// Deliver dead letters again, the oldest first
    Redrive(redrive::Redrive),
    /// Delete dead letters for good
    Purge(purge::Purge),
}

#[derive(Debug, Default, Args)]
pub struct FilterArguments {
    /// Only dead letters of this tenant
    #[arg(long)]
    tenant: Option<String>,
    /// Only dead letters with this status
    #[arg(long)]
    status: Option<String>,
    /// Only dead letters of this sink
    #[arg(long)]
    sink: Option<String>,
    /// Only dead letters with this reason
    #[arg(long, value_parser = reason())]
    reason: Option<Reason>,
    /// Only dead letters with this correlation id
    #[arg(long, value_name = "ID")]
    correlation_id: Option<String>,
    /// Only dead letters stored since this time (2025-05-01, 2025-05-01T12:00:00Z), or so long ago (90m, 24h, 7d)
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<i64>,
    /// At most this many: `list` takes the newest, `redrive` and `purge` the oldest
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    arguments: FilterArguments,
    /// Print JSON, one object per line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct Show {
    /// Number of the dead letter, which `list` shows
    id: i64,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

pub fn run(global: &Global, command: &Command) -> anyhow::Result<ExitCode> {
    let target = Target::find(global)?;
    target.require_spool()?;
    let spool = &target.spool;
    let letters = spool.dead_letters()?;
    if let Some(arguments) = command.arguments() {
        arguments.check(&letters, target.config.as_ref())?;
    }
    let mut out = BufWriter::new(std::io::stdout().lock());
    let code = match command {
        Command::List(list) => {
            let code = list.print(&letters, spool, &mut out)?;
            list.note_spooled(&target)?;
            code
        }
        Command::Show(arguments) => {
            let shown = letters.show(arguments.id)?;
            let shown = shown.ok_or_else(|| anyhow!("there is no dead letter {} in {}", arguments.id, spool))?;
            show::print(&shown, arguments.json, &mut out)?;
            ExitCode::SUCCESS
        }
        Command::Redrive(redrive) => redrive.run(&letters, &target, &mut out)?,
        Command::Purge(purge) => purge.run(&letters, &target, &mut out)?,
    };
    out.flush()?;
    Ok(code)
}

/// The dead letters of one shard that match now. The filter does not match those that are stored later, which the user has not seen.
struct Matching {
    shard: ShardName,
    count: u64,
    filter: DeadLetterFilter,
}

/// The dead letters that match now, by shard.
fn matching(letters: &DeadLetters, target: &Target, arguments: &FilterArguments) -> anyhow::Result<Vec<Matching>> {
    let filter = DeadLetterFilter { oldest_first: true, ..arguments.filter() };
    let mut ids = Vec::new();
    letters.list(&filter, |letter: DeadLetterSummary| -> Result<(), SpoolError> {
        ids.push(letter.id);
        Ok(())
    })?;
    let shards = target.spool.shards()?;
    let is_divided = shards.len() > 1;
    let of_shard = |shard: ShardName| {
        let (above, up_to) = if is_divided { shard.dead_letters() } else { (i64::MIN, i64::MAX) };
        let ids = ids.iter().filter(|id| **id > above && **id <= up_to);
        let (count, newest) = (ids.clone().count() as u64, ids.max()?);
        let filter = DeadLetterFilter {
            above: is_divided.then_some(above),
            up_to: Some(*newest),
            limit: filter.limit.map(|_| count),
            ..filter.clone()
        };
        Some(Matching { shard, count, filter })
    };
    Ok(shards.into_iter().filter_map(of_shard).collect())
}

/// What a job does for each shard.
fn parts(found: Vec<Matching>, request: impl Fn(DeadLetterFilter, u64) -> JobRequest) -> Vec<JobPart> {
    let part = |Matching { shard, count, filter }| JobPart { shard, request: request(filter, count), total: count };
    found.into_iter().map(part).collect()
}

impl Command {
    fn arguments(&self) -> Option<&FilterArguments> {
        match self {
            Self::List(list) => Some(&list.arguments),
            Self::Show(_) => None,
            Self::Redrive(redrive) => Some(redrive.arguments()),
            Self::Purge(purge) => Some(purge.arguments()),
        }
    }
}

impl FilterArguments {
    fn filter(&self) -> DeadLetterFilter {
        DeadLetterFilter {
            tenant: self.tenant.clone(),
            status: self.status.clone(),
            sink: self.sink.clone(),
            reason: self.reason,
            correlation_id: self.correlation_id.clone(),
            since: self.since,
            above: None,
            up_to: None,
            limit: self.limit,
            oldest_first: false,
        }
    }

    /// Fails for a sink or a status that is neither known nor that of a stored dead letter: it is a typing error.
    fn check(&self, letters: &DeadLetters, config: Option<&Config>) -> anyhow::Result<()> {
        let is_stored = |filter: DeadLetterFilter| -> Result<bool, SpoolError> {
            let mut found = false;
            letters.list(&DeadLetterFilter { limit: Some(1), ..filter }, |_| {
                found = true;
                Ok::<_, SpoolError>(())
            })?;
            Ok(found)
        };
        if let (Some(sink), Some(config)) = (&self.sink, config) {
            let known: Vec<_> = config.sinks.iter().map(|sink| sink.name.as_str()).collect();
            if !known.contains(&sink.as_str())
                && !is_stored(DeadLetterFilter { sink: self.sink.clone(), ..DeadLetterFilter::default() })?
            {
                return Err(unknown("sink", sink, &known).into());
            }
        }
        if let Some(status) = &self.status {
            let known: Vec<_> = FAMILIES.iter().flat_map(|family| family.statuses).map(|(status, _)| *status).collect();
            if !known.contains(&status.as_str())
                && !is_stored(DeadLetterFilter { status: self.status.clone(), ..DeadLetterFilter::default() })?
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

fn unknown(what: &str, word: &str, known: &[&str]) -> InvalidInput {
    let known: BTreeSet<_> = known.iter().copied().collect();
    let names = known.iter().copied().collect::<Vec<_>>().join(", ");
    let hint = similar(word, known).map_or_else(String::new, |name| format!("; did you mean `{name}`?"));
    InvalidInput(format!("no dead letter has the {what} {word}; the known ones are {names}{hint}"))
}

impl List {
    fn print(&self, letters: &DeadLetters, spool: &SpoolReader, out: &mut impl Write) -> anyhow::Result<ExitCode> {
        let mut count = 0_u64;
        let mut table = Table::new(HEADS);
        letters.list(&self.arguments.filter(), |letter| -> anyhow::Result<()> {
            count += 1;
            if self.json {
                crate::cli::write_json(&DeadLetterJson::of(&letter), &mut *out)?;
            } else {
                table.row(cells(&letter), out)?;
            }
            Ok(())
        })?;
        table.finish(out)?;
        out.flush()?;
        self.note_count(count, letters, spool);
        Ok(ExitCode::SUCCESS)
    }

    /// The user looks for a request, which may also have spooled deliveries.
    fn note_spooled(&self, target: &Target) -> anyhow::Result<()> {
        let Some(id) = &self.arguments.correlation_id else { return Ok(()) };
        if self.json {
            return Ok(());
        }
        deliveries::DeliveryArguments::of_request(id).list(target, &target.spool.backlogs()?, |line| {
            note(&line.sentence());
            Ok(())
        })?;
        Ok(())
    }

    fn note_count(&self, count: u64, letters: &DeadLetters, spool: &SpoolReader) {
        let line = match count {
            0 if !letters.exist() => format!("no dead letters: no relay has stored anything in {spool} yet"),
            0 if self.arguments.is_filtered() => format!("no dead letter in {spool} matches"),
            0 => format!("no dead letters in {spool}"),
            _ if self.json => return,
            1 => "1 dead letter; `regards-relay dead-letters show ID` shows all of it".to_owned(),
            _ => format!("{count} dead letters; `regards-relay dead-letters show ID` shows all of one"),
        };
        note(&line);
    }
}

/// Users rely on these keys.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DeadLetterJson<'a> {
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

impl<'a> DeadLetterJson<'a> {
    fn of(letter: &'a DeadLetterSummary) -> Self {
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

fn cells(letter: &DeadLetterSummary) -> [String; HEADS.len()] {
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

/// Parses a time or an age into milliseconds since 1970.
pub(super) fn since(text: &str) -> Result<i64, String> {
    let invalid = || "expected an age (90m, 24h, 7d) or a time (2025-05-01, 2025-05-01T12:00:00Z)".to_owned();
    if let Some(ago) = config::duration(text) {
        let ago = i64::try_from(ago.as_millis()).map_err(|_| invalid())?;
        return Ok(crate::clock::WallTime::now().0.saturating_sub(ago));
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(time.as_millisecond());
    }
    let day: jiff::civil::Date = text.parse().map_err(|_| invalid())?;
    day.to_zoned(jiff::tz::TimeZone::UTC).map(|day| day.timestamp().as_millisecond()).map_err(|_| invalid())
}

#[cfg(test)]
mod tests;
