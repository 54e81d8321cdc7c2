//! The SQLite file: its path, its settings and its schema.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use crate::failpoints::Failpoint;
use crate::spool::SpoolError;
use crate::storage::{BUSY_TIMEOUT, FileKind, create_private, create_private_directory, network_file_system};

pub(in crate::spool) const SCHEMA_VERSION: i64 = 2;

const KIND: FileKind = FileKind {
    // `RgRl`
    application_id: 0x5267_526c,
    version: SCHEMA_VERSION,
    schema: include_str!("schema.sql"),
};

/// The tables that were added to version 1 of the schema.
const ALERT_TABLES: &str = include_str!("alerts.sql");

/// In a spool that was moved away. Its rows are still there, and of no use.
pub(super) const MOVED: &str = "CREATE TABLE moved (destination TEXT NOT NULL) STRICT";

/// The size to which a checkpoint truncates the write-ahead log, in bytes. Keys are hashes, so each delivery changes another page of
/// their index: in a longer log more changes of one page are copied into the file at once.
const WAL_LIMIT: i64 = 64 * 1024 * 1024;
/// A checkpoint starts when the log has this many pages.
const WAL_PAGES: i64 = WAL_LIMIT / 4_096;
/// SQLite's page cache, in KiB.
const CACHE_KIB: i64 = 16 * 1024;

/// The file, opened by its only writer.
#[derive(Debug)]
pub(in crate::spool) struct Database {
    pub(super) connection: Connection,
    path: PathBuf,
    /// Device and inode: they tell whether the path still leads to the open file.
    identity: (u64, u64),
}

impl Database {
    /// Creates the directory of `path` if it is missing, and returns the file's real path: every process has to find the lock
    /// beside it, whatever link it uses.
    pub(in crate::spool) fn locate(path: &Path) -> Result<PathBuf, SpoolError> {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        create_private_directory(directory)
            .map_err(|error| SpoolError::io(directory, "the directory of the spool can't be created", error))?;
        let unusable = |error| SpoolError::io(path, "the spool can't be used", error);
        match path.canonicalize() {
            Ok(real) => Ok(real),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let name = path.file_name().ok_or_else(|| unusable(std::io::Error::other("it is a directory")))?;
                Ok(directory.canonicalize().map_err(unusable)?.join(name))
            }
            Err(error) => Err(unusable(error)),
        }
    }

    /// Opens the file for writing, and creates it if it is missing. Fails if the spool was moved away.
    pub(in crate::spool) fn open(path: &Path) -> Result<Self, SpoolError> {
        let database = Self::open_even_if_moved(path)?;
        check_not_moved(&database.connection, path)?;
        Ok(database)
    }

    pub(super) fn open_even_if_moved(path: &Path) -> Result<Self, SpoolError> {
        if let Some(kind) = path.parent().and_then(network_file_system) {
            return Err(SpoolError::Network { path: path.to_owned(), kind });
        }
        let identity =
            create_private(path).map_err(|error| SpoolError::io(path, "the spool can't be opened", error))?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(SpoolError::sqlite(path))?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(SpoolError::sqlite(path))?;
        // Checked before anything is written: a file that isn't ours stays as it is.
        let has_schema = KIND.has_schema(&connection).map_err(|error| SpoolError::open(path, error))?;
        configure(&connection).map_err(SpoolError::sqlite(path))?;
        if !has_schema {
            KIND.create_schema(&connection).map_err(SpoolError::sqlite(path))?;
        }
        connection.execute_batch(ALERT_TABLES).map_err(SpoolError::sqlite(path))?;
        let database = Self { connection, path: path.to_owned(), identity };
        database.check_moved()?;
        Ok(database)
    }

    /// Copies the write-ahead log into the file, with an fsync, and empties it.
    ///
    /// After a commit whose fsync failed, the log's pages may be only in the system's cache. A later fsync would not report that, and pages
    /// appended after them would be lost, too. The copy has its own fsync: all that can be read afterwards is on disk, and the log starts
    /// again from its beginning.
    pub(super) fn checkpoint(&self) -> Result<(), SpoolError> {
        let busy: i64 = self
            .connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
            .map_err(SpoolError::sqlite(&self.path))?;
        if busy != 0 {
            let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
            let error =
                rusqlite::Error::SqliteFailure(code, Some("a reader blocks the checkpoint of its log".to_owned()));
            return Err(SpoolError::sqlite(&self.path)(error));
        }
        Ok(())
    }

    /// Where the spool was moved to.
    pub(super) fn moved_to(&self) -> Result<Option<String>, SpoolError> {
        moved_to(&self.connection).map_err(SpoolError::sqlite(&self.path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Fails if the path no longer leads to the open file.
    pub(super) fn check_moved(&self) -> Result<(), SpoolError> {
        match std::fs::metadata(&self.path) {
            Ok(now) if (now.dev(), now.ino()) == self.identity => Ok(()),
            _ => Err(SpoolError::Moved(self.path.clone())),
        }
    }
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    // Takes effect only in an empty file, and only before the file has a log.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN),
            Some(format!("its journal mode is {mode} and can't be changed to WAL")),
        ));
    }
    // Without it SQLite compiles a statement again for each value that could lead to another plan, at twice the cost.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // Each commit is fsynced before it returns.
    let synchronous = if Failpoint::NoSync.is_enabled() { "OFF" } else { "FULL" };
    connection.pragma_update(None, "synchronous", synchronous)?;
    // On macOS an fsync stays in the disk's cache without these two; elsewhere they have no effect.
    connection.pragma_update(None, "fullfsync", true)?;
    connection.pragma_update(None, "checkpoint_fullfsync", true)?;
    connection.pragma_update(None, "journal_size_limit", WAL_LIMIT)?;
    // Rows are found by the hash of their key, so their pages are all over the file: with a large cache and a long log, a page is changed
    // many times before it is written.
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.pragma_update(None, "wal_autocheckpoint", WAL_PAGES)
}

