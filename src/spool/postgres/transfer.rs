//! A schema that a spool is moved from or to.

use tokio_postgres::Row as PostgresRow;
use tokio_postgres::types::ToSql;

use super::SUBJECT;
use super::migrate::migrate_even_if_moved;
use super::rows::unsigned;
use super::shard::{Shard, TABLES};
use super::text::{escape, unescape};
use crate::clock::ClockBase;
use crate::config::PostgresConfig;
use crate::postgres::{BlockingConnection, Connection};
use crate::spool::SpoolError;
use crate::spool::reader::{PAGE_BYTES, PAGE_ROWS};
use crate::spool::transfer::{ColumnKind, Row, RowCounts, Table, Value};

/// What is written in the schema about a move, with the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::spool) enum Mark {
    /// The rows are an unfinished copy of the file's.
    Copy(String),
    /// The rows are being copied to the file.
    Source(String),
    /// The rows were moved to the file: those that are still there are of no use.
    Moved(String),
}

impl Mark {
    fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Copy(file) => ("copy", file),
            Self::Source(file) => ("source", file),
            Self::Moved(file) => ("moved", file),
        }
    }

    pub(super) async fn read(connection: &Connection) -> Result<Option<Self>, SpoolError> {
        let rows = connection.rows("SELECT state, other FROM migration", &[]).await?;
        let marks = connection.decode(&rows, |row| {
            let (state, file): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            Ok(match state.as_str() {
                "copy" => Self::Copy(file),
                "source" => Self::Source(file),
                _ => Self::Moved(file),
            })
        })?;
        Ok(marks.into_iter().next())
    }

    /// Fails if there is a mark: no relay may use the spool.
    pub(super) async fn check_absent(connection: &Connection, config: &PostgresConfig) -> Result<(), SpoolError> {
        Self::read(connection).await?.map_or(Ok(()), |mark| Err(mark.error(config)))
    }

    fn error(self, config: &PostgresConfig) -> SpoolError {
        let spool = config.to_string();
        match self {
            Self::Copy(other) | Self::Source(other) => SpoolError::HalfMoved { spool, other },
            Self::Moved(to) => SpoolError::MovedTo { spool, to },
        }
    }
}

pub(in crate::spool) struct PostgresSide {
    config: PostgresConfig,
    connection: BlockingConnection,
}

impl PostgresSide {
    pub(in crate::spool) fn open(config: &PostgresConfig) -> Result<Self, SpoolError> {
        let connection = BlockingConnection::open(config, SUBJECT)?;
        connection.run(async |connection| migrate_even_if_moved(connection, config).await)?;
        Ok(Self { config: config.clone(), connection })
    }

    pub(in crate::spool) fn name(&self) -> String {
        self.config.to_string()
    }

    fn run<T: Send>(
        &self,
        work: impl AsyncFnOnce(&Connection) -> Result<T, SpoolError> + Send,
    ) -> Result<T, SpoolError> {
        self.connection.run(work)
    }

    /// Marks the schema, so that no relay uses it from now on. Fails if one does, or if another move has begun.
    pub(in crate::spool) fn begin(&self, mark: &Mark) -> Result<(), SpoolError> {
        let found = match mark {
            Mark::Copy(_) => self.row_counts()?,
            Mark::Source(_) | Mark::Moved(_) => RowCounts::of([0; 5]),
        };
        self.run(async |connection| {
            connection.batch("BEGIN; LOCK TABLE schema_version IN ACCESS EXCLUSIVE MODE").await?;
            connection.rows("SELECT shard FROM shards FOR UPDATE", &[]).await?;
            let known = Mark::read(connection).await?;
            match (&known, mark) {
                (None, _) if found != RowCounts::of([0; 5]) => return Err(SpoolError::NotEmpty(self.name())),
                (None, _) | (Some(Mark::Moved(_)), Mark::Copy(_)) => {}
                (Some(known), mark) if known == mark => {}
                (Some(known), _) => return Err(known.clone().error(&self.config)),
            }
            let owner = "SELECT coalesce(name, 'another relay') FROM shards LEFT JOIN instances ON instances.id = owner \
                         WHERE owner IS NOT NULL AND expires_at > clock_timestamp() LIMIT 1";
            let owner = connection.rows(owner, &[]).await?;
            if let Some(owner) = connection.decode(&owner, |row| row.try_get::<_, String>(0))?.pop() {
                let (database, schema) = (self.config.database.clone(), self.config.schema.clone());
                return Err(SpoolError::Owned { database, schema, owner });
            }
            // Whoever believes to have a shard can write nothing more.
            connection.execute("UPDATE shards SET owner = NULL, epoch = nextval('epochs')", &[]).await?;
            let (state, file) = mark.parts();
            connection.execute("DELETE FROM migration", &[]).await?;
            connection.execute("INSERT INTO migration (state, other) VALUES ($1, $2)", &[&state, &file]).await?;
            connection.batch("COMMIT").await?;
            Ok(())
        })
    }

