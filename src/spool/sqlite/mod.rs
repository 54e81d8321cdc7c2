//! The spool in a SQLite file, which one process has open for writing.

mod apply;
pub(super) mod corruption;
mod database;
mod lock;
mod reader;
mod rows;
mod statements;
mod transfer;
mod unreadable;

pub(super) use database::{Database, SCHEMA_VERSION};
pub(super) use reader::SqliteReader;
pub(super) use transfer::{SqliteSide, finish_file};

use std::path::PathBuf;

use super::SpoolError;
use super::budget::Usage;
use super::change::{AppliedChange, Change};
use super::counts::DeadLetterTotals;
use super::delivery::RowId;
use super::purge::PurgeSelection;
use super::store::{FailedBatch, FailedChanges, Store, StoreContents};
use super::writer_state::WriterState;
use crate::clock::{self, ClockBase, Timestamp};
use crate::config::{OnCorrupt, SqliteConfig};
use crate::rules::{AlertName, SinkName};
use crate::storage::{DiskSpace, quarantine};

use lock::Lock;

pub(super) struct SqliteStore {
    path: PathBuf,
    /// None: the last transaction failed, and the file has to be opened again.
    database: Option<Database>,
    /// The number of the last transaction.
    number: i64,
    is_same_boot: bool,
    // Dropped last: another process must not open the file before this one has closed it.
    _lock: Lock,
}

impl SqliteStore {
    /// Opens the file as the last process left it, or creates it.
    pub(super) fn open(config: &SqliteConfig) -> Result<Self, SpoolError> {
        let path = Database::locate(&config.path)?;
        let lock = Lock::take(&path)?;
        let mut store = Self { path, database: None, number: 0, is_same_boot: true, _lock: lock };
        match store.open_first() {
            Err(error @ SpoolError::Corrupt { .. }) if config.on_corrupt == OnCorrupt::Quarantine => {
                let quarantined = quarantine(&store.path)
                    .map_err(|error| SpoolError::io(&store.path, "the damaged spool can't be renamed", error))?;
                tracing::error!(
                    %error, file = %quarantined.display(),
                    "spool damaged; the relay renamed its file to this one and starts with a new spool"
                );
                store.open_first()?;
            }
            opened => opened?,
        }
        Ok(store)
    }

    fn open_first(&mut self) -> Result<(), SpoolError> {
        let was_left_open = corruption::was_left_open(&self.path);
        let database = Database::open(&self.path)?;
        if was_left_open {
            corruption::check_integrity(&database, &self.path)?;
        }
        checkpoint_unless_busy(&database)?;
        self.set_clock(&database)?;
        let repaired = database.repair_heads()?;
        if repaired > 0 {
            tracing::error!(
                file = %self.path.display(),
                "the spool had lost the oldest deliveries of some keys; {repaired} of them are repaired and delivered"
            );
        }
        self.number = database.last_batch()?;
        self.database = Some(database);
        Ok(())
    }

    /// Due times keep the start that an earlier run in this boot has stored. Without one, they start now.
    fn set_clock(&mut self, database: &Database) -> Result<(), SpoolError> {
        self.is_same_boot = database.clock()?.is_some_and(clock::restore);
        if self.is_same_boot {
            return Ok(());
        }
        match database.set_clock(ClockBase::now()) {
            // The next start counts from its own time, too: no delivery is delayed by more than its back-off.
            Err(error) if DiskSpace::of(&self.path) == DiskSpace::None => {
                tracing::warn!(%error, "the disk of the spool is full; the start of due times is not stored");
                Ok(())
            }
            done => done,
        }
    }

    fn database(&self) -> Result<&Database, SpoolError> {
        let closed = || std::io::Error::other("it has to be opened again after an error");
        self.database.as_ref().ok_or_else(|| SpoolError::io(&self.path, "the spool can't be used", closed()))
    }

    fn after_commit(&self, space: DiskSpace) -> Result<(), SpoolError> {
        if space == DiskSpace::Plenty { Ok(()) } else { checkpoint_unless_busy(self.database()?) }
    }

