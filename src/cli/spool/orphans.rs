//! `spool redrive` and `spool purge`: what to do with deliveries whose sink is no longer in the configuration.

use std::io::Write;
use std::process::ExitCode;

use anyhow::anyhow;
use serde_json::json;

use crate::cli::client::{Job, JobArguments, JobPart, missing_config};
use crate::cli::target::Target;
use crate::cli::{InvalidInput, confirm, plural};
use crate::relay::{JobRequest, RedriveResult};
use crate::spool::Component;

#[derive(Debug, clap::Args)]
pub(super) struct Redrive {
    /// Sink that is no longer in the configuration
    #[arg(long, value_name = "NAME")]
    sink: String,
    /// Sink that gets the deliveries, after its own backlog
    #[arg(long, value_name = "SINK")]
    to: String,
    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    job: JobArguments,
}

#[derive(Debug, clap::Args)]
pub(super) struct Purge {
    /// Sink that is no longer in the configuration
    #[arg(long, value_name = "NAME")]
    sink: String,
    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    job: JobArguments,
}

impl Redrive {
    pub(super) fn run(&self, target: &Target, out: &mut impl Write) -> anyhow::Result<ExitCode> {
        target.require(&Component::Sink(self.to.clone()))?;
        let count = orphans(target, &self.sink)?;
        if count > 0 && !self.yes && !confirm(|| format!("redrive {}", plural(count, "delivery")))? {
            return Err(anyhow!("nothing was redriven"));
        }
        let done = if count == 0 {
            RedriveResult::default()
        } else {
            let request = JobRequest::RedriveOrphans { sink: self.sink.clone(), to: self.to.clone() };
            let job = Job { parts: JobPart::of_all_shards(target, &request, count)?, unit: "delivery" };
            let Some(done) = job.redrive(target, &self.job, out)? else { return Ok(ExitCode::SUCCESS) };
            done
        };
        if self.job.json {
            crate::cli::write_json(&done, out)?;
        } else {
            writeln!(out, "{} redriven to {}", plural(done.redriven, "delivery"), self.to)?;
            for (error, count) in &done.left {
                writeln!(out, "{} left: {error}", plural(*count, "delivery"))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Purge {
    pub(super) fn run(&self, target: &Target, out: &mut impl Write) -> anyhow::Result<ExitCode> {
        let count = orphans(target, &self.sink)?;
        let what = || format!("delete {} for good", plural(count, "delivery"));
        if count > 0 && !self.yes && !confirm(what)? {
            return Err(anyhow!("nothing was purged"));
        }
        let purged = if count == 0 {
            0
        } else {
            let request = JobRequest::PurgeOrphans { sink: self.sink.clone() };
            let job = Job { parts: JobPart::of_all_shards(target, &request, count)?, unit: "delivery" };
            let Some(purged) = job.purge(target, &self.job, out)? else { return Ok(ExitCode::SUCCESS) };
            purged
        };
        if self.job.json {
            crate::cli::write_json(&json!({ "purged": purged }), out)?;
        } else {
            writeln!(out, "{} purged", plural(purged, "delivery"))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The number of deliveries for `sink`, which must not be in the configuration.
fn orphans(target: &Target, sink: &str) -> anyhow::Result<u64> {
    let config = target.config.as_ref().ok_or_else(missing_config)?;
    if config.sinks.iter().any(|there| there.name.as_str() == sink) {
        let error = format!("sink {sink} is in the configuration: remove it first, or `pause` it");
        return Err(InvalidInput(error).into());
    }
    let backlogs = target.spool.backlogs()?;
    super::require_sink(target, &backlogs, sink)?;
    Ok(backlogs.iter().find(|backlog| backlog.sink == sink).map_or(0, |backlog| backlog.count))
}
