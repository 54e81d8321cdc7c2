//! A file that a spool is moved from or to.

use std::path::{Path, PathBuf};

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{OptionalExtension, ToSql, params_from_iter};

use super::corruption;
use super::database::{Database, MOVED};
use super::lock::Lock;
use crate::clock::ClockBase;
use crate::spool::SpoolError;
use crate::spool::instances::hostname;
use crate::spool::reader::{PAGE_BYTES, PAGE_ROWS};
use crate::spool::transfer::{Row, RowCounts, Table, Value};

/// An unfinished copy has the name of the file with this at its end.
const COPY: &str = ".incoming";

/// Nobody else writes to the file meanwhile.
pub(in crate::spool) struct SqliteSide {
    path: PathBuf,
    /// None: a copy that is not begun.
    database: Option<Database>,
    _lock: Lock,
}

impl SqliteSide {
    /// A spool that is there.
    pub(in crate::spool) fn open_existing(path: &Path) -> Result<Self, SpoolError> {
        if !path.try_exists().map_err(|error| SpoolError::io(path, "the spool can't be read", error))? {
            let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(SpoolError::io(path, "there is no spool to move", missing));
        }
        let path = Database::locate(path)?;
        let lock = Lock::take(&path)?;
        let was_left_open = corruption::was_left_open(&path);
        let database = Database::open_even_if_moved(&path)?;
        if was_left_open {
            corruption::check_integrity(&database, &path)?;
        }
        Ok(Self { path, database: Some(database), _lock: lock })
    }

    /// A copy that will be a spool at that path. A spool that is there already must be empty, or have been moved away.
    pub(in crate::spool) fn new_copy(path: &Path) -> Result<Self, SpoolError> {
        let path = Database::locate(path)?;
        let lock = Lock::take(&path)?;
        Ok(Self { path, database: None, _lock: lock })
    }

    /// Begins the copy anew: what an interrupted move has left of it is removed.
    pub(in crate::spool) fn begin(mut self) -> Result<Self, SpoolError> {
        if self.path.exists() {
            self.database = Some(Database::open_even_if_moved(&self.path)?);
            if self.moved_to()?.is_none() && self.row_counts()? != RowCounts::of([0; 5]) {
                return Err(SpoolError::NotEmpty(self.name()));
            }
        }
        let copy = self.copy();
        remove(&copy)?;
        self.database = Some(Database::open(&copy)?);
        Ok(self)
    }

    fn copy(&self) -> PathBuf {
        let mut copy = self.path.clone().into_os_string();
        copy.push(COPY);
        copy.into()
    }

    /// Its path, with the name of the machine: that of another machine is another file.
    pub(in crate::spool) fn name(&self) -> String {
        format!("{} on {}", self.path.display(), hostname())
    }

    fn database(&self) -> Result<&Database, SpoolError> {
        let closed = || std::io::Error::other("it is not open");
        self.database.as_ref().ok_or_else(|| SpoolError::io(&self.path, "the spool can't be used", closed()))
    }

    fn run<T>(&self, work: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T>) -> Result<T, SpoolError> {
        work(&self.database()?.connection).map_err(SpoolError::sqlite(&self.path))
    }

    pub(in crate::spool) fn moved_to(&self) -> Result<Option<String>, SpoolError> {
        self.database()?.moved_to()
    }

    pub(in crate::spool) fn mark_moved(&self, to: &str) -> Result<(), SpoolError> {
        self.run(|connection| {
            let transaction = connection.unchecked_transaction()?;
            transaction.execute_batch(MOVED)?;
            transaction.execute("INSERT INTO moved (destination) VALUES (?)", [to])?;
            transaction.commit()
        })
    }

    pub(in crate::spool) fn page(&self, table: &Table, after: Option<&Vec<Value>>) -> Result<Vec<Row>, SpoolError> {
        let (name, columns, key) = (table.name, table.names(), table.key_names());
        let after = after.map_or(&[][..], Vec::as_slice);
        let follows = if after.is_empty() {
            String::new()
        } else {
            format!("WHERE ({key}) > ({})", vec!["?"; table.key].join(", "))
        };
        let select = format!("SELECT {columns} FROM {name} {follows} ORDER BY {key} LIMIT {PAGE_ROWS}");
        self.run(|connection| {
            let mut select = connection.prepare_cached(&select)?;
            let mut found = select.query(params_from_iter(after))?;
            let (mut rows, mut bytes) = (Vec::new(), 0);
            while bytes < PAGE_BYTES
                && let Some(row) = found.next()?
            {
                let values: Row =
                    (0..table.columns.len()).map(|column| value(row, column)).collect::<Result<_, _>>()?;
                bytes += values.iter().map(size).sum::<usize>();
                rows.push(values);
            }
            Ok(rows)
        })
    }

