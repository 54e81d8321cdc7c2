//! `dead-letters purge`: deletes what has been dealt with, in a running relay or, without one, in its spool.

use std::io::Write;
use std::process::ExitCode;

use anyhow::anyhow;
use serde_json::json;

use super::{Which, seen};
use crate::admin::control::{Answer, Request};
use crate::cli::ask::{Asked, Spool, ask, unexpected};
use crate::cli::place::Place;
use crate::cli::{agreed, counted};
use crate::spool::{DeadLetters, Filter, Unwanted};

/// Which ones, and how.
#[derive(Debug, clap::Args)]
pub struct Purge {
    #[command(flatten)]
    which: Which,
    /// Don't ask
    #[arg(long)]
    yes: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

impl Purge {
    pub(super) fn run(&self, letters: &DeadLetters, place: &Place, out: &mut impl Write) -> anyhow::Result<ExitCode> {
        let (count, filter) = seen(letters, &self.which)?;
        let what = || format!("purge {}, with bytes and headers, for good", counted(count, "dead letter"));
        if count > 0 && !self.yes && !agreed(what)? {
            return Err(anyhow!("nothing was purged"));
        }
        let purged = if count == 0 { 0 } else { purge(place, filter)? };
        if self.json {
            writeln!(out, "{}", json!({ "purged": purged }))?;
        } else {
            writeln!(out, "{} purged", counted(purged, "dead letter"))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// By the relay that runs, or in its file if none does.
fn purge(place: &Place, filter: Filter) -> anyhow::Result<u64> {
    match ask(place, |spool| Request::Purge { spool, filter: filter.clone() })? {
        Asked::Answered(Answer::Purged(purged)) => Ok(purged),
        Asked::Answered(other) => Err(unexpected(&other)),
        Asked::Nobody => Spool::open(place)?.with(async |spool| spool.purge(Unwanted::Letters(filter)).await),
    }
}
