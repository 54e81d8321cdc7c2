//! `spool redrive` and `spool purge`: the ways out of the spool for what waits for a sink that is gone from the rules.

use std::io::Write;
use std::process::ExitCode;

use anyhow::anyhow;
use serde_json::json;

use crate::cli::ask::{How, Work, no_config};
use crate::cli::place::Place;
use crate::cli::{WrongInput, agreed, counted};
use crate::relay::{JobRequest, Redriven};
use crate::spool::{Subject, waits};

/// Whose, where to, and how.
#[derive(Debug, clap::Args)]
pub(super) struct Redrive {
    /// The sink that is gone
    #[arg(long, value_name = "NAME")]
    sink: String,
    /// The sink that gets it, behind what waits for it
    #[arg(long, value_name = "SINK")]
    to: String,
    /// Don't ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    how: How,
}

/// Whose, and how.
#[derive(Debug, clap::Args)]
pub(super) struct Purge {
    /// The sink that is gone
    #[arg(long, value_name = "NAME")]
    sink: String,
    /// Don't ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    how: How,
}

impl Redrive {
    pub(super) fn run(&self, place: &Place, out: &mut impl Write) -> anyhow::Result<ExitCode> {
        place.knows(&Subject::Sink(self.to.clone()))?;
        let count = orphans(place, &self.sink)?;
        if count > 0 && !self.yes && !agreed(|| format!("redrive {}", counted(count, "delivery")))? {
            return Err(anyhow!("nothing was redriven"));
        }
        let done = if count == 0 {
            Redriven::default()
        } else {
            let job = JobRequest::RedriveOrphans { sink: self.sink.clone(), to: self.to.clone() };
            let work = Work { job, total: count, what: "delivery" };
            let Some(done) = work.redrive(place, &self.how, out)? else { return Ok(ExitCode::SUCCESS) };
            done
        };
        if self.how.json {
            crate::cli::write_json(&done, out)?;
        } else {
            writeln!(out, "{} redriven to {}", counted(done.redriven, "delivery"), self.to)?;
            for (why, count) in &done.left {
                writeln!(out, "{} left: {why}", counted(*count, "delivery"))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Purge {
    pub(super) fn run(&self, place: &Place, out: &mut impl Write) -> anyhow::Result<ExitCode> {
        let count = orphans(place, &self.sink)?;
        let what = || format!("purge {}, with bytes and headers, for good", counted(count, "delivery"));
        if count > 0 && !self.yes && !agreed(what)? {
            return Err(anyhow!("nothing was purged"));
        }
        let purged = if count == 0 {
            0
        } else {
            let job = JobRequest::PurgeOrphans { sink: self.sink.clone() };
            let work = Work { job, total: count, what: "delivery" };
            let Some(purged) = work.purge(place, &self.how, out)? else { return Ok(ExitCode::SUCCESS) };
            purged
        };
        if self.how.json {
            crate::cli::write_json(&json!({ "purged": purged }), out)?;
        } else {
            writeln!(out, "{} purged", counted(purged, "delivery"))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// How many deliveries wait for a sink that is gone.
fn orphans(place: &Place, sink: &str) -> anyhow::Result<u64> {
    let config = place.config.as_ref().ok_or_else(no_config)?;
    if config.sinks.iter().any(|there| there.name.as_str() == sink) {
        let line = format!("sink {sink} is in the rules: take it out first, or `pause` it");
        return Err(WrongInput(line).into());
    }
    let waits = waits(&place.spool)?;
    super::knows(place, &waits, sink)?;
    Ok(waits.iter().find(|waits| waits.sink == sink).map_or(0, |waits| waits.count))
}
