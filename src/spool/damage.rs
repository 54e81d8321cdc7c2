//! A file that is damaged: how that is found out, and how it is set aside where the configuration says so.

use std::fs::File;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::database::{Database, SpoolError};
use crate::clock::system_time;

/// What SQLite keeps beside its file, by what is added to the file's name.
const LOG: &str = "-wal";
const INDEX: &str = "-shm";

/// Whether who had the file last ended without closing it: a clean end leaves no log behind. To be asked before it is opened.
pub(super) fn was_left_open(path: &Path) -> bool {
    beside(path, LOG).metadata().is_ok_and(|log| log.len() > 0)
}

/// Reads every page of the file, in the time that takes. (`quick_check` leaves out only whether indexes have what their tables
/// have, which a torn page shows all the same.)
pub(super) fn examine(database: &Database, path: &Path) -> Result<(), SpoolError> {
    let found: String = database
        .connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(SpoolError::sqlite(path))?;
    if found == "ok" { Ok(()) } else { Err(SpoolError::Corrupt { path: path.to_owned(), found }) }
}

/// Renames a file that nobody has open, so that a new one can take its place; says to what.
pub(super) fn set_aside(path: &Path) -> Result<PathBuf, SpoolError> {
    let failed = |cause| SpoolError::io(path, "the damaged spool can't be set aside", cause);
    let now = Timestamp::try_from(system_time()).unwrap_or_default();
    let aside = beside(path, &format!(".corrupt-{}", now.strftime("%Y%m%dT%H%M%S%.3fZ")));
    // The log first: beside a new file it would be taken for that one's.
    for part in [LOG, INDEX, ""] {
        match std::fs::rename(beside(path, part), beside(&aside, part)) {
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {}
            renamed => renamed.map_err(failed)?,
        }
    }
    if let Some(directory) = path.parent() {
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)?;
    }
    Ok(aside)
}

fn beside(path: &Path, added: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(added);
    name.into()
}
