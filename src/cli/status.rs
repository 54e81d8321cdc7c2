//! `status` and `jobs`: the state of the running relay.

use std::io::{BufWriter, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;

use super::client::{request, unexpected};
use super::table::{Table, cell};
use super::target::Target;
use super::{Global, note, plural, write_json};
use crate::admin::control::{Command, Response, Status};
use crate::relay::JobStatus;

const WATCH_PAUSE: Duration = Duration::from_secs(2);
/// The escape sequence that clears a terminal.
const CLEAR: &str = "\x1b[H\x1b[2J";

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Repeat every 2 s until Ctrl-C
    #[arg(long)]
    watch: bool,
    /// Print JSON, one object per line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Jobs {
    #[command(subcommand)]
    command: Option<JobsCommand>,
    /// Print JSON, one object per line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum JobsCommand {
    /// Stop a job; its changes until then are kept
    Stop {
        /// Number of the job, which `jobs` shows
        #[arg(value_name = "N")]
        id: u64,
    },
}

pub fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let target = Target::find(global)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    show(&status(&target)?, arguments.json, &mut out)?;
    out.flush()?;
    if arguments.watch { watch(&target, arguments.json, &mut out) } else { Ok(ExitCode::SUCCESS) }
}

/// Ends when standard output is closed.
fn watch(target: &Target, json: bool, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let clear = if std::io::stdout().is_terminal() && !json { CLEAR } else { "" };
    loop {
        std::thread::sleep(WATCH_PAUSE);
        let status = status(target);
        write!(out, "{clear}")?;
        match status {
            Ok(status) => show(&status, json, out)?,
            // The relay may be restarting.
            Err(error) => note(&format!("{error:#}")),
        }
        out.flush()?;
    }
}

pub fn jobs(global: &Global, arguments: &Jobs) -> anyhow::Result<ExitCode> {
    let target = Target::find(global)?;
    if let Some(JobsCommand::Stop { id }) = arguments.command {
        return match request(&target, Command::StopJob(id))? {
            Some(Response::Done) => Ok(ExitCode::SUCCESS),
            Some(other) => Err(unexpected(&other)),
            None => Err(no_relay(&target)),
        };
    }
    let jobs = status(&target)?.jobs;
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
    writeln!(out, "\nspool: {}, {} of {} bytes", plural(spool.deliveries, "delivery"), spool.bytes, spool.max_bytes)?;
    if spool.orphans > 0 {
        writeln!(out, "orphaned: {}; see `regards-relay spool`", plural(spool.orphans, "delivery"))?;
    }
    if let Some(problem) = &spool.problem {
        writeln!(out, "the spool can't store anything: {}", crate::telemetry::printable(problem))?;
    }
    let most = letters.max_bytes.map_or_else(String::new, |most| format!(" of {most}"));
    writeln!(out, "dead letters: {}, {}{most} bytes", letters.count, letters.bytes)?;
    if !status.jobs.is_empty() {
        writeln!(out)?;
    }
    show_jobs(&status.jobs, out)
}

fn show_jobs(jobs: &[JobStatus], out: &mut impl Write) -> anyhow::Result<()> {
    let mut table = Table::new(["JOB", "KIND", "DONE", "TOTAL", "SECONDS"]);
    for job in jobs {
        let [id, done, total, seconds] = [job.id, job.done, job.total, job.seconds].map(|number| number.to_string());
        table.row([id, cell(Some(&job.kind)), done, total, seconds], out)?;
    }
    table.finish(out)?;
    Ok(())
}

/// In the two largest units.
fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

fn status(target: &Target) -> anyhow::Result<Status> {
    match request(target, Command::Status)? {
        Some(Response::Status(status)) => Ok(*status),
        Some(other) => Err(unexpected(&other)),
        None => Err(no_relay(target)),
    }
}

fn no_relay(target: &Target) -> anyhow::Error {
    anyhow!(
        "no relay runs with the spool {} and the data directory {}",
        target.spool.display(),
        target.data_dir.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_printed_in_its_two_largest_units() {
        let shown = [0, 59, 61, 3_600, 90_061].map(duration);
        assert_eq!(shown, ["0 s", "59 s", "1 min 1 s", "1 h 0 min", "1 d 1 h"]);
    }
}
