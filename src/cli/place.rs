//! Which relay a command speaks of: where its spool is, as far as its configuration can be read.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::{DEFAULT_CONFIG, Global, WrongInput};
use crate::config::{Config, Options, Strictness};

/// The spool's name where no configuration gives it another.
const DEFAULT_SPOOL: &str = "spool.db";

/// Where a relay keeps what, as far as its configuration can be read.
pub(super) struct Place {
    /// The spool's file.
    pub(super) spool: PathBuf,
    /// The names of its sinks, where they are known.
    pub(super) sinks: Option<BTreeSet<String>>,
}

impl Place {
    /// That of the relay which is asked about.
    pub(super) fn of(global: &Global) -> anyhow::Result<Self> {
        let options = Options::of_process(Strictness::Offline, Some(global.data_dir()));
        let default = Self { spool: options.data_dir().join(DEFAULT_SPOOL), sinks: None };
        let file = &global.config;
        if !file.exists() {
            // Only the file that nobody named may be missing.
            if file != Path::new(DEFAULT_CONFIG) {
                let line = format!("there is no {}: name another file with `--config`", file.display());
                return Err(WrongInput(line).into());
            }
            return Ok(default);
        }
        match Config::load(file, &options) {
            Ok((config, _)) => {
                let sinks = config.sinks.iter().map(|sink| sink.name.to_string()).collect();
                Ok(Self { spool: config.spool.path, sinks: Some(sinks) })
            }
            Err(found) => {
                let (file, path, errors) = (file.display(), default.spool.display(), found.errors());
                let line =
                    format!("{file} has mistakes ({errors}; see `regards-relay check`), so this looks into {path}");
                // Nobody is there to read it.
                let _ = writeln!(std::io::stderr(), "{line}");
                Ok(default)
            }
        }
    }
}
