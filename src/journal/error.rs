//! Why the journal can't be written or read, and what to do about it.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use super::postgres;
use super::sqlite::SCHEMA_VERSION;
use crate::config::JournalStoreConfig;
use crate::postgres::PostgresError;
use crate::storage::OpenError;

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("the journal {} has schema version {version}, and this regards-relay can only use version {SCHEMA_VERSION}", .path.display())]
    SchemaVersion { path: PathBuf, version: i64 },
    #[error("{} is not a journal of regards-relay", .0.display())]
    Foreign(PathBuf),
    #[error("the journal {} lies on a network file system ({kind}), where it could be damaged: put the data directory on a local disk", .path.display())]
    Network { path: PathBuf, kind: String },
    #[error("the journal {} can't be used: {error}", .path.display())]
    Io { path: PathBuf, error: std::io::Error },
    #[error("the journal {journal} is damaged ({found})")]
    Damaged { journal: String, found: String },
    #[error("records can't be compressed: {0}")]
    Compression(std::io::Error),
    #[error("a reader keeps the log of the journal {} from being emptied", .0.display())]
    Busy(PathBuf),
    #[error("the journal {} can't be used: {error}", .path.display())]
    Sqlite { path: PathBuf, error: rusqlite::Error },
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    #[error(
        "the journal {journal} has version {version}, and this regards-relay can only use version {}",
        postgres::VERSION
    )]
    PostgresVersion { journal: String, version: i32 },
}

impl JournalError {
    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<'_> {
        |error| Self::Io { path: path.to_owned(), error }
    }

    pub(super) fn sqlite(path: &Path) -> impl FnOnce(rusqlite::Error) -> Self + use<'_> {
        |error| match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Damaged { journal: path.display().to_string(), found: error.to_string() }
            }
            _ => Self::Sqlite { path: path.to_owned(), error },
        }
    }

    pub(super) fn open(path: &Path) -> impl FnOnce(OpenError) -> Self + use<'_> {
        |error| match error {
            OpenError::Io(error) => Self::Io { path: path.to_owned(), error },
            OpenError::Sqlite(error) => Self::sqlite(path)(error),
            OpenError::Version(version) => Self::SchemaVersion { path: path.to_owned(), version },
            OpenError::Foreign => Self::Foreign(path.to_owned()),
        }
    }

    pub(super) fn no_extent(store: &JournalStoreConfig) -> Self {
        Self::Damaged { journal: store.to_string(), found: "its table `journal` has no row".to_owned() }
    }

    /// The same may succeed later, without a change.
    pub(super) fn is_transient(&self) -> bool {
        matches!(self, Self::Postgres(error) if error.is_transient())
    }

    /// Only a new file can be written: this one is damaged, or another program or version wrote it.
    pub(super) fn needs_new_file(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Foreign(_) | Self::SchemaVersion { .. })
    }
}
