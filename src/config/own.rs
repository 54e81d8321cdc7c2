//! The relay's own files: no file sink may write to them.

use std::path::{Path, PathBuf};

/// The spool's file in the data directory, unless `spool.path` names another.
pub const DEFAULT_SPOOL: &str = "spool.db";

/// The path of the journal in a data directory.
#[must_use]
pub fn journal(data_dir: &Path) -> PathBuf {
    data_dir.join("journal.db")
}

/// The path of the control socket in a data directory.
#[must_use]
pub fn control_socket(data_dir: &Path) -> PathBuf {
    data_dir.join("control.sock")
}

/// The path of a spool's lock: `spool.lock` beside `spool.db`.
#[must_use]
pub fn spool_lock(spool: &Path) -> PathBuf {
    let mut beside = spool.with_extension("lock");
    if beside == spool {
        beside = spool.with_extension("lock.lock");
    }
    beside
}

/// All files of the relay itself. A file beside one of them whose name begins with its name belongs to it (`spool.db-wal`).
pub(super) fn all(data_dir: &Path, spool: Option<&Path>) -> Vec<PathBuf> {
    // Without `.` components, so that paths can be compared.
    let plain = |path: PathBuf| path.components().collect();
    let spool = spool.into_iter().flat_map(|spool| [spool.to_owned(), spool_lock(spool)]);
    spool.chain([journal(data_dir), control_socket(data_dir)]).map(plain).collect()
}

/// Whether `path` is one of these, below one, or a file beside one whose name begins with its name. Case makes no difference, as
/// on some file systems.
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
    fn a_spool_named_like_a_lock_has_another_lock() {
        assert_eq!(spool_lock(Path::new("/d/spool.db")), Path::new("/d/spool.lock"));
        assert_eq!(spool_lock(Path::new("/d/spool.lock")), Path::new("/d/spool.lock.lock"));
    }

    #[test]
    fn own_files_are_recognized_with_any_name_of_the_spool() {
        for spool in ["/data/spool.db", "/data/queue", "/data/x/queue.sqlite", "/data/spool.lock"] {
            let spool = Path::new(spool);
            let own = all(Path::new("/data"), Some(spool));
            let wal = PathBuf::from(format!("{}-wal", spool.display()));
            for path in
                [spool, &spool_lock(spool), &journal(Path::new("/data")), &control_socket(Path::new("/data")), &wal]
            {
                assert!(is_own(path, &own), "{}", path.display());
                assert!(is_own(Path::new(&path.to_string_lossy().to_uppercase().replacen("/DATA", "/data", 1)), &own));
            }
            assert!(!is_own(Path::new("/data/archive.ndjson"), &own));
        }
    }
}
