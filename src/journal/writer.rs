//! The thread that writes the journal.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::database::{Batch, Database};
use super::packer::Packer;
use super::{JournalError, MAX_LAG, Shared};
use crate::clock::AgeCutoff;
use crate::config::JournalConfig;
use crate::storage::{DiskSpace, quarantine};
use crate::tasks::TaskKind;

/// How many expired batches are deleted at a time: each delays the next batch by less than a millisecond.
const EXPIRED_AT_ONCE: usize = 64;

pub(super) struct Writer {
    config: JournalConfig,
    shared: Arc<Shared>,
    database: Option<Database>,
    packer: Packer,
    batch: Batch,
    last_write: Instant,
    /// What the file has, as it is shown.
    records: u64,
    /// Why the last batch was not written. It is logged when it changes.
    problem: Option<String>,
}

impl Writer {
    pub(super) fn new(config: JournalConfig, shared: Arc<Shared>) -> Self {
        Self {
            config,
            shared,
            database: None,
            packer: Packer::default(),
            batch: Batch::default(),
            last_write: Instant::now(),
            records: 0,
            problem: None,
        }
    }

    /// Runs until the journal is closed.
    pub(super) fn run(mut self) {
        loop {
            // Asked before the records are taken: whatever was recorded before the end is written.
            let is_closing = self.shared.is_closing.load(Ordering::Relaxed);
            let wait = MAX_LAG.saturating_sub(self.last_write.elapsed());
            if !is_closing && !wait.is_zero() && !self.shared.buffer.has_full_block() {
                std::thread::park_timeout(wait);
            }
            TaskKind::JournalWriter.panic_if_requested();
            let is_due = is_closing || self.last_write.elapsed() >= MAX_LAG;
            for block in self.shared.buffer.take(is_due) {
                if let Err(error) = self.packer.add(&block, &mut self.batch) {
                    self.skip(block.records, error.to_string());
                }
                self.shared.buffer.reuse(block);
            }
            if is_due || self.batch.is_full() {
                self.last_write = Instant::now();
                let mut batch = std::mem::take(&mut self.batch);
                match self.write(&mut batch) {
                    Ok(()) => self.on_success(),
                    Err(problem) => self.skip(batch.records, problem),
                }
            }
            if is_closing {
                return;
            }
        }
    }

    /// Writes a batch, and deletes what is too old or too much. The error says why the batch is left out.
    fn write(&mut self, batch: &mut Batch) -> Result<(), String> {
        if DiskSpace::of(&self.config.path) != DiskSpace::Plenty {
            return Err("its disk is nearly full; what is left is for the spool".to_owned());
        }
        let mut database = match self.database.take() {
            Some(database) => database,
            None => self.open()?,
        };
        match self.write_to(&mut database, batch) {
            Ok(()) => {
                self.database = Some(database);
                Ok(())
            }
            Err(error) => {
                // The file can't be renamed while it is open.
                drop(database);
                self.replace_damaged(&error);
                Err(error.to_string())
            }
        }
    }

    fn write_to(&mut self, database: &mut Database, batch: &mut Batch) -> Result<(), JournalError> {
        let cutoff = AgeCutoff::of(self.config.keep);
        for _ in 0..EXPIRED_AT_ONCE {
            let Some(records) = database.delete_expired(cutoff)? else { break };
            self.records = self.records.saturating_sub(records);
        }
        if batch.records > 0 {
            if database.is_blocked()? {
                return Err(JournalError::Busy(self.config.path.clone()));
            }
            let deleted = database.add(batch, self.config.max_size)?;
            self.records = self.records.saturating_sub(deleted) + u64::from(batch.records);
        }
        let oldest = database.oldest()?;
        self.shared.stats.set(self.records, database.size()?, oldest);
        Ok(())
    }

    /// Opens the file; one that can't be used becomes a new one.
    fn open(&mut self) -> Result<Database, String> {
        let open = || Database::open(&self.config.path).and_then(|database| Ok((database.records()?, database)));
        let (records, database) = match open() {
            Err(error) if error.needs_new_file() => {
                self.replace_damaged(&error);
                open()
            }
            opened => opened,
        }
        .map_err(|error| error.to_string())?;
        self.records = records;
        Ok(database)
    }

    /// Renames a file that can't be used, so that the next batch begins a new one.
    fn replace_damaged(&self, error: &JournalError) {
        if !error.needs_new_file() {
            return;
        }
        match quarantine(&self.config.path) {
            Ok(renamed) => tracing::error!(
                %error, file = %renamed.display(),
                "the journal can't be used; the relay renamed its file to this one and starts a new journal"
            ),
            Err(renaming) => {
                tracing::error!(%error, "the journal can't be used, and its file can't be renamed: {renaming}");
            }
        }
    }

    fn on_success(&mut self) {
        if self.problem.take().is_some() {
            tracing::info!("the journal is written again");
        }
    }

    /// Counts records that are left out.
    fn skip(&mut self, records: u32, problem: String) {
        self.shared.stats.skip(u64::from(records));
        if self.problem.as_ref() != Some(&problem) {
            tracing::error!(
                error = problem,
                "the journal can't be written; events are relayed and not recorded, and the relay tries again"
            );
            self.problem = Some(problem);
        }
    }
}
