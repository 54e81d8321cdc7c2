//! The files that the relay keeps for itself: no sink may write there, whatever the names are.

use std::path::{Path, PathBuf};

/// The spool's file in the data directory, unless `spool.path` names another.
pub const DEFAULT_SPOOL: &str = "spool.db";

/// Where the control socket of a relay with that data directory is.
#[must_use]
pub fn control_socket(data_dir: &Path) -> PathBuf {
    data_dir.join("control.sock")
}

/// Where the lock of that spool is: `spool.db` has `spool.lock` beside it.
#[must_use]
pub fn spool_lock(spool: &Path) -> PathBuf {
    let mut beside = spool.with_extension("lock");
    if beside == spool {
        beside = spool.with_extension("lock.lock");
    }
    beside
}

/// All of them. What stands beside one under a name that begins alike belongs to it (`spool.db-wal`).
pub(super) fn all(data_dir: &Path, spool: &Path) -> Vec<PathBuf> {
    // Without the `.` that a path may be written with, so that paths can be compared.
    let plain = |path: PathBuf| path.components().collect();
    [spool.to_owned(), spool_lock(spool), control_socket(data_dir)].into_iter().map(plain).collect()
}

/// Whether `path` is one of these, below it, or a file beside it whose name begins with its name. What differs only in case
/// counts: some file systems don't tell.
#[must_use]
pub fn is_own(path: &Path, own: &[PathBuf]) -> bool {
    let path = path.as_os_str().as_encoded_bytes();
    let begins = |own: &PathBuf| {
        let own = own.as_os_str().as_encoded_bytes();
        path.get(..own.len()).is_some_and(|start| start.eq_ignore_ascii_case(own))
    };
    own.iter().any(begins)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spool_that_is_called_as_a_lock_is_has_another_lock() {
        assert_eq!(spool_lock(Path::new("/d/spool.db")), Path::new("/d/spool.lock"));
        assert_eq!(spool_lock(Path::new("/d/spool.lock")), Path::new("/d/spool.lock.lock"));
    }

    #[test]
    fn all_that_is_the_relays_is_its_own_whatever_the_spool_is_called() {
        for spool in ["/data/spool.db", "/data/queue", "/data/x/queue.sqlite", "/data/spool.lock"] {
            let spool = Path::new(spool);
            let own = all(Path::new("/data"), spool);
            let wal = PathBuf::from(format!("{}-wal", spool.display()));
            for path in [spool, &spool_lock(spool), &control_socket(Path::new("/data")), &wal] {
                assert!(is_own(path, &own), "{}", path.display());
                assert!(is_own(Path::new(&path.to_string_lossy().to_uppercase().replacen("/DATA", "/data", 1)), &own));
            }
            assert!(!is_own(Path::new("/data/archive.ndjson"), &own));
        }
    }
}
