//! The SQLite file: its settings, its versions, and what is wrong when it can't be used.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::disk::Room;
use super::network;
use super::old_sizes::OldSizes;
use crate::failpoints::Failpoint;

/// `application_id` of our files: `RgRl`.
const APPLICATION_ID: i64 = 0x5267_526c;

/// What brings a file from one version to the next; the file's `user_version` is how many of them it has seen. Only ever
/// added to.
const MIGRATIONS: &[&str] = &[
    include_str!("schema/1_dead_letters.sql"),
    include_str!("schema/2_deliveries.sql"),
    include_str!("schema/3_heads.sql"),
    include_str!("schema/4_batch.sql"),
    include_str!("schema/5_refusals.sql"),
    include_str!("schema/6_clock.sql"),
    include_str!("schema/7_sizes.sql"),
];

/// How long to wait for a lock that another process holds on the file. Only a person with a tool of their own can: readers
/// hold none in WAL mode.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// The write-ahead log is cut back to this after a checkpoint, in bytes. Keys are hashes: each delivery changes another page of their
/// index, and the longer the log, the more changes of a page are copied into the file at once.
const WAL_LIMIT: i64 = 64 * 1024 * 1024;
/// So many pages in the log are copied into the file: what the log may have.
const WAL_PAGES: i64 = WAL_LIMIT / 4_096;
/// What SQLite may keep in memory of the file, in KiB.
const CACHE_KIB: i64 = 16 * 1024;

const MAKE_ROOM: &str = " (make room on its disk)";

/// A spool that can't be used: what happened to which file, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// Another process owns it.
    #[error("the spool {} is in use by {}: only one relay can have it; stop that one, or give this one another `spool.path` or data directory", .path.display(), holder(*.pid))]
    Held {
        /// The SQLite file.
        path: PathBuf,
        /// Who, where it can be told.
        pid: Option<u32>,
    },
    /// It was written by a later version of the relay.
    #[error("the spool {} was written by a newer regards-relay (its schema is version {version}, this one knows up to {known}): run that version, or give this one another `spool.path`", .path.display())]
    Newer {
        /// The SQLite file.
        path: PathBuf,
        /// Its version.
        version: i64,
        /// Ours.
        known: i64,
    },
    /// The file is something else.
    #[error("{} is not a spool of regards-relay: move it away, or name another file in `spool.path`", .0.display())]
    Foreign(PathBuf),
    /// It lies where it would not be safe.
    #[error("the spool {} lies on a network file system ({kind}), where it could be damaged: put it on a local disk with `spool.path` or the data directory", .path.display())]
    Network {
        /// The SQLite file.
        path: PathBuf,
        /// The kernel's name for the file system.
        kind: String,
    },
    /// The system says no.
    #[error("{}: {what}: {cause}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What could not be done.
        what: &'static str,
        /// Why.
        cause: std::io::Error,
    },
    /// What SQLite reads of it can't be.
    #[error("the spool {} is damaged ({found}): what can be saved of it, `sqlite3 {} .recover` prints; move it away together with its `-wal`, and a new one is begun, or let the relay do so with `spool: {{ on_corrupt: quarantine }}`", .path.display(), .path.display())]
    Corrupt {
        /// The SQLite file.
        path: PathBuf,
        /// What was found.
        found: String,
    },
    /// SQLite says no.
    #[error("the spool {} can't be used: {cause}{advice}", .path.display())]
    Sqlite {
        /// The SQLite file.
        path: PathBuf,
        /// Why.
        cause: rusqlite::Error,
        /// What to do about it, in parentheses, where that can be told.
        advice: &'static str,
    },
    /// The file was moved, deleted or replaced while it was open: what is written to it would be lost.
    #[error("the spool {} was moved or deleted while the relay uses it", .0.display())]
    Moved(PathBuf),
}

impl SpoolError {
    pub(super) fn io(path: &Path, what: &'static str, cause: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), what, cause }
    }

    pub(super) fn sqlite(path: &Path) -> impl FnOnce(rusqlite::Error) -> Self + use<> {
        let path = path.to_owned();
        |cause| match cause.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt) => Self::Corrupt { path, found: cause.to_string() },
            _ => Self::Sqlite { advice: advice(&cause, &path), path, cause },
        }
    }

    /// Another program holds a lock on the file.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self, Self::Sqlite { cause, .. } if cause.sqlite_error_code() == Some(ErrorCode::DatabaseBusy))
    }
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("the process {pid}"))
}

fn advice(cause: &rusqlite::Error, path: &Path) -> &'static str {
    match cause.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => MAKE_ROOM,
        // SQLite tells a full disk by its name only where it writes the file or its log, not where it opens them.
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) if Room::of(path) == Room::None => MAKE_ROOM,
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            " (the relay's user must be able to write to the file and to its directory)"
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => " (another program holds a lock on it)",
        Some(ErrorCode::SystemIoFailure) => " (look at the state of its disk)",
        _ => "",
    }
}