    pub(in crate::spool) fn insert(&self, table: &Table, rows: &[Row]) -> Result<(), SpoolError> {
        let insert = format!(
            "INSERT INTO {} ({}) VALUES ({})",
            table.name,
            table.names(),
            vec!["?"; table.columns.len()].join(", ")
        );
        self.run(|connection| {
            let transaction = connection.unchecked_transaction()?;
            {
                let mut insert = transaction.prepare_cached(&insert)?;
                for row in rows {
                    insert.execute(params_from_iter(row))?;
                }
            }
            transaction.commit()
        })
    }

    /// What is in the file.
    pub(in crate::spool) fn row_counts(&self) -> Result<RowCounts, SpoolError> {
        let mut counts = [0; 5];
        for (count, table) in counts.iter_mut().zip(RowCounts::tables()) {
            let select = format!("SELECT count(*) FROM {}", table.name);
            let rows: i64 = self.run(|connection| connection.query_row(&select, [], |row| row.get(0)))?;
            *count = u64::try_from(rows).unwrap_or(0);
        }
        Ok(RowCounts::of(counts))
    }

    pub(in crate::spool) fn clock(&self) -> Result<Option<ClockBase>, SpoolError> {
        self.database()?.clock()
    }

    pub(in crate::spool) fn set_clock(&self, clock: Option<ClockBase>) -> Result<(), SpoolError> {
        clock.map_or(Ok(()), |clock| self.database()?.set_clock(clock))
    }

    pub(in crate::spool) fn last_dead_letter(&self) -> Result<i64, SpoolError> {
        Ok(self.database()?.last_ids()?.0)
    }

    pub(in crate::spool) fn set_last_dead_letter(&self, last: i64) -> Result<(), SpoolError> {
        self.run(|connection| {
            let known = connection
                .query_row("SELECT seq FROM sqlite_sequence WHERE name = 'dead_letters'", [], |row| {
                    row.get::<_, i64>(0)
                })
                .optional()?;
            let set = match known {
                Some(_) => "UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'dead_letters'",
                None => "INSERT INTO sqlite_sequence (name, seq) VALUES ('dead_letters', ?)",
            };
            connection.execute(set, [last]).map(drop)
        })
    }

    pub(in crate::spool) fn repair_heads(&self) -> Result<(), SpoolError> {
        self.database()?.repair_heads().map(drop)
    }
}

/// Gives a complete copy the name of the spool. Returns what is in the spool.
pub(in crate::spool) fn finish_file(mut side: SqliteSide, from: &str) -> Result<RowCounts, SpoolError> {
    let copy = side.copy();
    side.database = None;
    if copy.exists() {
        // A file that is renamed must have no log beside it.
        Database::open(&copy)?.checkpoint()?;
        remove(&side.path)?;
        let failed = |error| SpoolError::io(&copy, "the copy can't be renamed", error);
        std::fs::rename(&copy, &side.path).map_err(failed)?;
        let directory = side.path.parent().unwrap_or(Path::new("."));
        std::fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)?;
    }
    let database = Database::open_even_if_moved(&side.path)?;
    if let Some(to) = database.moved_to()? {
        // It was moved back since.
        return Err(SpoolError::MovedTo { spool: side.name(), to });
    }
    side.database = Some(database);
    tracing::debug!(file = %side.path.display(), "the spool was moved from {from}");
    side.row_counts()
}

/// Removes a file of SQLite with what lies beside it.
fn remove(path: &Path) -> Result<(), SpoolError> {
    for end in ["-wal", "-shm", ""] {
        let mut file = path.as_os_str().to_owned();
        file.push(end);
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(SpoolError::io(path, "the file can't be removed", error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn value(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Value> {
    Ok(match row.get_ref(column)? {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Blob(bytes) => Value::Bytes(bytes.to_vec()),
        text => Value::Text(text.as_str()?.to_owned()),
    })
}

fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Integer(_) => size_of::<i64>(),
        Value::Text(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}
