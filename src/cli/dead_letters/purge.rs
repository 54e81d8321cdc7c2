//! `dead-letters purge`: deletes what has been dealt with, in a running relay or, without one, in its spool.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::anyhow;
use serde_json::json;

use super::{Which, seen};
use crate::admin::control::{Answer, Request};
use crate::cli::ask::{Asked, Spool, ask, unexpected};
use crate::cli::place::Place;
use crate::cli::{WrongInput, agreed, counted};
use crate::spool::{DeadLetters, Filter, Unwanted};

/// Which ones, and how.
#[derive(Debug, clap::Args)]
pub struct Purge {
    #[command(flatten)]
    which: Which,
    /// Only say how many there are
    #[arg(long)]
    dry_run: bool,
    /// Don't ask; needed to purge all dead letters where no person can be asked
    #[arg(long)]
    yes: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

impl Purge {
    pub(super) fn which(&self) -> &Which {
        &self.which
    }

    pub(super) fn run(&self, letters: &DeadLetters, place: &Place, out: &mut impl Write) -> anyhow::Result<ExitCode> {
        let (count, filter) = seen(letters, &self.which)?;
        let what = || format!("purge {}, with bytes and headers, for good", counted(count, "dead letter"));
        if count > 0 && !self.yes && !self.dry_run {
            if !self.which.is_filtered() && !std::io::stdin().is_terminal() {
                let line =
                    "nothing was purged: without a filter all dead letters go for good, so say `--yes`, or which ones";
                return Err(WrongInput(line.to_owned()).into());
            }
            if !agreed(what)? {
                return Err(anyhow!("nothing was purged"));
            }
        }
        let purged = if count == 0 || self.dry_run { count } else { purge(place, filter)? };
        if self.json {
            crate::cli::write_json(&json!({ "purged": purged }), out)?;
        } else {
            let word = if self.dry_run { "would be purged" } else { "purged" };
            writeln!(out, "{} {word}", counted(purged, "dead letter"))?;
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