/// The file as a writer sees it.
#[derive(Debug)]
pub(super) struct Database {
    pub(super) connection: Connection,
    pub(super) old_sizes: OldSizes,
    path: PathBuf,
    /// Device and inode: whether the name still means the file that is open.
    identity: (u64, u64),
}

impl Database {
    /// Makes sure that the directory of `path` exists, and says where the file really lies: its lock must be found by whoever
    /// comes by another name.
    pub(super) fn locate(path: &Path) -> Result<PathBuf, SpoolError> {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|cause| SpoolError::io(directory, "the directory of the spool can't be created", cause))?;
        let unusable = |cause| SpoolError::io(path, "the spool can't be used", cause);
        match path.canonicalize() {
            Ok(real) => Ok(real),
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
                let name = path.file_name().ok_or_else(|| unusable(std::io::Error::other("it is a directory")))?;
                Ok(directory.canonicalize().map_err(unusable)?.join(name))
            }
            Err(cause) => Err(unusable(cause)),
        }
    }

    /// Opens the file to write, and creates it if it isn't there.
    pub(super) fn open(path: &Path) -> Result<Self, SpoolError> {
        if let Some(kind) = path.parent().and_then(network::file_system) {
            return Err(SpoolError::Network { path: path.to_owned(), kind });
        }
        let identity = create(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(SpoolError::sqlite(path))?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(SpoolError::sqlite(path))?;
        // Asked before anything is changed: what isn't ours stays as it is.
        let version = version(&connection, path)?;
        configure(&connection).map_err(SpoolError::sqlite(path))?;
        migrate(&connection, version).map_err(SpoolError::sqlite(path))?;
        let old_sizes = OldSizes::read(&connection).map_err(SpoolError::sqlite(path))?;
        let database = Self { connection, old_sizes, path: path.to_owned(), identity };
        database.check_moved()?;
        Ok(database)
    }

    /// Copies the write-ahead log into the file, with an fsync, and empties it.
    ///
    /// After a commit whose fsync failed, the log's pages may be in the system's cache and nowhere else, and a later fsync
    /// would not say so; what is appended after them would be lost with them. The copy is fsynced on its own, so what can be
    /// read afterwards is on the disk, and the log begins anew.
    pub(super) fn checkpoint(&self) -> Result<(), SpoolError> {
        let busy: i64 = self
            .connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
            .map_err(SpoolError::sqlite(&self.path))?;
        if busy != 0 {
            let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
            let cause = rusqlite::Error::SqliteFailure(code, Some("a reader holds up its log".to_owned()));
            return Err(SpoolError::sqlite(&self.path)(cause));
        }
        Ok(())
    }

    /// Where it lies.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the path still leads to the open file.
    pub(super) fn check_moved(&self) -> Result<(), SpoolError> {
        match std::fs::metadata(&self.path) {
            Ok(now) if (now.dev(), now.ino()) == self.identity => Ok(()),
            _ => Err(SpoolError::Moved(self.path.clone())),
        }
    }
}

/// Creates the file where there is none, readable by its owner only; says which file it is.
fn create(path: &Path) -> Result<(u64, u64), SpoolError> {
    let failed = |cause| SpoolError::io(path, "the spool can't be opened", cause);
    let (file, is_new) = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => (file, true),
        Err(cause) if cause.kind() == std::io::ErrorKind::AlreadyExists => {
            (OpenOptions::new().read(true).write(true).open(path).map_err(failed)?, false)
        }
        Err(cause) => return Err(failed(cause)),
    };
    let metadata = file.metadata().map_err(failed)?;
    if metadata.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600)).map_err(failed)?;
    }
    if is_new && let Some(directory) = path.parent() {
        // The file's name must survive a crash as its content does; SQLite sees to its log's.
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)?;
    }
    Ok((metadata.dev(), metadata.ino()))
}

