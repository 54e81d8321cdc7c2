//! `dead-letters redrive`: delivers dead letters again. If no relay runs, they are spooled for its next start.

use std::io::Write;
use std::process::ExitCode;

use anyhow::anyhow;

use super::{FilterArguments, matching};
use crate::cli::client::{Job, JobArguments, missing_config};
use crate::cli::progress::Progress;
use crate::cli::target::Target;
use crate::cli::{confirm, plural};
use crate::config;
use crate::relay::{self, JobRequest, RedriveRequest, RedriveResult};
use crate::spool::{Component, DeadLetters};

#[derive(Debug, clap::Args)]
pub struct Redrive {
    #[command(flatten)]
    arguments: FilterArguments,
    /// Deliver them to this sink [default: their own sink, or the routes of the configuration]
    #[arg(long, value_name = "SINK")]
    to: Option<String>,
    /// Rate limit: 10/s, 100/m, 1000/h
    #[arg(long, value_name = "N/s", value_parser = rate)]
    rate: Option<f64>,
    /// Only print what would be redriven
    #[arg(long, conflicts_with = "detach")]
    dry_run: bool,
    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    job: JobArguments,
}

impl Redrive {
    pub(super) fn arguments(&self) -> &FilterArguments {
        &self.arguments
    }

    pub(super) fn run(&self, letters: &DeadLetters, target: &Target, out: &mut impl Write) -> anyhow::Result<ExitCode> {
        if let Some(to) = &self.to {
            target.require(&Component::Sink(to.clone()))?;
        }
        let (count, filter) = matching(letters, &self.arguments)?;
        let redrive = RedriveRequest { filter, to: self.to.clone(), rate: self.rate };
        let what = || format!("redrive {}", plural(count, "dead letter"));
        if count > 0 && !self.dry_run && !self.yes && !confirm(what)? {
            return Err(anyhow!("nothing was redriven"));
        }
        let done = if count == 0 {
            RedriveResult::default()
        } else if self.dry_run {
            let config = target.config.as_ref().ok_or_else(missing_config)?;
            let mut progress = Progress::new("checked", "dead letter", Some(count));
            relay::dry_run(config, &target.spool, &redrive, |done| progress.tick(done))?
        } else {
            let job = Job { request: JobRequest::Redrive(redrive), total: count, unit: "dead letter" };
            let Some(done) = job.redrive(target, &self.job, out)? else { return Ok(ExitCode::SUCCESS) };
            done
        };
        if self.job.json {
            crate::cli::write_json(&done, out)?;
        } else {
            self.write_text(&done, out)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn write_text(&self, done: &RedriveResult, out: &mut impl Write) -> std::io::Result<()> {
        let word = if self.dry_run { "would be redriven" } else { "redriven" };
        writeln!(out, "{} {word}", plural(done.redriven, "dead letter"))?;
        for (sink, count) in &done.sinks {
            writeln!(out, "  {count} to {sink}")?;
        }
        for (error, count) in &done.left {
            writeln!(out, "{} left: {error}", plural(*count, "dead letter"))?;
        }
        Ok(())
    }
}

/// Parses a rate such as `10/s` into a number per second.
pub(in crate::cli) fn rate(text: &str) -> Result<f64, String> {
    config::rate(text).ok_or_else(|| "expected a rate: 10/s, 100/m, 1000/h".to_owned())
}
