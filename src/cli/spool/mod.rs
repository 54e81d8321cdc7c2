//! `spool`: shows the spooled deliveries, and redrives or purges orphaned ones, whose sink is no longer in the configuration.
//!
//! It reads the spool's file, whether a relay runs or not.

pub(super) mod deliveries;
mod migrate;
mod orphans;

use std::collections::BTreeSet;
use std::io::{BufWriter, Write};
use std::process::ExitCode;

use serde::Serialize;

use super::target::Target;
use super::{Global, InvalidInput, note, table};
use crate::clock::WallTime;
use crate::config::{Config, unknown_name};
use crate::delivery::PersistedState;
use crate::spool::BacklogSummary;

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    filter: deliveries::DeliveryArguments,
    /// Print JSON, one object per line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Give the deliveries of a sink that is no longer in the configuration to another sink
    Redrive(orphans::Redrive),
    /// Delete the deliveries of a sink that is no longer in the configuration
    Purge(orphans::Purge),
    /// Move the spool from a file to PostgreSQL, or back, while no relay runs
    Migrate(migrate::Migrate),
}

const HEADS: [&str; 7] = ["SINK", "COUNT", "BYTES", "OLDEST", "NEXT ATTEMPT", "ORPHANS", "LAST ERROR"];

pub fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let target = Target::find(global)?;
    if !matches!(arguments.command, Some(Command::Migrate(_))) {
        target.require_spool()?;
    }
    let mut out = std::io::stdout().lock();
    match &arguments.command {
        None if arguments.filter.is_given() => arguments.filter.print(&target, arguments.json),
        None => show(&target, arguments.json),
        Some(Command::Redrive(redrive)) => redrive.run(&target, &mut out),
        Some(Command::Purge(purge)) => purge.run(&target, &mut out),
        Some(Command::Migrate(migrate)) => migrate.run(&target, &mut out),
    }
}

/// Fails if neither the spool nor the configuration has a sink of that name.
fn require_sink(target: &Target, sinks: &[BacklogSummary], name: &str) -> Result<(), InvalidInput> {
    let Some(config) = &target.config else { return Ok(()) };
    let configured = config.sinks.iter().map(|sink| sink.name.as_str());
    let known: BTreeSet<_> = configured.chain(sinks.iter().map(|backlog| backlog.sink.as_str())).collect();
    if known.contains(name) {
        return Ok(());
    }
    Err(InvalidInput(unknown_name("sink", name, &known.into_iter().collect::<Vec<_>>())))
}

fn show(target: &Target, json: bool) -> anyhow::Result<ExitCode> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut table = table::Table::new(HEADS);
    let mut deliveries = 0;
    let sinks = target.spool.backlogs()?;
    for sink in &sinks {
        deliveries += sink.count;
        let line = BacklogJson::of(sink, target.config.as_ref());
        if json {
            crate::cli::write_json(&line, &mut out)?;
        } else {
            table.row(line.cells(), &mut out)?;
        }
    }
    table.finish(&mut out)?;
    if !json {
        show_errors(&sinks, &mut out)?;
    }
    out.flush()?;
    if deliveries == 0 && !json {
        note(&format!("no spooled deliveries in {}", target.spool));
    }
    Ok(ExitCode::SUCCESS)
}

/// For sinks whose deliveries fail with several errors: the main table has only the last one.
fn show_errors(sinks: &[BacklogSummary], out: &mut impl Write) -> std::io::Result<()> {
    let mut table = table::Table::new(["SINK", "FAILING", "ERROR"]);
    let several = sinks.iter().filter(|sink| sink.errors.len() > 1);
    for (sink, (cause, count)) in several.flat_map(|sink| sink.errors.iter().map(move |cause| (sink, cause))) {
        let row = [table::cell(Some(&sink.sink)), count.to_string(), table::cell(Some(cause))];
        table.row(row, out)?;
    }
    if !table.is_empty() {
        writeln!(out)?;
    }
    table.finish(out)
}

/// The backlog of a sink. Users rely on these keys.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct BacklogJson<'a> {
    sink: &'a str,
    count: u64,
    bytes: u64,
    oldest: Option<String>,
    /// RFC 3339; `None` if the sink is paused until somebody resumes it.
    next_attempt: Option<String>,
    last_error: Option<String>,
    /// The errors of the oldest delivery of each key, the most frequent first.
    errors: Vec<ErrorCount<'a>>,
    /// How many of them are orphaned.
    orphans: u64,
}

#[derive(Debug, Serialize)]
struct ErrorCount<'a> {
    error: &'a str,
    count: u64,
}

impl<'a> BacklogJson<'a> {
    fn of(backlog: &'a BacklogSummary, config: Option<&Config>) -> Self {
        let has_sink = |config: &Config| config.sinks.iter().any(|sink| sink.name.as_str() == backlog.sink);
        let is_orphan = config.is_some_and(|config| !has_sink(config));
        let state = PersistedState::parse(backlog.state.as_deref());
        let next =
            backlog.next_due.zip(state.not_before()).map(|(due, not_before)| backlog.to_wall(due.max(not_before)));
        Self {
            sink: &backlog.sink,
            count: backlog.count,
            bytes: backlog.bytes,
            oldest: backlog.oldest.map(WallTime::to_rfc3339),
            next_attempt: next.filter(|_| !is_orphan).map(WallTime::to_rfc3339),
            last_error: state.trouble().or_else(|| backlog.last_error.clone()),
            errors: backlog.errors.iter().map(|(error, count)| ErrorCount { error, count: *count }).collect(),
            orphans: if is_orphan { backlog.count } else { 0 },
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
