//! Creates, identifies and renames SQLite files.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::clock::system_time;

/// How long to wait for a lock that another process holds on a file. Only a person with a tool of their own holds one: in WAL mode readers
/// hold none.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// The suffixes of the files that SQLite keeps beside its own.
const LOG: &str = "-wal";
const INDEX: &str = "-shm";

/// A kind of SQLite file of the relay.
#[derive(Debug)]
pub struct FileKind {
    /// SQLite's `application_id`.
    pub application_id: i64,
    /// The version of `schema`, SQLite's `user_version`.
    pub version: i64,
    /// The statements that create the tables.
    pub schema: &'static str,
}

/// Why a file can't be read.
#[derive(Debug)]
pub enum OpenError {
    Io(io::Error),
    Sqlite(rusqlite::Error),
    /// It has another version of the schema.
    Version(i64),
    /// It is not a file of this kind.
    Foreign,
}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => Self::Foreign,
            _ => Self::Sqlite(error),
        }
    }
}

impl FileKind {
    /// Whether the file has the schema; an empty file has none yet. Any other file is an error.
    pub fn has_schema(&self, connection: &Connection) -> Result<bool, OpenError> {
        let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        let (application_id, version) = (pragma("application_id")?, pragma("user_version")?);
        match (application_id, version, tables) {
            (id, version, _) if id == self.application_id && version == self.version => Ok(true),
            (id, version, _) if id == self.application_id => Err(OpenError::Version(version)),
            (0, 0, 0) => Ok(false),
            _ => Err(OpenError::Foreign),
        }
    }

    pub fn create_schema(&self, connection: &Connection) -> rusqlite::Result<()> {
        let transaction = connection.unchecked_transaction()?;
        transaction.execute_batch(self.schema)?;
        transaction.pragma_update(None, "application_id", self.application_id)?;
        transaction.pragma_update(None, "user_version", self.version)?;
        transaction.commit()
    }

    /// Opens the file beside a running relay; `None` where there is no file, or nothing was ever stored in it.
    pub fn open_to_read(&self, path: &Path) -> Result<Option<Connection>, OpenError> {
        match std::fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(OpenError::Io(error)),
            Ok(metadata) if metadata.len() == 0 => return Ok(None),
            Ok(_) => {}
        }
        let open = |flags| -> Result<_, OpenError> {
            let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
            connection.busy_timeout(BUSY_TIMEOUT)?;
            connection.pragma_update(None, "query_only", true)?;
            let has_schema = self.has_schema(&connection)?;
            Ok((connection, has_schema))
        };
        let (connection, has_schema) = match open(OpenFlags::SQLITE_OPEN_READ_ONLY) {
            // A crash left an incomplete transaction, and only a process that may write can roll it back.
            Err(OpenError::Sqlite(error)) if error.sqlite_error_code() == Some(ErrorCode::ReadOnly) => {
                open(OpenFlags::SQLITE_OPEN_READ_WRITE)?
            }
            opened => opened?,
        };
        Ok(has_schema.then_some(connection))
    }
}

/// Creates a directory, and those above it, for its owner only, unless it exists.
pub fn create_private_directory(path: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Creates the file if it is missing, readable by its owner only, and returns its device and inode.
pub fn create_private(path: &Path) -> io::Result<(u64, u64)> {
    let (file, is_new) = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => (file, true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            (OpenOptions::new().read(true).write(true).open(path)?, false)
        }
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    if metadata.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    if is_new && let Some(directory) = path.parent() {
        // The name of the file must survive a crash, too. SQLite does this for the name of its log.
        File::open(directory)?.sync_all()?;
    }
    Ok((metadata.dev(), metadata.ino()))
}

/// The log that SQLite keeps beside its file.
#[must_use]
pub fn log_of(path: &Path) -> PathBuf {
    beside(path, LOG)
}

/// Renames a damaged file that no process has open, so that a new one can be created. Returns the new path.
pub fn quarantine(path: &Path) -> io::Result<PathBuf> {
    let now = jiff::Timestamp::try_from(system_time()).unwrap_or_default();
    let quarantined = beside(path, &format!(".corrupt-{}", now.strftime("%Y%m%dT%H%M%S%.3fZ")));
    // The log first: SQLite would take it for the log of a new file.
    for part in [LOG, INDEX, ""] {
        match std::fs::rename(beside(path, part), beside(&quarantined, part)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            renamed => renamed?,
        }
    }
    if let Some(directory) = path.parent() {
        File::open(directory)?.sync_all()?;
    }
    Ok(quarantined)
}

fn beside(path: &Path, added: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(added);
    name.into()
}