/// Opens the file for reading while a relay may be running. `None`: there is no file, or nothing was ever stored in it.
pub(super) fn open_to_read(path: &Path) -> Result<Option<Connection>, SpoolError> {
    let opened = KIND.open_to_read(path).map_err(|error| SpoolError::open(path, error))?;
    if let Some(connection) = &opened {
        check_not_moved(connection, path)?;
    }
    Ok(opened)
}

fn moved_to(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let has_mark = connection.table_exists(None, "moved")?;
    if !has_mark {
        return Ok(None);
    }
    connection.query_row("SELECT destination FROM moved", [], |row| row.get(0)).optional()
}

fn check_not_moved(connection: &Connection, path: &Path) -> Result<(), SpoolError> {
    match moved_to(connection).map_err(SpoolError::sqlite(path))? {
        None => Ok(()),
        Some(to) => Err(SpoolError::MovedTo { spool: path.display().to_string(), to }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn pragma(database: &Database, name: &str) -> i64 {
        database.connection.pragma_query_value(None, name, |row| row.get(0)).unwrap()
    }

    #[test]
    fn a_new_file_is_private_and_durable() {
        let directory = tempfile::tempdir().unwrap();
        let path = Database::locate(&directory.path().join("a/b/spool.db")).unwrap();
        let database = Database::open(&path).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        assert_eq!(path.parent().unwrap().metadata().unwrap().mode() & 0o777, 0o700);
        assert_eq!(pragma(&database, "auto_vacuum"), 2, "incremental");
        assert_eq!(pragma(&database, "synchronous"), 2, "full");
        assert_eq!(pragma(&database, "user_version"), 2);
        let mode: String = database.connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        assert_eq!(mode, "wal");
        for beside in ["spool.db-wal", "spool.db-shm"] {
            assert_eq!(path.with_file_name(beside).metadata().unwrap().mode() & 0o777, 0o600, "{beside}");
        }
    }

    #[test]
    fn a_file_that_others_can_read_becomes_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("spool.db");
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        Database::open(&path).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_with_another_schema_version_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("spool.db");
        for version in [0, 1, 7] {
            Database::open(&path).unwrap().connection.pragma_update(None, "user_version", version).unwrap();
            let before = std::fs::read(&path).unwrap();
            let refused = Database::open(&path).unwrap_err().to_string();
            let expected = format!(
                "the spool {} has schema version {version}, and this regards-relay can only use version 2: run the version of \
                 regards-relay that wrote it, or choose another file with `spool.path`",
                path.display()
            );
            assert_eq!(refused, expected);
            assert!(matches!(open_to_read(&path), Err(SpoolError::SchemaVersion { .. })));
            // Opening a file may count that in its first page.
            assert_eq!(std::fs::read(&path).unwrap()[4_096..], before[4_096..]);
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_file_that_is_no_spool_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let other = directory.path().join("other.db");
        Connection::open(&other).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
        let before = std::fs::read(&other).unwrap();
        assert!(matches!(Database::open(&other), Err(SpoolError::Foreign(_))));
        assert_eq!(std::fs::read(&other).unwrap(), before);

        let text = directory.path().join("text.db");
        std::fs::write(&text, "not a database, but long enough to be read as one\n".repeat(100)).unwrap();
        assert!(matches!(Database::open(&text), Err(SpoolError::Foreign(_))));
    }

    #[test]
    fn a_reader_rolls_back_a_transaction_that_a_crash_left_incomplete() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("spool.db");
        drop(Database::open(&path).unwrap());
        let other = Connection::open(&path).unwrap();
        // As at the very first start, before the journal is a write-ahead log; a small cache writes before the commit.
        let small = "PRAGMA journal_mode = DELETE; PRAGMA cache_size = 2; BEGIN; CREATE TABLE half (done); \
                     WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 5000) \
                     INSERT INTO half SELECT randomblob(100) FROM n";
        other.execute_batch(small).unwrap();
        let crashed = directory.path().join("crashed.db");
        std::fs::copy(&path, &crashed).unwrap();
        std::fs::copy(directory.path().join("spool.db-journal"), directory.path().join("crashed.db-journal")).unwrap();
        let read = open_to_read(&crashed).unwrap().expect("a spool");
        let tables: i64 =
            read.query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'half'", [], |row| row.get(0)).unwrap();
        assert_eq!(tables, 0);
        assert!(read.execute_batch("DELETE FROM dead_letters").is_err(), "reading changes nothing");
    }

    #[test]
    fn a_replaced_file_is_detected() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("spool.db");
        let database = Database::open(&path).unwrap();
        database.check_moved().unwrap();
        std::fs::rename(&path, directory.path().join("old.db")).unwrap();
        assert!(matches!(database.check_moved(), Err(SpoolError::Moved(_))));
        std::fs::write(&path, "").unwrap();
        assert!(matches!(database.check_moved(), Err(SpoolError::Moved(_))));
    }

    #[test]
    fn a_link_leads_to_the_file_itself() {
        let directory = tempfile::tempdir().unwrap();
        let real = Database::locate(&directory.path().join("spool.db")).unwrap();
        Database::open(&real).unwrap();
        let link = directory.path().join("link.db");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert_eq!(Database::locate(&link).unwrap(), real);
    }
}
