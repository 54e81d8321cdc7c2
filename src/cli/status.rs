//! `status` and `jobs`: what a running relay does now.

use std::io::{BufWriter, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;

use super::ask::{Asked, ask, unexpected};
use super::place::Place;
use super::table::{Table, cell};
use super::{Global, counted, write_json};
use crate::admin::control::{Answer, Request, Status};
use crate::relay::JobLine;

/// Between two looks of `--watch`.
const WATCH_PAUSE: Duration = Duration::from_secs(2);
/// Makes a terminal empty.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// How to show it.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Show it again every 2 s, until Ctrl-C
    #[arg(long)]
    watch: bool,
    /// One JSON object; with `--watch` one a line
    #[arg(long)]
    json: bool,
}

/// How to show them, or which to stop.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Jobs {
    #[command(subcommand)]
    command: Option<JobsCommand>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum JobsCommand {
    /// Stop one
    Stop {
        /// Its number
        #[arg(value_name = "N")]
        id: u64,
    },
}

/// Shows sources, sinks, spool, dead letters and jobs.
pub fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let place = Place::of(global)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    show(&status(&place)?, arguments.json, &mut out)?;
    out.flush()?;
    if arguments.watch { watch(&place, arguments.json, &mut out) } else { Ok(ExitCode::SUCCESS) }
}

/// Shows it again and again, as long as somebody reads it.
fn watch(place: &Place, json: bool, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let clear = if std::io::stdout().is_terminal() && !json { CLEAR } else { "" };
    loop {
        std::thread::sleep(WATCH_PAUSE);
        let looked = status(place);
        write!(out, "{clear}")?;
        match looked {
            Ok(status) => show(&status, json, out)?,
            // It may be started anew.
            Err(error) => {
                // Nobody is there to read it.
                let _ = writeln!(std::io::stderr(), "{}", crate::telemetry::printable(&format!("{error:#}")));
            }
        }
        out.flush()?;
    }
}

/// Shows the jobs, or stops one.
pub fn jobs(global: &Global, arguments: &Jobs) -> anyhow::Result<ExitCode> {
    let place = Place::of(global)?;
    if let Some(JobsCommand::Stop { id }) = arguments.command {
        return match ask(&place, |spool| Request::StopJob { spool, id })? {
            Asked::Answered(Answer::Done) => Ok(ExitCode::SUCCESS),
            Asked::Answered(other) => Err(unexpected(&other)),
            Asked::Nobody => Err(nobody(&place)),
        };
    }
    let jobs = status(&place)?.jobs;
    let mut out = BufWriter::new(std::io::stdout().lock());
    if arguments.json {
        for job in &jobs {
            write_json(job, &mut out)?;
        }
    } else {
        show_jobs(&jobs, &mut out)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn show(status: &Status, json: bool, out: &mut impl Write) -> anyhow::Result<()> {
    if json {
        return Ok(write_json(status, out)?);
    }
    writeln!(out, "regards-relay {}, up for {}\n", status.version, duration(status.uptime))?;
    let mut sources = Table::new(["SOURCE", "STATE", "RECEIVED", "REASON"]);
    for source in &status.sources {
        let received = source.received.to_string();
        let cells = [cell(Some(&source.name)), source.state.clone(), received, cell(source.reason.as_deref())];
        sources.row(cells, out)?;
    }
    sources.finish(out)?;
    writeln!(out)?;
    let mut sinks = Table::new(["SINK", "STATE", "DELIVERED", "IN FLIGHT", "SPOOLED", "BYTES"]);
    for sink in &status.sinks {
        let [delivered, in_flight, spooled, bytes] =
            [sink.delivered, sink.in_flight, sink.spooled, sink.bytes].map(|number| number.to_string());
        sinks.row([cell(Some(&sink.name)), sink.state.clone(), delivered, in_flight, spooled, bytes], out)?;
    }
    sinks.finish(out)?;
    let (spool, letters) = (&status.spool, &status.dead_letters);
    writeln!(out, "\nspool: {}, {} of {} bytes", counted(spool.deliveries, "delivery"), spool.bytes, spool.max_bytes)?;
    if spool.orphans > 0 {
        writeln!(out, "orphans: {}; see `regards-relay spool`", counted(spool.orphans, "delivery"))?;
    }
    if let Some(problem) = &spool.problem {
        writeln!(out, "nothing can be stored: {}", crate::telemetry::printable(problem))?;
    }
    let most = letters.max_bytes.map_or_else(String::new, |most| format!(" of {most}"));
    writeln!(out, "dead letters: {}, {}{most} bytes", letters.count, letters.bytes)?;
    if !status.jobs.is_empty() {
        writeln!(out)?;
    }
    show_jobs(&status.jobs, out)
}

fn show_jobs(jobs: &[JobLine], out: &mut impl Write) -> anyhow::Result<()> {
    let mut table = Table::new(["JOB", "KIND", "DONE", "TOTAL", "SECONDS"]);
    for job in jobs {
        let [id, done, total, seconds] = [job.id, job.done, job.total, job.seconds].map(|number| number.to_string());
        table.row([id, cell(Some(&job.kind)), done, total, seconds], out)?;
    }
    table.finish(out)?;
    Ok(())
}

/// In the two largest units that it has.
fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

fn status(place: &Place) -> anyhow::Result<Status> {
    match ask(place, |spool| Request::Status { spool })? {
        Asked::Answered(Answer::Status(status)) => Ok(*status),
        Asked::Answered(other) => Err(unexpected(&other)),
        Asked::Nobody => Err(nobody(place)),
    }
}

fn nobody(place: &Place) -> anyhow::Error {
    anyhow!(
        "no relay runs with the spool {} and the data directory {}",
        place.spool.display(),
        place.data_dir.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_shown_in_its_largest_units() {
        let shown = [0, 59, 61, 3_600, 90_061].map(duration);
        assert_eq!(shown, ["0 s", "59 s", "1 min 1 s", "1 h 0 min", "1 d 1 h"]);
    }
}
