//! The journal, and where it is stored.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{PostgresConfig, StoreConfig};
use crate::config::own;

#[derive(Debug, Clone, PartialEq)]
pub struct JournalConfig {
    pub store: JournalStoreConfig,
    pub keep: Duration,
    /// Limit of all records, in bytes.
    pub max_size: u64,
    /// Whether messages are recorded, too.
    pub bodies: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub enum JournalStoreConfig {
    /// A file of this machine.
    Sqlite(PathBuf),
    /// The schema of the spool.
    Postgres(Box<PostgresConfig>),
}

impl JournalStoreConfig {
    /// Its file, if it is one of this machine.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(path) => Some(path),
            Self::Postgres(_) => None,
        }
    }
}

impl fmt::Display for JournalStoreConfig {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => path.display().fmt(to),
            Self::Postgres(postgres) => postgres.fmt(to),
        }
    }
}

impl StoreConfig {
    /// The journal of this spool.
    #[must_use]
    pub fn journal(&self, data_dir: &Path) -> JournalStoreConfig {
        match self {
            Self::Sqlite(_) => JournalStoreConfig::Sqlite(own::journal(data_dir)),
            Self::Postgres(database) => JournalStoreConfig::Postgres(database.clone()),
        }
    }
}
