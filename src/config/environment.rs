//! What a configuration is read in: variables, where it writes, and how much has to be there already.

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
    /// The variables that `${…}` can name.
    pub variables: BTreeMap<String, String>,
    /// Where written paths lie.
    pub data_dir: PathBuf,
    /// The name of this machine, for the relay's default name.
    pub host: String,
}

impl Options {
    /// This process' own environment; written paths lie in `./data` unless another folder is given.
    #[must_use]
    pub fn of_process(strictness: Strictness, data_dir: Option<PathBuf>) -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let data_dir = data_dir.unwrap_or_else(|| PathBuf::from("data"));
        Self { strictness, variables, data_dir, host: host() }
    }

    /// Where written paths lie, absolute.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        std::path::absolute(&self.data_dir).unwrap_or_else(|_| self.data_dir.clone())
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
