//! `status` and `jobs`: what a running relay does now.

use std::io::{BufWriter, Write};
use std::process::ExitCode;

use anyhow::anyhow;

use super::ask::{Asked, ask, unexpected};
use super::place::Place;
use super::table::{Table, cell};
use super::{Global, write_json};
use crate::admin::control::{Answer, Request, Status};
use crate::relay::JobLine;

/// How to show it.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// One JSON object
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

/// Shows sources, sinks and jobs.
pub fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let status = status(&Place::of(global)?)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    if arguments.json {
        write_json(&status, &mut out)?;
    } else {
        let mut sources = Table::new(["SOURCE", "STATE", "REASON"]);
        for source in &status.sources {
            sources.row([cell(Some(&source.name)), source.state.clone(), cell(source.reason.as_deref())], &mut out)?;
        }
        sources.finish(&mut out)?;
        let mut sinks = Table::new(["SINK", "STATE", "SPOOLED", "BYTES"]);
        for sink in &status.sinks {
            let cells = [cell(Some(&sink.name)), sink.state.clone(), sink.spooled.to_string(), sink.bytes.to_string()];
            sinks.row(cells, &mut out)?;
        }
        sinks.finish(&mut out)?;
        show_jobs(&status.jobs, &mut out)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
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

fn show_jobs(jobs: &[JobLine], out: &mut impl Write) -> anyhow::Result<()> {
    let mut table = Table::new(["JOB", "KIND", "SECONDS"]);
    for job in jobs {
        table.row([job.id.to_string(), cell(Some(&job.kind)), job.seconds.to_string()], out)?;
    }
    table.finish(out)?;
    Ok(())
}

fn status(place: &Place) -> anyhow::Result<Status> {
    match ask(place, |spool| Request::Status { spool })? {
        Asked::Answered(Answer::Status(status)) => Ok(status),
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
