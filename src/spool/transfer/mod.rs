//! Moves a spool between a file and a database, while no relay uses either.
//!
//! The copy is made before anything is decided, and counted on both sides. Then one mark at the source says that it was moved: from then on
//! no relay uses the source, and before it none uses the copy. Whatever interrupts it, it can be begun again: an unfinished copy is made anew.

mod rows;
mod table;

pub(super) use rows::{Row, Value};
pub(super) use table::{ColumnKind, Table};

use std::path::Path;

use super::SpoolError;
use super::postgres::{Mark, PostgresSide};
use super::reader::DEAD_LETTERS_OF_SHARD;
use super::sqlite::{SqliteSide, finish_file};
use crate::config::PostgresConfig;
use rows::Renumber;
use table::{DEAD_LETTERS, DELIVERIES, HEADS, RAISED_ALERTS, REQUESTS, STATES};

/// How many rows were moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowCounts {
    pub deliveries: u64,
    pub dead_letters: u64,
    pub requests: u64,
    pub states: u64,
    pub raised_alerts: u64,
    /// It had been moved already, by a run that was interrupted after that or has ended.
    pub was_moved: bool,
}

/// Moves the spool in `file` to the database. `progress` gets the number of rows copied so far.
pub fn to_postgres(
    file: &Path,
    config: &PostgresConfig,
    mut progress: impl FnMut(u64),
) -> Result<RowCounts, SpoolError> {
    let source = SqliteSide::open_existing(file)?;
    let destination = PostgresSide::open(config)?;
    let (from, to) = (source.name(), destination.name());
    if let Some(other) = source.moved_to()? {
        if other != to {
            return Err(SpoolError::MovedTo { spool: from, to: other });
        }
        // Only the mark of the copy may be left.
        destination.unmark(&Mark::Copy(from))?;
        return Ok(destination.row_counts()?.again());
    }
    destination.begin(&Mark::Copy(from.clone()))?;
    destination.clear()?;
    let mut renumber = Renumber::default();
    let insert = |table: &Table, mut rows: Vec<Row>| {
        renumber.apply(table, &mut rows);
        destination.insert(table, &rows)
    };
    copy(|table, after| source.page(table, after), insert, &mut progress)?;
    destination.set_clock(source.clock()?)?;
    // The number of a shard's dead letter is none of this one's.
    let last = Some(source.last_dead_letter()?).filter(|last| *last <= DEAD_LETTERS_OF_SHARD);
    destination.set_last_dead_letter(last.unwrap_or(0).max(renumber.last_dead_letter()))?;
    let moved = destination.row_counts()?;
    compare(&from, &source.row_counts()?, &to, &moved)?;
    source.mark_moved(&to)?;
    destination.unmark(&Mark::Copy(from))?;
    Ok(moved)
}

/// Moves the spool in the database, with all of its shards, to `file`.
pub fn to_sqlite(file: &Path, config: &PostgresConfig, mut progress: impl FnMut(u64)) -> Result<RowCounts, SpoolError> {
    let source = PostgresSide::open(config)?;
    let destination = SqliteSide::new_copy(file)?;
    let (from, to) = (source.name(), destination.name());
    if source.is_marked(&Mark::Moved(to.clone()))? {
        // Only the copy's own name may be missing.
        let moved = finish_file(destination, &from)?;
        return Ok(moved.again());
    }
    source.begin(&Mark::Source(to.clone()))?;
    let copied = copy_to_sqlite(&source, destination, &mut progress);
    let (destination, moved) = match copied {
        Ok(copied) => copied,
        Err(error) => {
            // The relays can go on with it. If the database doesn't answer either, the same command does the rest.
            let _ = source.unmark(&Mark::Source(to));
            return Err(error);
        }
    };
    source.replace_mark(&Mark::Source(to.clone()), &Mark::Moved(to))?;
    finish_file(destination, &from)?;
    Ok(moved)
}

fn copy_to_sqlite(
    source: &PostgresSide,
    destination: SqliteSide,
    progress: &mut impl FnMut(u64),
) -> Result<(SqliteSide, RowCounts), SpoolError> {
    let destination = destination.begin()?;
    copy(|table, after| source.page(table, after), |table, rows| destination.insert(table, &rows), progress)?;
    destination.set_clock(source.clock()?)?;
    destination.set_last_dead_letter(source.last_dead_letter()?)?;
    // Deliveries of one key can come from several shards.
    destination.repair_heads()?;
    let moved = destination.row_counts()?;
    compare(&source.name(), &source.row_counts()?, &destination.name(), &moved)?;
    Ok((destination, moved))
}

/// Copies table by table, in pages. References of a table are to rows of tables before it.
fn copy(
    page: impl Fn(&Table, Option<&Vec<Value>>) -> Result<Vec<Row>, SpoolError>,
    mut insert: impl FnMut(&Table, Vec<Row>) -> Result<(), SpoolError>,
    progress: &mut impl FnMut(u64),
) -> Result<(), SpoolError> {
    let mut copied = 0;
    for table in [&DELIVERIES, &HEADS, &DEAD_LETTERS, &STATES, &REQUESTS, &RAISED_ALERTS] {
        let mut last = None;
        loop {
            let rows = page(table, last.as_ref())?;
            let Some(row) = rows.last() else { break };
            last = Some(table.key_of(row));
            copied += rows.len() as u64;
            insert(table, rows)?;
            progress(copied);
        }
    }
    Ok(())
}

impl RowCounts {
    /// Of rows as each side counts them, in the order of the fields.
    pub(super) fn of([deliveries, dead_letters, requests, states, raised_alerts]: [u64; 5]) -> Self {
        Self { deliveries, dead_letters, requests, states, raised_alerts, was_moved: false }
    }

    /// What the sides count for it.
    pub(super) fn tables() -> [&'static Table; 5] {
        [&DELIVERIES, &DEAD_LETTERS, &REQUESTS, &STATES, &RAISED_ALERTS]
    }

    fn again(self) -> Self {
        Self { was_moved: true, ..self }
    }
}

fn compare(from: &str, source: &RowCounts, to: &str, destination: &RowCounts) -> Result<(), SpoolError> {
    if source == destination {
        return Ok(());
    }
    Err(SpoolError::CopyDiffers {
        from: from.to_owned(),
        to: to.to_owned(),
        found: format!("{source:?}, {destination:?}"),
    })
}
