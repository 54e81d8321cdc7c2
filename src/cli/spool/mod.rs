//! `spool`: what waits, for which sink, and why; and what becomes of it where its sink is gone.
//!
//! What is shown is read from the spool's file, beside a running relay or without one.

pub(super) mod deliveries;
mod orphans;

use std::collections::BTreeSet;
use std::io::{BufWriter, Write};
use std::process::ExitCode;

use serde::Serialize;

use super::place::Place;
use super::{Global, WrongInput, table};
use crate::clock::WallTime;
use crate::config::{Config, unknown_name};
use crate::delivery::State;
use crate::spool::{Waits, waits};

/// How to show it, or what to do with it.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    which: deliveries::Which,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Give what waits for a sink that is gone from the rules to another sink
    Redrive(orphans::Redrive),
    /// Delete what waits for a sink that is gone from the rules
    Purge(orphans::Purge),
}

const HEADS: [&str; 7] = ["SINK", "COUNT", "BYTES", "OLDEST", "NEXT ATTEMPT", "ORPHANS", "LAST ERROR"];

/// Does what was asked.
pub fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let place = Place::of(global)?;
    place.has_spool()?;
    let mut out = std::io::stdout().lock();
    match &arguments.command {
        None if arguments.which.is_given() => arguments.which.print(&place, arguments.json),
        None => show(&place, arguments.json),
        Some(Command::Redrive(redrive)) => redrive.run(&place, &mut out),
        Some(Command::Purge(purge)) => purge.run(&place, &mut out),
    }
}

/// An error where neither the spool nor the configuration has a sink of that name.
fn knows(place: &Place, sinks: &[Waits], name: &str) -> Result<(), WrongInput> {
    let Some(config) = &place.config else { return Ok(()) };
    let configured = config.sinks.iter().map(|sink| sink.name.as_str());
    let known: BTreeSet<_> = configured.chain(sinks.iter().map(|waits| waits.sink.as_str())).collect();
    if known.contains(name) {
        return Ok(());
    }
    Err(WrongInput(unknown_name("sink", name, &known.into_iter().collect::<Vec<_>>())))
}

fn show(place: &Place, json: bool) -> anyhow::Result<ExitCode> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut table = table::Table::new(HEADS);
    let mut waiting = 0;
    let sinks = waits(&place.spool)?;
    for sink in &sinks {
        waiting += sink.count;
        let line = Line::of(sink, place.config.as_ref());
        if json {
            crate::cli::write_json(&line, &mut out)?;
        } else {
            table.row(line.cells(), &mut out)?;
        }
    }
    table.finish(&mut out)?;
    if !json {
        show_causes(&sinks, &mut out)?;
    }
    out.flush()?;
    if waiting == 0 && !json {
        // Nobody is there to read it.
        let _ = writeln!(std::io::stderr(), "nothing waits in {}", place.spool.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Where deliveries of one sink fail for several reasons, the last one alone would hide the others.
fn show_causes(sinks: &[Waits], out: &mut impl Write) -> std::io::Result<()> {
    let mut table = table::Table::new(["SINK", "FAILING", "ERROR"]);
    let several = sinks.iter().filter(|sink| sink.causes.len() > 1);
    for (sink, (cause, count)) in several.flat_map(|sink| sink.causes.iter().map(move |cause| (sink, cause))) {
        let row = [table::cell(Some(&sink.sink)), count.to_string(), table::cell(Some(cause))];
        table.row(row, out)?;
    }
    if !table.is_empty() {
        writeln!(out)?;
    }
    table.finish(out)
}

/// What waits for a sink, as programs get it. These keys are relied on.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    sink: &'a str,
    count: u64,
    bytes: u64,
    /// RFC 3339.
    oldest: Option<String>,
    /// RFC 3339; none where a person has to resume the sink.
    next_attempt: Option<String>,
    last_error: Option<String>,
    /// How the oldest deliveries of each key failed, the most frequent first.
    errors: Vec<ErrorCount<'a>>,
    /// How many of them no sink of the configuration is for.
    orphans: u64,
}

#[derive(Debug, Serialize)]
struct ErrorCount<'a> {
    error: &'a str,
    count: u64,
}

impl<'a> Line<'a> {
    /// `config` is the relay's, where it can be read.
    fn of(waits: &'a Waits, config: Option<&Config>) -> Self {
        let has_sink = |config: &Config| config.sinks.iter().any(|sink| sink.name.as_str() == waits.sink);
        let is_orphan = config.is_some_and(|config| !has_sink(config));
        let state = State::parse(waits.state.as_deref());
        let next = waits.next.zip(state.not_before()).map(|(due, not_before)| waits.to_wall(due.max(not_before)));
        Self {
            sink: &waits.sink,
            count: waits.count,
            bytes: waits.bytes,
            oldest: waits.oldest.map(WallTime::to_rfc3339),
            next_attempt: next.filter(|_| !is_orphan).map(WallTime::to_rfc3339),
            last_error: state.trouble().or_else(|| waits.cause.clone()),
            errors: waits.causes.iter().map(|(error, count)| ErrorCount { error, count: *count }).collect(),
            orphans: if is_orphan { waits.count } else { 0 },
        }
    }

    fn cells(&self) -> [String; HEADS.len()] {
        [
            table::cell(Some(self.sink)),
            self.count.to_string(),
            self.bytes.to_string(),
            table::cell(self.oldest.as_deref()),
            table::cell(self.next_attempt.as_deref()),
            self.orphans.to_string(),
            table::cell(self.last_error.as_deref()),
        ]
    }
}
