//! `dead-letters purge`: deletes dead letters, in the running relay or, if none runs, in its spool.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::anyhow;
use serde_json::json;

use super::{FilterArguments, matching};
use crate::cli::client::{Job, JobArguments};
use crate::cli::target::Target;
use crate::cli::{InvalidInput, confirm, plural};
use crate::relay::JobRequest;
use crate::spool::DeadLetters;

#[derive(Debug, clap::Args)]
pub struct Purge {
    #[command(flatten)]
    arguments: FilterArguments,
    /// Only print how many would be purged
    #[arg(long, conflicts_with = "detach")]
    dry_run: bool,
    /// Do not ask for confirmation; needed to purge all dead letters without a terminal
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    job: JobArguments,
}

impl Purge {
    pub(super) fn arguments(&self) -> &FilterArguments {
        &self.arguments
    }

    pub(super) fn run(&self, letters: &DeadLetters, target: &Target, out: &mut impl Write) -> anyhow::Result<ExitCode> {
        let found = matching(letters, target, &self.arguments)?;
        let count = found.iter().map(|part| part.count).sum();
        let what = || format!("delete {} for good", plural(count, "dead letter"));
        if count > 0 && !self.yes && !self.dry_run {
            if !self.arguments.is_filtered() && !std::io::stdin().is_terminal() {
                let error =
                    "nothing was purged: without a filter this deletes all dead letters; add `--yes`, or a filter";
                return Err(InvalidInput(error.to_owned()).into());
            }
            if !confirm(what)? {
                return Err(anyhow!("nothing was purged"));
            }
        }
        let purged = if count == 0 || self.dry_run {
            count
        } else {
            let request = |filter, total| JobRequest::Purge { filter, total };
            let job = Job { parts: super::parts(found, request), unit: "dead letter" };
            let Some(purged) = job.purge(target, &self.job, out)? else { return Ok(ExitCode::SUCCESS) };
            purged
        };
        if self.job.json {
            crate::cli::write_json(&json!({ "purged": purged }), out)?;
        } else {
            let word = if self.dry_run { "would be purged" } else { "purged" };
            writeln!(out, "{} {word}", plural(purged, "dead letter"))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
