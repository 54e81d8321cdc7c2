//! `dead-letters redrive`: delivers dead letters again. If no relay runs, they are spooled for its next start.

use std::io::Write;
use std::process::ExitCode;

use super::{FilterArguments, matching};
use crate::cli::client::{Job, RedeliveryArguments, missing_config};
use crate::cli::plural;
use crate::cli::progress::Progress;
use crate::cli::target::Target;
use crate::relay::{self, JobRequest, RedriveRequest, RedriveResult};
use crate::spool::{Component, DeadLetters};

#[derive(Debug, clap::Args)]
pub struct Redrive {
    #[command(flatten)]
    arguments: FilterArguments,
    /// Deliver them to this sink [default: their own sink, or the routes of the configuration]
    #[arg(long, value_name = "SINK")]
    to: Option<String>,
    #[command(flatten)]
    redelivery: RedeliveryArguments,
}

impl Redrive {
    pub(super) fn arguments(&self) -> &FilterArguments {
        &self.arguments
    }

    pub(super) fn run(&self, letters: &DeadLetters, target: &Target, out: &mut impl Write) -> anyhow::Result<ExitCode> {
        if let Some(to) = &self.to {
            target.require(&Component::Sink(to.clone()))?;
        }
        let found = matching(letters, target, &self.arguments)?;
        let count = found.iter().map(|part| part.count).sum();
        let RedeliveryArguments { rate, dry_run, job: job_arguments, .. } = &self.redelivery;
        let redrive = |filter| RedriveRequest { filter, to: self.to.clone(), rate: *rate };
        let done = if count == 0 {
            RedriveResult::default()
        } else if *dry_run {
            let config = target.config.as_ref().ok_or_else(missing_config)?;
            let mut progress = Progress::new("checked", "dead letter", Some(count));
            let mut all = RedriveResult::default();
            for part in found {
                let before = all.examined();
                let report = |done| progress.tick(before + done);
                all.add(relay::dry_run(config, &target.spool, &redrive(part.filter), report)?);
            }
            all
        } else {
            let what = || format!("redrive {}", plural(count, "dead letter"));
            self.redelivery.confirm(what, "nothing was redriven")?;
            let request = |filter, _| JobRequest::Redrive(redrive(filter));
            let job = Job { parts: super::parts(found, request), unit: "dead letter" };
            let Some(done) = job.redrive(target, job_arguments, out)? else { return Ok(ExitCode::SUCCESS) };
            done
        };
        if job_arguments.json {
            crate::cli::write_json(&done, out)?;
        } else {
            self.write_text(&done, out)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn write_text(&self, done: &RedriveResult, out: &mut impl Write) -> std::io::Result<()> {
        let word = if self.redelivery.dry_run { "would be redriven" } else { "redriven" };
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
