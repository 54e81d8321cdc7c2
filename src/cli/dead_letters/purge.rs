//! `dead-letters purge`: deletes what has been dealt with, in a running relay or, without one, in its spool.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::anyhow;
use serde_json::json;

use super::{Which, seen};
use crate::cli::ask::{How, Work};
use crate::cli::place::Place;
use crate::cli::{WrongInput, agreed, counted};
use crate::relay::JobRequest;
use crate::spool::DeadLetters;

/// Which ones, and how.
#[derive(Debug, clap::Args)]
pub struct Purge {
    #[command(flatten)]
    which: Which,
    /// Only say how many there are
    #[arg(long, conflicts_with = "detach")]
    dry_run: bool,
    /// Don't ask; needed to purge all dead letters where no person can be asked
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    how: How,
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
        let purged = if count == 0 || self.dry_run {
            count
        } else {
            let job = JobRequest::Purge { filter, total: count };
            let work = Work { job, total: count, what: "dead letter" };
            let Some(purged) = work.purge(place, &self.how, out)? else { return Ok(ExitCode::SUCCESS) };
            purged
        };
        if self.how.json {
            crate::cli::write_json(&json!({ "purged": purged }), out)?;
        } else {
            let word = if self.dry_run { "would be purged" } else { "purged" };
            writeln!(out, "{} {word}", counted(purged, "dead letter"))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
