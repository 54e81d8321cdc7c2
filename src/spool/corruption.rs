//! Detects a damaged file, and moves it away if `on_corrupt: quarantine` is set.

use std::fs::File;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::SpoolError;
use super::database::Database;
use crate::clock::system_time;

/// The suffixes of the files that SQLite keeps beside its own.
const LOG: &str = "-wal";
const INDEX: &str = "-shm";

/// Whether the last process that used the file ended without closing it: a clean end leaves no log. To be called before the file is opened.
pub(super) fn was_left_open(path: &Path) -> bool {
    beside(path, LOG).metadata().is_ok_and(|log| log.len() > 0)
}

/// Reads every page of the file. (`quick_check` doesn't compare indexes with their tables; it finds torn pages all the same.)
pub(super) fn check_integrity(database: &Database, path: &Path) -> Result<(), SpoolError> {
    let found: String = database
        .connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(SpoolError::sqlite(path))?;
    if found == "ok" { Ok(()) } else { Err(SpoolError::Corrupt { path: path.to_owned(), found }) }
}

/// Renames a file that no process has open, so that a new one can be created. Returns the new path.
pub(super) fn quarantine(path: &Path) -> Result<PathBuf, SpoolError> {
    let failed = |error| SpoolError::io(path, "the damaged spool can't be renamed", error);
    let now = Timestamp::try_from(system_time()).unwrap_or_default();
    let quarantined = beside(path, &format!(".corrupt-{}", now.strftime("%Y%m%dT%H%M%S%.3fZ")));
    // The log first: SQLite would take it for the log of a new file.
    for part in [LOG, INDEX, ""] {
        match std::fs::rename(beside(path, part), beside(&quarantined, part)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            renamed => renamed.map_err(failed)?,
        }
    }
    if let Some(directory) = path.parent() {
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)?;
    }
    Ok(quarantined)
}

fn beside(path: &Path, added: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(added);
    name.into()
}
