//! Why the spool can't be used, and what to do about it.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use super::postgres;
use super::sqlite::SCHEMA_VERSION;
use crate::postgres::PostgresError;
use crate::storage::{DiskSpace, OpenError};

const MAKE_ROOM: &str = " (make room on its disk)";

/// A spool that can't be used: which file, what happened, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    #[error("the spool {} is in use by {}: only one relay can use it; stop that one, or give this one another `spool.path` or data directory", .path.display(), holder(*.pid))]
    InUse {
        path: PathBuf,
        /// The other process, if it is known.
        pid: Option<u32>,
    },
    #[error("the spool {} has schema version {version}, and this regards-relay can only use version {SCHEMA_VERSION}: run the version of regards-relay that wrote it, or choose another file with `spool.path`", .path.display())]
    SchemaVersion { path: PathBuf, version: i64 },
    #[error("{} is not a spool of regards-relay: move it away, or choose another file with `spool.path`", .0.display())]
    Foreign(PathBuf),
    #[error("the spool {} is on a network file system ({kind}), where it could be damaged: put it on a local disk with `spool.path` or the data directory", .path.display())]
    Network {
        path: PathBuf,
        /// The kernel's name for the file system.
        kind: String,
    },
    #[error("{}: {what}: {error}", .path.display())]
    Io {
        path: PathBuf,
        /// What could not be done.
        what: &'static str,
        error: std::io::Error,
    },
    #[error("the spool {spool}: {what}: {error}")]
    Thread {
        spool: String,
        /// What could not be done.
        what: &'static str,
        error: std::io::Error,
    },
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    #[error(
        "the schema {schema} of the database {database} has version {version}, and this regards-relay can only use version {}: run the version \
         of regards-relay that made it, or choose another schema with `spool.postgres.schema`",
        postgres::VERSION
    )]
    PostgresVersion { database: String, schema: String, version: i32 },
    #[error(
        "the spool in schema {schema} of the database {database} is in use by {owner}: only one relay at a time can use it"
    )]
    Owned { database: String, schema: String, owner: String },
    #[error(
        "the spool {spool} was moved to {to}: name that one with `spool` in the configuration, or move it back with `spool migrate`"
    )]
    MovedTo { spool: String, to: String },
    #[error("a move between the spool {spool} and {other} has begun and not ended: run the same `spool migrate` again")]
    HalfMoved { spool: String, other: String },
    #[error("the spool {0} is not empty: a spool can only be moved to where none is")]
    NotEmpty(String),
    #[error("the copy of the spool {from} in {to} is not the same, and is not used ({found}): please report it")]
    CopyDiffers { from: String, to: String, found: String },
    #[error("another relay has taken the spool, or the lease of this one has ended: it writes nothing more")]
    Fenced,
    #[error("the database did not answer in time to a renewal of the spool's lease")]
    LeaseTimeout,
    #[error("there is no connection to the spool's database")]
    NotConnected,
    #[error("the spool {} is damaged ({found}): `sqlite3 {} .recover` prints what can be saved of it; move it away together with its `-wal`, and the relay starts with a new one, or let the relay do so with `spool: {{ on_corrupt: quarantine }}`", .path.display(), .path.display())]
    Corrupt { path: PathBuf, found: String },
    #[error("the spool {} can't be used: {error}{advice}", .path.display())]
    Sqlite {
        path: PathBuf,
        error: rusqlite::Error,
        /// What to do about it, in parentheses, if that is known.
        advice: &'static str,
    },
    /// Data written to a file that was moved, deleted or replaced while it is open would be lost.
    #[error("the spool {} was moved or deleted while the relay uses it", .0.display())]
    Moved(PathBuf),
}

impl SpoolError {
    pub(super) fn io(path: &Path, what: &'static str, error: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), what, error }
    }

    pub(super) fn thread(spool: &str, what: &'static str, error: std::io::Error) -> Self {
        Self::Thread { spool: spool.to_owned(), what, error }
    }

    pub(super) fn sqlite(path: &Path) -> impl FnOnce(rusqlite::Error) -> Self + use<> {
        let path = path.to_owned();
        |error| match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt) => Self::Corrupt { path, found: error.to_string() },
            _ => Self::Sqlite { advice: advice(&error, &path), path, error },
        }
    }

    pub(super) fn open(path: &Path, error: OpenError) -> Self {
        match error {
            OpenError::Io(error) => Self::io(path, "the spool can't be read", error),
            OpenError::Sqlite(error) => Self::sqlite(path)(error),
            OpenError::Version(version) => Self::SchemaVersion { path: path.to_owned(), version },
            OpenError::Foreign => Self::Foreign(path.to_owned()),
        }
    }

    /// Another relay uses the spool: it can be waited for.
    pub(super) fn is_in_use(&self) -> bool {
        matches!(self, Self::InUse { .. } | Self::Owned { .. })
    }

    /// Another machine's relay has the spool: this one stands by for it, and is ready to go on.
    #[must_use]
    pub fn is_standby(&self) -> bool {
        matches!(self, Self::Owned { .. })
    }

    /// Another relay has the spool, or it may be usable later, without a change.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        self.is_in_use() || self.is_transient()
    }

    /// Another transaction creates the same tables at the same time.
    pub(super) fn is_race(&self) -> bool {
        matches!(self, Self::Postgres(error) if error.is_race())
    }

    /// The spool may be usable later, without a change.
    fn is_transient(&self) -> bool {
        match self {
            Self::Postgres(error) => error.is_transient(),
            // The lease ended before the spool was open.
            Self::Fenced => true,
            _ => false,
        }
    }

    /// Another program holds a lock on the file.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self, Self::Sqlite { error, .. } if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy))
    }
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("the process {pid}"))
}

fn advice(error: &rusqlite::Error, path: &Path) -> &'static str {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => MAKE_ROOM,
        // SQLite reports a full disk as such only when it writes the file or its log, not when it opens them.
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) if DiskSpace::of(path) == DiskSpace::None => MAKE_ROOM,
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            " (the relay's user must be able to write to the file and to its directory)"
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => " (another program holds a lock on it)",
        Some(ErrorCode::SystemIoFailure) => " (check the state of its disk)",
        _ => "",
    }
}
