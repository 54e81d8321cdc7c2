//! Detects a damaged file.

use std::path::Path;

use super::database::Database;
use crate::spool::SpoolError;
use crate::storage::log_of;

/// Whether the last process that used the file ended without closing it: a clean end leaves no log. To be called before the file is opened.
pub(in crate::spool) fn was_left_open(path: &Path) -> bool {
    log_of(path).metadata().is_ok_and(|log| log.len() > 0)
}

/// Reads every page of the file. (`quick_check` doesn't compare indexes with their tables; it finds torn pages all the same.)
pub(super) fn check_integrity(database: &Database, path: &Path) -> Result<(), SpoolError> {
    let found: String = database
        .connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(SpoolError::sqlite(path))?;
    if found == "ok" { Ok(()) } else { Err(SpoolError::Corrupt { path: path.to_owned(), found }) }
}
