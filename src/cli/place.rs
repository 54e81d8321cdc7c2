//! Which relay a command speaks of: where its spool is, as far as its configuration can be read.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::{DEFAULT_CONFIG, Global, WrongInput};
use crate::config::{Config, Options, SpoolConfig, Strictness, unknown_name};
use crate::spool::Subject;

/// The spool's name where no configuration gives it another.
const DEFAULT_SPOOL: &str = "spool.db";

/// Where a relay keeps what, as far as its configuration can be read.
pub(super) struct Place {
    /// The spool's file.
    pub(super) spool: PathBuf,
    /// Where its control socket is.
    pub(super) data_dir: PathBuf,
    /// None: there is none, or it has mistakes.
    pub(super) config: Option<Config>,
}

impl Place {
    /// That of the relay which is asked about.
    pub(super) fn of(global: &Global) -> anyhow::Result<Self> {
        let data_dir = global.data_dir();
        let options = Options::of_process(Strictness::Offline, Some(data_dir.clone()));
        let default = Self { spool: options.data_dir().join(DEFAULT_SPOOL), data_dir, config: None };
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
            Ok((config, _)) => Ok(Self { spool: config.spool.path.clone(), config: Some(config), ..default }),
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

    /// An error where no relay has ever run: what is asked about must be somewhere else.
    pub(super) fn has_spool(&self) -> anyhow::Result<()> {
        if self.spool.try_exists()? {
            return Ok(());
        }
        let (spool, data_dir) = (self.spool.display(), self.data_dir.display());
        Err(anyhow::anyhow!(
            "no relay has run here: there is no spool {spool} (the data directory is {data_dir}); name the relay's file with \
             `--config` and its data directory with `--data-dir`"
        ))
    }

    /// The spool as it is configured.
    pub(super) fn spool_config(&self) -> SpoolConfig {
        self.config.as_ref().map_or_else(|| SpoolConfig::at(self.spool.clone()), |config| config.spool.clone())
    }

    /// An error where the configuration has no such sink or source.
    pub(super) fn knows(&self, subject: &Subject) -> Result<(), WrongInput> {
        let Some(config) = &self.config else { return Ok(()) };
        let (what, name, known): (_, _, Vec<_>) = match subject {
            Subject::Sink(name) => ("sink", name, config.sinks.iter().map(|sink| sink.name.as_str()).collect()),
            Subject::Source(name) => {
                ("source", name, config.sources.iter().map(|source| source.name.as_str()).collect())
            }
        };
        if known.contains(&name.as_str()) {
            return Ok(());
        }
        Err(WrongInput(unknown_name(what, name, &known)))
    }
}
