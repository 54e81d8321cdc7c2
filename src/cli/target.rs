//! Which relay a command is for: its spool and its data directory, and its configuration as far as that can be read.

use std::path::{Path, PathBuf};

use super::{DEFAULT_CONFIG, Global, InvalidInput, note};
use crate::config::{Config, DEFAULT_SPOOL, JournalStoreConfig, Options, SpoolConfig, Strictness, unknown_name};
use crate::spool::{Component, SpoolReader};

pub(super) struct Target {
    pub(super) spool: SpoolReader,
    pub(super) spool_config: SpoolConfig,
    pub(super) data_dir: PathBuf,
    /// `None` if there is no configuration, or if it has errors.
    pub(super) config: Option<Config>,
}

impl Target {
    pub(super) fn find(global: &Global) -> anyhow::Result<Self> {
        let data_dir = global.data_dir();
        let options = Options::of_process(Strictness::Offline, Some(data_dir.clone()));
        let spool_config = SpoolConfig::at(options.data_dir().join(DEFAULT_SPOOL));
        let default = Self { spool: SpoolReader::new(&spool_config.store), spool_config, data_dir, config: None };
        let file = &global.config;
        if !file.exists() {
            // The default file may be missing, a file that the user named may not.
            if file != Path::new(DEFAULT_CONFIG) {
                let error = format!("there is no {}: name another file with `--config`", file.display());
                return Err(InvalidInput(error).into());
            }
            return Ok(default);
        }
        match Config::load(file, &options) {
            Ok((config, _)) => Ok(Self {
                spool: SpoolReader::new(&config.spool.store),
                spool_config: config.spool.clone(),
                config: Some(config),
                ..default
            }),
            Err(found) => {
                note(&format!(
                    "{} has errors ({}; see `regards-relay check`); using the default spool {}",
                    file.display(),
                    found.errors(),
                    default.spool
                ));
                Ok(default)
            }
        }
    }

    /// The journal of the spool.
    pub(super) fn journal(&self) -> JournalStoreConfig {
        self.spool_config.store.journal(&self.data_dir)
    }

    /// Fails if the spool does not exist: the user has probably named the wrong one.
    pub(super) fn require_spool(&self) -> anyhow::Result<()> {
        if self.spool.exists()? {
            return Ok(());
        }
        let (spool, data_dir) = (&self.spool, self.data_dir.display());
        Err(anyhow::anyhow!(
            "no relay has run here: there is no spool {spool} (the data directory is {data_dir}); name the relay's \
             configuration with `--config` and its data directory with `--data-dir`"
        ))
    }

    /// Fails if the configuration has no such sink or source.
    pub(super) fn require(&self, component: &Component) -> Result<(), InvalidInput> {
        let Some(config) = &self.config else { return Ok(()) };
        let (what, name, known): (_, _, Vec<_>) = match component {
            Component::Sink(name) => ("sink", name, config.sinks.iter().map(|sink| sink.name.as_str()).collect()),
            Component::Source(name) => {
                ("source", name, config.sources.iter().map(|source| source.name.as_str()).collect())
            }
        };
        if known.contains(&name.as_str()) {
            return Ok(());
        }
        Err(InvalidInput(unknown_name(what, name, &known)))
    }
}
