//! The spool, and where it is stored.

use std::fmt;
use std::path::{Path, PathBuf};

use super::PostgresConfig;

#[derive(Debug, Clone, PartialEq)]
pub struct SpoolConfig {
    pub store: StoreConfig,
    /// The largest size of all spooled deliveries, in bytes.
    pub max_size: u64,
    /// The largest share of `max_size` for one sink, in percent.
    pub max_share: u8,
}

impl SpoolConfig {
    /// A spool at that path, with the default settings.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        let store = StoreConfig::Sqlite(SqliteConfig { path, on_corrupt: OnCorrupt::Stop });
        Self { store, max_size: 10 << 30, max_share: 50 }
    }

    /// The largest size of the spooled deliveries of one sink, in bytes.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.max_size / 100 * u64::from(self.max_share)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum StoreConfig {
    Sqlite(SqliteConfig),
    Postgres(Box<PostgresConfig>),
}

impl StoreConfig {
    /// Its file, if it is one of this machine.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(file) => Some(&file.path),
            Self::Postgres(_) => None,
        }
    }
}

impl fmt::Display for StoreConfig {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(file) => file.path.display().fmt(to),
            Self::Postgres(postgres) => postgres.fmt(to),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct SqliteConfig {
    pub path: PathBuf,
    pub on_corrupt: OnCorrupt,
}

/// What happens at start when the file of the spool is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnCorrupt {
    /// The relay ends with an error that says what to do.
    Stop,
    /// The relay renames the file and starts with an empty one.
    Quarantine,
}
