//! `dead-letters purge`: deletes what has been dealt with, in a running relay or, without one, in its spool.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use serde_json::json;

use super::Which;
use crate::admin::control::{self, Answer, Request};
use crate::cli::counted;
use crate::config::{DeadLettersConfig, SpoolConfig};
use crate::spool::{DeadLetters, Filter, Listed, Spool, SpoolError};

/// What the spool gets to close its file.
const CLOSING: Duration = Duration::from_secs(20);

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
    pub(super) fn run(
        &self,
        letters: &DeadLetters,
        spool: &Path,
        data_dir: &Path,
        out: &mut impl Write,
    ) -> anyhow::Result<ExitCode> {
        let (mut count, mut newest) = (0_u64, None);
        letters.list(&self.which.filter(), |letter: Listed| -> Result<(), SpoolError> {
            count += 1;
            newest.get_or_insert(letter.id);
            Ok(())
        })?;
        if count > 0 && !self.yes && std::io::stdin().is_terminal() && !agreed(count)? {
            return Err(anyhow!("nothing was purged"));
        }
        let purged = match newest {
            // What comes meanwhile has been seen by nobody.
            Some(newest) => purge(spool, data_dir, Filter { up_to: Some(newest), ..self.which.filter() })?,
            None => 0,
        };
        if self.json {
            writeln!(out, "{}", json!({ "purged": purged }))?;
        } else {
            writeln!(out, "{} purged", counted(purged, "dead letter"))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn agreed(count: u64) -> std::io::Result<bool> {
    let mut err = std::io::stderr();
    write!(err, "purge {}, with bytes and headers, for good? [y/N] ", counted(count, "dead letter"))?;
    err.flush()?;
    let mut said = String::new();
    std::io::stdin().read_line(&mut said)?;
    Ok(matches!(said.trim(), "y" | "Y" | "yes"))
}

/// By the relay that runs, or in its file if none does.
fn purge(path: &Path, data_dir: &Path, filter: Filter) -> anyhow::Result<u64> {
    let socket = control::socket(data_dir);
    let asked = control::ask(&socket, &Request::Purge { spool: path.canonicalize()?, filter: filter.clone() });
    match asked.with_context(|| format!("the running relay can't be asked at {}", socket.display()))? {
        Some(Answer::Purged(purged)) => return Ok(purged),
        Some(Answer::Failed(why)) => return Err(anyhow!(why)),
        None => {}
    }
    let config = SpoolConfig::at(path.to_owned());
    // Nothing goes but what was asked for.
    let spool = Spool::open(&config, &DeadLettersConfig { keep: None, max_size: u64::MAX })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(async {
        let purged = spool.purge(filter).await;
        spool.close(CLOSING).await;
        purged.map_err(|why| anyhow!(why))
    })
}
