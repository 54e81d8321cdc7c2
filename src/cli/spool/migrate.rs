//! `spool migrate`: moves the spool between a file and a database.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use crate::cli::client::missing_config;
use crate::cli::progress::Progress;
use crate::cli::target::Target;
use crate::cli::{InvalidInput, note, plural};
use crate::config::{DEFAULT_SPOOL, StoreConfig};
use crate::spool::{RowCounts, to_postgres, to_sqlite};

#[derive(Debug, clap::Args)]
pub(super) struct Migrate {
    /// Where to move the spool: into the database that `spool.postgres` names, or from it into a file
    #[arg(long, value_name = "STORE")]
    to: Store,
    /// The file [default: spool.db in the data directory]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Store {
    Postgres,
    Sqlite,
}

impl Migrate {
    pub(super) fn run(&self, target: &Target, out: &mut impl Write) -> anyhow::Result<ExitCode> {
        let config = target.config.as_ref().ok_or_else(missing_config)?;
        let StoreConfig::Postgres(database) = &config.spool.store else {
            let error = "this needs a configuration with `spool.postgres`, which says where the database is: name the file with `--config`";
            return Err(InvalidInput(error.to_owned()).into());
        };
        let file = self.file.clone().unwrap_or_else(|| target.data_dir.join(DEFAULT_SPOOL));
        let mut progress = Progress::new("copied", "row", None);
        let moved = match self.to {
            Store::Postgres => to_postgres(&file, database, |rows| progress.tick(rows))?,
            Store::Sqlite => to_sqlite(&file, database, |rows| progress.tick(rows))?,
        };
        drop(progress);
        let (from, to) = match self.to {
            Store::Postgres => (file.display().to_string(), database.to_string()),
            Store::Sqlite => (database.to_string(), file.display().to_string()),
        };
        let RowCounts { deliveries, dead_letters, requests, states, raised_alerts, was_moved } = moved;
        if was_moved {
            note(&format!("the spool was already moved from {from}; this is what is in {to} now:"));
        }
        if self.json {
            let json = json!({
                "from": from, "to": to, "deliveries": deliveries, "deadLetters": dead_letters,
                "requests": requests, "states": states, "raisedAlerts": raised_alerts,
            });
            crate::cli::write_json(&json, out)?;
        } else {
            writeln!(
                out,
                "{}, {}, {} of alerts, {} of sinks and sources, {}",
                plural(deliveries, "delivery"),
                plural(dead_letters, "dead letter"),
                plural(requests, "request"),
                plural(states, "state"),
                plural(raised_alerts, "raised alert")
            )?;
        }
        if self.to == Store::Sqlite {
            note("to use it, remove `spool.postgres` from the configuration");
        }
        Ok(ExitCode::SUCCESS)
    }
}