    /// Applies the changes in order. One that fails is left with those behind it.
    fn apply_all(
        &self,
        changes: Vec<Change>,
        state: &mut WriterState,
    ) -> (Result<(), SpoolError>, Vec<AppliedChange>, Vec<Change>) {
        let database = match self.database() {
            Ok(database) => database,
            Err(error) => return (Err(error), Vec::new(), changes),
        };
        let is_read_only = changes.iter().all(Change::is_read_only);
        let mut applied = Vec::with_capacity(changes.len());
        let (mut unapplied, mut failed) = (changes.into_iter(), None);
        let committed = database.transact(|| {
            for change in unapplied.by_ref() {
                match apply::apply(change, database, state) {
                    Ok(change) => applied.push(change),
                    Err(failure) => {
                        let (error, change) = *failure;
                        failed = Some(change);
                        return Err(error);
                    }
                }
            }
            if is_read_only { Ok(()) } else { database.set_batch(self.number) }
        });
        (committed, applied, failed.into_iter().chain(unapplied).collect())
    }
}

impl Store for SqliteStore {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn is_same_boot(&self) -> bool {
        self.is_same_boot
    }

    fn disk_space(&self) -> DiskSpace {
        DiskSpace::of(&self.path)
    }

    fn contents(&self) -> Result<StoreContents, SpoolError> {
        let database = self.database()?;
        let (last_dead_letter, last_row) = database.last_ids()?;
        Ok(StoreContents {
            last_dead_letter,
            last_row: RowId(last_row),
            usage: database.usage()?,
            requests: database.count_requests()?,
            next_due_request: database.next_due_request()?,
            dead_letters: database.dead_letter_totals()?,
        })
    }

    fn states(&self) -> Result<Vec<(String, String, String)>, SpoolError> {
        self.database()?.states()
    }

    fn raised_alerts(&self) -> Result<Vec<(AlertName, String, String)>, SpoolError> {
        self.database()?.raised_alerts()
    }

    fn oldest(&self, sink: &SinkName) -> Result<Option<Timestamp>, SpoolError> {
        self.database()?.oldest(sink)
    }

    fn usage(&self) -> Result<Vec<(SinkName, Usage)>, SpoolError> {
        self.database()?.usage()
    }

    fn dead_letter_totals(&self) -> Result<DeadLetterTotals, SpoolError> {
        self.database()?.dead_letter_totals()
    }

    fn commit(
        &mut self,
        changes: Vec<Change>,
        state: &mut WriterState,
        space: DiskSpace,
    ) -> Result<Vec<AppliedChange>, Box<FailedBatch>> {
        self.number += 1;
        let (committed, applied, unapplied) = self.apply_all(changes, state);
        let Err(error) = committed.and_then(|()| self.after_commit(space)) else { return Ok(applied) };
        // Without any left, the commit itself has failed.
        let changes = if unapplied.is_empty() {
            FailedChanges::Unknown(applied)
        } else {
            FailedChanges::Unstored(applied.into_iter().map(AppliedChange::into_change).chain(unapplied).collect())
        };
        Err(Box::new(FailedBatch { error, changes }))
    }

    fn purge_dead_letters(&self, selection: &PurgeSelection<'_>, limit: u64) -> Result<u64, SpoolError> {
        self.database()?.purge_dead_letters(selection, limit)
    }

    fn purge_deliveries(&self, sink: &SinkName, limit: u64) -> Result<u64, SpoolError> {
        self.database()?.purge_deliveries(sink, limit)
    }

    fn release_free_space(&self, space: DiskSpace, all: bool) -> Result<bool, SpoolError> {
        let (database, is_low) = (self.database()?, space != DiskSpace::Plenty);
        let more = database.release_free_pages(all, is_low)?;
        if more && is_low {
            checkpoint_unless_busy(database)?;
        }
        Ok(more)
    }

    fn is_open(&self) -> bool {
        self.database.is_some()
    }

    fn close(&mut self) {
        self.database = None;
    }

    fn recover(&mut self) -> Result<bool, SpoolError> {
        let database = Database::open(&self.path)?;
        database.checkpoint()?;
        let is_stored = database.last_batch()? == self.number;
        self.database = Some(database);
        Ok(is_stored)
    }
}

/// Empties the log. If a reader blocks that, it can wait, because no commit has failed.
fn checkpoint_unless_busy(database: &Database) -> Result<(), SpoolError> {
    match database.checkpoint() {
        Err(error) if error.is_busy() => {
            tracing::warn!(%error, "a reader keeps the spool's log from being emptied; trying again later");
            Ok(())
        }
        done => done,
    }
}
