//! `spool redrive` and `spool purge`: the ways out of the spool for what waits for a sink that is gone from the rules.

use std::io::Write;
use std::process::ExitCode;

use anyhow::anyhow;
use serde_json::json;

use crate::admin::control::{Answer, Request};
use crate::cli::ask::{Asked, Spool, ask, unexpected};
use crate::cli::place::Place;
use crate::cli::{WrongInput, agreed, counted};
use crate::config::Config;
use crate::relay::{self, Redriven};
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
    /// One JSON object
    #[arg(long)]
    json: bool,
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
    /// One JSON object
    #[arg(long)]
    json: bool,
}

impl Redrive {
    pub(super) fn run(&self, place: &Place, out: &mut impl Write) -> anyhow::Result<ExitCode> {
        place.knows(&Subject::Sink(self.to.clone()))?;
        let (count, config) = orphans(place, &self.sink)?;
        if count > 0 && !self.yes && !agreed(|| format!("redrive {}", counted(count, "delivery")))? {
            return Err(anyhow!("nothing was redriven"));
        }
        let done = if count == 0 { Redriven::default() } else { self.redrive(place, config)? };
        if self.json {
            crate::cli::write_json(&done, out)?;
        } else {
            writeln!(out, "{} redriven to {}", counted(done.redriven, "delivery"), self.to)?;
            for (why, count) in &done.left {
                writeln!(out, "{} left: {why}", counted(*count, "delivery"))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// By the relay that runs, or in its file if none does.
    fn redrive(&self, place: &Place, config: &Config) -> anyhow::Result<Redriven> {
        let (sink, to) = (&self.sink, &self.to);
        match ask(place, |spool| Request::RedriveOrphans { spool, sink: sink.clone(), to: to.clone() })? {
            Asked::Answered(Answer::Redriven(done)) => Ok(done),
            Asked::Answered(other) => Err(unexpected(&other)),
            Asked::Nobody => {
                Spool::open(place)?.with(async |spool| relay::redrive_orphans(config, spool, sink, to).await)
            }
        }
    }
}

impl Purge {
    pub(super) fn run(&self, place: &Place, out: &mut impl Write) -> anyhow::Result<ExitCode> {
        let (count, config) = orphans(place, &self.sink)?;
        let what = || format!("purge {}, with bytes and headers, for good", counted(count, "delivery"));
        if count > 0 && !self.yes && !agreed(what)? {
            return Err(anyhow!("nothing was purged"));
        }
        let purged = if count == 0 { 0 } else { self.purge(place, config)? };
        if self.json {
            crate::cli::write_json(&json!({ "purged": purged }), out)?;
        } else {
            writeln!(out, "{} purged", counted(purged, "delivery"))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// By the relay that runs, or in its file if none does.
    fn purge(&self, place: &Place, config: &Config) -> anyhow::Result<u64> {
        let sink = &self.sink;
        match ask(place, |spool| Request::PurgeOrphans { spool, sink: sink.clone() })? {
            Asked::Answered(Answer::Purged(purged)) => Ok(purged),
            Asked::Answered(other) => Err(unexpected(&other)),
            Asked::Nobody => Spool::open(place)?.with(async |spool| relay::purge_orphans(config, spool, sink).await),
        }
    }
}

/// How many deliveries wait for a sink that is gone, and the rules that it is gone from.
fn orphans<'a>(place: &'a Place, sink: &str) -> anyhow::Result<(u64, &'a Config)> {
    let config = place.config.as_ref().ok_or_else(|| {
        WrongInput("without its rules it can't be told what is an orphan: name the file with `--config`".to_owned())
    })?;
    if config.sinks.iter().any(|there| there.name.as_str() == sink) {
        let line = format!("sink {sink} is in the rules: take it out first, or `pause` it");
        return Err(WrongInput(line).into());
    }
    let waits = waits(&place.spool)?;
    super::knows(place, &waits, sink)?;
    let count = waits.iter().find(|waits| waits.sink == sink).map_or(0, |waits| waits.count);
    Ok((count, config))
}
