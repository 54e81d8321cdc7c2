//! What a configuration is read in: variables, the data directory, and how much has to be there already.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// How much has to be there when the file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strictness {
    /// To run: every variable is set and every file that is named can be read.
    #[default]
    Run,
    /// To look at the rules, perhaps on another machine: what isn't there is a placeholder and a warning.
    Offline,
}

/// What a configuration is read in.
#[derive(Debug, Clone)]
pub struct Options {
    /// How much has to be there.
    pub strictness: Strictness,
    /// The variables that `${…}` can name, and where `REGARDS_RELAY_DATA_DIR` and `STATE_DIRECTORY` are looked up.
    pub variables: BTreeMap<String, String>,
    /// `--data-dir`.
    pub data_dir: Option<PathBuf>,
    /// The name of this machine, for the relay's default name.
    pub host: String,
}

impl Options {
    /// This process' own environment.
    #[must_use]
    pub fn of_process(strictness: Strictness, data_dir: Option<PathBuf>) -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self { strictness, variables, data_dir, host: host() }
    }

    /// Where written paths lie: `--data-dir`, `$REGARDS_RELAY_DATA_DIR`, systemd's `$STATE_DIRECTORY`, else `./data`.
    /// Absolute.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        let variable = |name| self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let named =
            self.data_dir.clone().or_else(|| variable("REGARDS_RELAY_DATA_DIR").map(PathBuf::from)).or_else(|| {
                // systemd separates several by colons; the first is the unit's main one.
                variable("STATE_DIRECTORY").and_then(|list| list.split(':').next()).map(PathBuf::from)
            });
        let path = named.unwrap_or_else(|| PathBuf::from("data"));
        std::path::absolute(&path).unwrap_or(path)
    }
}

/// The host's name, as the kernel has it.
fn host() -> String {
    std::fs::read_to_string(Path::new("/proc/sys/kernel/hostname"))
        .or_else(|_| std::fs::read_to_string(Path::new("/etc/hostname")))
        .ok()
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .or_else(|| std::env::var("HOSTNAME").ok().filter(|name| !name.is_empty()))
        .unwrap_or_else(|| "localhost".to_owned())
}