    pub(in crate::spool) fn is_marked(&self, mark: &Mark) -> Result<bool, SpoolError> {
        self.run(async |connection| Ok(Mark::read(connection).await?.as_ref() == Some(mark)))
    }

    pub(in crate::spool) fn replace_mark(&self, mark: &Mark, by: &Mark) -> Result<(), SpoolError> {
        let ((state, file), (new_state, new_file)) = (mark.parts(), by.parts());
        let replace = "UPDATE migration SET state = $3, other = $4 WHERE state = $1 AND other = $2";
        self.run(async |connection| {
            connection.execute(replace, &[&state, &file, &new_state, &new_file]).await?;
            Ok(())
        })
    }

    pub(in crate::spool) fn unmark(&self, mark: &Mark) -> Result<(), SpoolError> {
        let (state, file) = mark.parts();
        self.run(async |connection| {
            connection.execute("DELETE FROM migration WHERE state = $1 AND other = $2", &[&state, &file]).await?;
            Ok(())
        })
    }

    pub(in crate::spool) fn clear(&self) -> Result<(), SpoolError> {
        let tables = TABLES.map(|table| format!("all_{table}")).join(", ");
        self.run(async |connection| Ok(connection.batch(&format!("TRUNCATE {tables}")).await?))
    }

    /// Adds rows to the shard of all sources with one queue.
    pub(in crate::spool) fn insert(&self, table: &Table, rows: &[Row]) -> Result<(), SpoolError> {
        // The ids of requests are of a sequence of the database.
        let has_own_ids = table.name == "requests";
        let columns: Vec<_> = table.columns.iter().enumerate().skip(usize::from(has_own_ids)).collect();
        let names: Vec<_> = columns.iter().map(|(_, (name, _))| *name).collect();
        let arrays = columns.iter().zip(1..).map(|((_, (_, kind)), place)| format!("${place}::{}[]", type_of(*kind)));
        let insert = format!(
            "INSERT INTO {} ({}) SELECT * FROM unnest({})",
            table.name,
            names.join(", "),
            arrays.collect::<Vec<_>>().join(", ")
        );
        let values: Vec<_> = columns.iter().map(|(place, (_, kind))| array(rows, *place, *kind)).collect();
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| -> &(dyn ToSql + Sync) { &**value }).collect();
        self.run(async |connection| {
            connection.execute(&insert, &values).await?;
            Ok(())
        })
    }

    /// The next rows of all shards.
    pub(in crate::spool) fn page(&self, table: &Table, after: Option<&Vec<Value>>) -> Result<Vec<Row>, SpoolError> {
        let (names, key) = (table.names(), table.key_names());
        let sizes: Vec<_> = table
            .columns
            .iter()
            .filter(|(_, kind)| !matches!(kind, ColumnKind::Integer | ColumnKind::Boolean))
            .map(|(name, _)| format!("coalesce(length({name}), 0)"))
            .collect();
        let size = if sizes.is_empty() { "0".to_owned() } else { sizes.join(" + ") };
        let kinds = table.columns.iter().take(table.key).map(|(_, kind)| *kind);
        let keys: Vec<_> = after
            .into_iter()
            .flatten()
            .zip(kinds)
            .map(|(value, kind)| array(&[vec![value.clone()]], 0, kind))
            .collect();
        let keys: Vec<&(dyn ToSql + Sync)> = keys.iter().map(|value| -> &(dyn ToSql + Sync) { &**value }).collect();
        let follows = if keys.is_empty() {
            String::new()
        } else {
            // Each parameter is an array with one value.
            let kinds = table.columns.iter().take(table.key).zip(1..);
            let values: Vec<_> =
                kinds.map(|((_, kind), place)| format!("(${place}::{}[])[1]", type_of(*kind))).collect();
            format!("WHERE ({key}) > ({})", values.join(", "))
        };
        let select = format!(
            "SELECT {names} FROM (SELECT *, sum({size}) OVER (ORDER BY {key}) - ({size}) AS before FROM \
             (SELECT * FROM {} rows {follows} ORDER BY {key} LIMIT {PAGE_ROWS}) page) sized \
             WHERE before < {PAGE_BYTES} ORDER BY {key}",
            rows_of(table)
        );
        self.run(async |connection| {
            let rows = connection.rows(&select, &keys).await?;
            Ok(connection.decode(&rows, |row| decode(table, row))?)
        })
    }

    /// What is in the schema.
    pub(in crate::spool) fn row_counts(&self) -> Result<RowCounts, SpoolError> {
        let mut counts = [0; 5];
        for (count, table) in counts.iter_mut().zip(RowCounts::tables()) {
            let select = format!("SELECT count(*) FROM {} rows", rows_of(table));
            *count = self.run(async |connection| {
                let rows = connection.rows_of_whole_table(&select, &[]).await?;
                Ok(connection.decode(&rows, |row| unsigned(row, 0))?.pop().unwrap_or_default())
            })?;
        }
        Ok(RowCounts::of(counts))
    }

    /// The start of due times: of this boot, if a shard has one.
    pub(in crate::spool) fn clock(&self) -> Result<Option<ClockBase>, SpoolError> {
        let clock = "SELECT boot, base FROM shards ORDER BY boot = $1 DESC, shard LIMIT 1";
        self.run(async |connection| {
            let clock = connection.rows(clock, &[&ClockBase::now().boot]).await?;
            Ok(connection.decode(&clock, |row| Ok(ClockBase { boot: row.try_get(0)?, base: row.try_get(1)? }))?.pop())
        })
    }

    pub(in crate::spool) fn set_clock(&self, clock: Option<ClockBase>) -> Result<(), SpoolError> {
        let Some(ClockBase { boot, base }) = clock else { return Ok(()) };
        self.run(async |connection| {
            connection.execute("UPDATE shards SET boot = $1, base = $2", &[&boot, &base]).await?;
            Ok(())
        })
    }

    /// The highest number that a dead letter of any shard ever had.
    pub(in crate::spool) fn last_dead_letter(&self) -> Result<i64, SpoolError> {
        self.run(async |connection| {
            let shards = connection.rows("SELECT shard FROM shards", &[]).await?;
            let mut last = 0;
            for shard in connection.decode(&shards, |row| row.try_get::<_, i16>(0))? {
                let schema = Shard::new(&self.config.schema, shard).schema;
                let select = format!("SELECT last FROM \"{schema}\".dead_letter_numbers");
                let numbers = connection.rows(&select, &[]).await?;
                // One that no dead letter had is the beginning of a shard's numbers.
                let first = i64::from(shard) * crate::spool::reader::DEAD_LETTERS_OF_SHARD;
                let numbers = connection.decode(&numbers, |row| row.try_get::<_, i64>(0))?;
                last = numbers.into_iter().filter(|number| *number > first).fold(last, i64::max);
            }
            Ok(last)
        })
    }

    pub(in crate::spool) fn set_last_dead_letter(&self, last: i64) -> Result<(), SpoolError> {
        self.run(async |connection| {
            connection.execute("UPDATE dead_letter_numbers SET last = greatest(last, $1)", &[&last]).await?;
            Ok(())
        })
    }
}

