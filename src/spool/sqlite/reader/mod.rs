//! Reads the file while a relay may be running, in transactions so short that they never delay its writer.

mod backlog;
mod dead_letters;
mod filter;
mod requests;

pub(in crate::spool) use dead_letters::SqliteDeadLetters;

use std::path::PathBuf;

use rusqlite::Connection;

use super::database::open_to_read;
use crate::spool::SpoolError;

#[derive(Debug, Clone)]
pub(in crate::spool) struct SqliteReader {
    path: PathBuf,
}

impl SqliteReader {
    pub(in crate::spool) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(in crate::spool) fn exists(&self) -> Result<bool, SpoolError> {
        self.path.try_exists().map_err(|error| SpoolError::io(&self.path, "the spool can't be read", error))
    }

    /// The name of the spool; none if there is no file.
    pub(in crate::spool) fn name(&self) -> Option<String> {
        Some(self.path.canonicalize().ok()?.display().to_string())
    }

    /// None: there is no file, or nothing was ever stored in it.
    fn open(&self) -> Result<Option<Connection>, SpoolError> {
        open_to_read(&self.path)
    }

    /// `empty` if nothing was ever stored.
    fn read<T>(&self, empty: T, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, SpoolError> {
        let Some(connection) = self.open()? else { return Ok(empty) };
        read(&connection).map_err(SpoolError::sqlite(&self.path))
    }
}