/// The version of a file that is ours; a new one has 0.
fn version(connection: &Connection, path: &Path) -> Result<i64, SpoolError> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let ask = || -> rusqlite::Result<_> {
        let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        Ok((pragma("application_id")?, pragma("user_version")?, tables))
    };
    let (application, version, tables) = match ask() {
        Err(cause) if cause.sqlite_error_code() == Some(ErrorCode::NotADatabase) => {
            return Err(SpoolError::Foreign(path.to_owned()));
        }
        asked => asked.map_err(SpoolError::sqlite(path))?,
    };
    let is_empty = application == 0 && version == 0 && tables == 0;
    if application != APPLICATION_ID && !is_empty {
        return Err(SpoolError::Foreign(path.to_owned()));
    }
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    if version > known {
        return Err(SpoolError::Newer { path: path.to_owned(), version, known });
    }
    Ok(version)
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    // Only an empty file can be given it, and only before it has a log.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN),
            Some(format!("its journal mode is {mode} and can't be made WAL")),
        ));
    }
    // Otherwise a statement is compiled anew for each value that might have given it another plan, at twice its cost.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // Each commit is fsynced before it returns.
    let synchronous = if Failpoint::NoSync.is_enabled() { "OFF" } else { "FULL" };
    connection.pragma_update(None, "synchronous", synchronous)?;
    // On macOS an fsync stays in the disk's cache without these; elsewhere they do nothing.
    connection.pragma_update(None, "fullfsync", true)?;
    connection.pragma_update(None, "checkpoint_fullfsync", true)?;
    connection.pragma_update(None, "journal_size_limit", WAL_LIMIT)?;
    // Rows are found by the hash of their key, all over the file: a page is written and changed again many times before it has
    // to leave memory, and before it has to leave the log.
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.pragma_update(None, "wal_autocheckpoint", WAL_PAGES)
}

fn migrate(connection: &Connection, version: i64) -> rusqlite::Result<()> {
    let seen = usize::try_from(version).unwrap_or(usize::MAX);
    for (migration, number) in MIGRATIONS.iter().zip(1_i64..).skip(seen) {
        let transaction = connection.unchecked_transaction()?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", number)?;
        transaction.commit()?;
    }
    Ok(())
}

/// The file as a reader beside a running relay sees it; `None`: there is no file, or nothing was ever stored in it.
pub(super) fn open_to_read(path: &Path) -> Result<Option<Connection>, SpoolError> {
    match std::fs::metadata(path) {
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(SpoolError::io(path, "the spool can't be read", cause)),
        Ok(metadata) if metadata.len() == 0 => return Ok(None),
        Ok(_) => {}
    }
    let open = |flags| {
        let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
            .map_err(SpoolError::sqlite(path))?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(SpoolError::sqlite(path))?;
        connection.pragma_update(None, "query_only", true).map_err(SpoolError::sqlite(path))?;
        let version = version(&connection, path)?;
        Ok((connection, version))
    };
    let (connection, version) = match open(OpenFlags::SQLITE_OPEN_READ_ONLY) {
        // A crash left a transaction half done, and only who may write can undo it.
        Err(SpoolError::Sqlite { cause, .. }) if cause.sqlite_error_code() == Some(ErrorCode::ReadOnly) => {
            open(OpenFlags::SQLITE_OPEN_READ_WRITE)?
        }
        end => end?,
    };
    // A file that was only just created has no tables yet.
    Ok((version > 0).then_some(connection))
}

#[cfg(test)]
mod tests {
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
        assert_eq!(pragma(&database, "user_version"), 7);
        let mode: String = database.connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        assert_eq!(mode, "wal");
        for beside in ["spool.db-wal", "spool.db-shm"] {
            assert_eq!(path.with_file_name(beside).metadata().unwrap().mode() & 0o777, 0o600, "{beside}");
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_closed_to_them() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("spool.db");
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        Database::open(&path).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_newer_file_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("spool.db");
        let database = Database::open(&path).unwrap();
        database.connection.pragma_update(None, "user_version", 99).unwrap();
        drop(database);
        let refused = Database::open(&path).unwrap_err().to_string();
        assert!(
            refused.contains("newer regards-relay (its schema is version 99, this one knows up to 7)"),
            "{refused}"
        );
        assert!(matches!(open_to_read(&path), Err(SpoolError::Newer { version: 99, .. })));
    }

    #[test]
    fn what_is_not_ours_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let other = directory.path().join("other.db");
        Connection::open(&other).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
        let before = std::fs::read(&other).unwrap();
        assert!(matches!(Database::open(&other), Err(SpoolError::Foreign(_))));
        assert_eq!(std::fs::read(&other).unwrap(), before);

        let text = directory.path().join("text.db");
        std::fs::write(&text, "not a database, but long enough to be looked at as one\n".repeat(100)).unwrap();
        assert!(matches!(Database::open(&text), Err(SpoolError::Foreign(_))));
    }

    #[test]
    fn a_transaction_that_a_crash_left_half_done_is_undone_to_read() {
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
    fn a_file_that_was_replaced_is_noticed() {
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
    fn another_name_for_the_same_file_leads_to_the_same_place() {
        let directory = tempfile::tempdir().unwrap();
        let real = Database::locate(&directory.path().join("spool.db")).unwrap();
        Database::open(&real).unwrap();
        let link = directory.path().join("link.db");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert_eq!(Database::locate(&link).unwrap(), real);
    }
}
