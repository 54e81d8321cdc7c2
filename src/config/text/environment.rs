//! The environment in which a configuration is read: variables, the data directory, the host.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Whether missing variables and files are errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strictness {
    /// To run: every variable has to be set, and every named file has to be readable.
    #[default]
    Run,
    /// To check the configuration, perhaps on another machine: what is missing becomes a placeholder and a warning.
    Offline,
}

#[derive(Debug, Clone)]
pub struct Options {
    pub strictness: Strictness,
    /// The variables that `${…}` can refer to.
    pub variables: BTreeMap<String, String>,
    /// The data directory: paths that the relay writes to are relative to it.
    pub data_dir: PathBuf,
    /// This machine's name, a part of the relay's default name.
    pub host: String,
}

impl Options {
    /// The environment of this process. The data directory is `./data` unless another one is given.
    #[must_use]
    pub fn of_process(strictness: Strictness, data_dir: Option<PathBuf>) -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let data_dir = data_dir.unwrap_or_else(|| PathBuf::from("data"));
        Self { strictness, variables, data_dir, host: host() }
    }

    /// The data directory as an absolute path.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        std::path::absolute(&self.data_dir).unwrap_or_else(|_| self.data_dir.clone())
    }
}

/// The host name as the kernel knows it, else as the environment does.
fn host() -> String {
    std::fs::read_to_string(Path::new("/proc/sys/kernel/hostname"))
        .or_else(|_| std::fs::read_to_string(Path::new("/etc/hostname")))
        .ok()
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .or_else(|| std::env::var("HOSTNAME").ok().filter(|name| !name.is_empty()))
        .unwrap_or_else(|| "localhost".to_owned())
}