/// The rows of all shards. What several shards have is taken once: of a sink's states one with a pause, if there is one.
fn rows_of(table: &Table) -> String {
    let name = table.name;
    match name {
        "states" => "(SELECT DISTINCT ON (kind, name) * FROM all_states \
                     ORDER BY kind, name, state::jsonb ? 'pause' DESC, shard)"
            .to_owned(),
        "raised_alerts" => {
            "(SELECT DISTINCT ON (alert, subject) * FROM all_raised_alerts ORDER BY alert, subject, shard)".to_owned()
        }
        _ => format!("all_{name}"),
    }
}

fn type_of(kind: ColumnKind) -> &'static str {
    match kind {
        ColumnKind::Integer => "bigint",
        ColumnKind::Boolean => "boolean",
        ColumnKind::Text | ColumnKind::MessageText => "text",
        ColumnKind::Bytes => "bytea",
    }
}

/// The values of one column.
fn array(rows: &[Row], place: usize, kind: ColumnKind) -> Box<dyn ToSql + Sync + Send> {
    let values = rows.iter().map(|row| row.get(place));
    let integer = |value: Option<&Value>| match value {
        Some(Value::Integer(number)) => Some(*number),
        _ => None,
    };
    let text = |value: Option<&Value>| match value {
        Some(Value::Text(text)) if kind == ColumnKind::MessageText => Some(escape(text).into_owned()),
        Some(Value::Text(text)) => Some(text.clone()),
        _ => None,
    };
    let bytes = |value: Option<&Value>| match value {
        Some(Value::Bytes(bytes)) => Some(bytes.clone()),
        _ => None,
    };
    match kind {
        ColumnKind::Integer => Box::new(values.map(integer).collect::<Vec<_>>()),
        ColumnKind::Boolean => {
            Box::new(values.map(|value| integer(value).map(|number| number != 0)).collect::<Vec<_>>())
        }
        ColumnKind::Text | ColumnKind::MessageText => Box::new(values.map(text).collect::<Vec<_>>()),
        ColumnKind::Bytes => Box::new(values.map(bytes).collect::<Vec<_>>()),
    }
}

fn decode(table: &Table, row: &PostgresRow) -> Result<Row, tokio_postgres::Error> {
    let value = |(place, (_, kind)): (usize, &(&str, ColumnKind))| {
        Ok(match kind {
            ColumnKind::Integer => row.try_get::<_, Option<i64>>(place)?.map(Value::Integer),
            ColumnKind::Boolean => row.try_get::<_, Option<bool>>(place)?.map(|is| Value::Integer(i64::from(is))),
            ColumnKind::Text => row.try_get::<_, Option<String>>(place)?.map(Value::Text),
            ColumnKind::MessageText => row.try_get::<_, Option<String>>(place)?.map(unescape).map(Value::Text),
            ColumnKind::Bytes => row.try_get::<_, Option<Vec<u8>>>(place)?.map(Value::Bytes),
        }
        .unwrap_or(Value::Null))
    };
    table.columns.iter().enumerate().map(value).collect()
}
