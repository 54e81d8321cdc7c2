//! Only one process writes to a spool: it holds a lock on a file beside it, which the system releases however the process ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::spool::SpoolError;

/// A process id is shorter than this, in bytes.
const MAX_PID: u64 = 32;

/// The right to write to a spool, until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    // Closing it releases the lock.
    _file: File,
}

impl Lock {
    /// Takes the lock of the spool at `path`, whose directory exists.
    pub(super) fn take(path: &Path) -> Result<Self, SpoolError> {
        let beside = crate::config::spool_lock(path);
        let failed = |error| SpoolError::io(&beside, "the lock of the spool can't be taken", error);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&beside)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // The id is only for the error text. One that can't be read counts as unknown.
                let _ = file.take(MAX_PID).read_to_string(&mut pid);
                return Err(SpoolError::InUse { path: path.to_owned(), pid: pid.trim().parse().ok() });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_names_the_process_that_holds_the_lock() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("spool.db");
        let held = Lock::take(&path).unwrap();
        let Err(SpoolError::InUse { pid, .. }) = Lock::take(&path) else { panic!("the lock was taken twice") };
        assert_eq!(pid, Some(std::process::id()));
        drop(held);
        Lock::take(&path).unwrap();
    }
}
