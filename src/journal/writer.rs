//! The thread that writes the journal.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::buffer::frames;
use super::database::Database;
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
    /// What the file has, as it is shown.
    records: u64,
    /// Why the last batch was not written. It is logged when it changes.
    problem: Option<String>,
}

impl Writer {
    pub(super) fn new(config: JournalConfig, shared: Arc<Shared>) -> Self {
        Self { config, shared, database: None, packer: Packer::default(), records: 0, problem: None }
    }

    /// Runs until the journal is closed.
    pub(super) fn run(mut self) {
        let mut empty = Vec::new();
        loop {
            // Asked before the records are taken: whatever was recorded before the end is written.
            let is_closing = self.shared.is_closing.load(Ordering::Relaxed);
            if !is_closing && !self.shared.buffer.is_full_batch() {
                std::thread::park_timeout(MAX_LAG);
            }
            TaskKind::JournalWriter.panic_if_requested();
            let mut taken = self.shared.buffer.take(empty);
            let records = frames(&taken).count() as u64;
            match self.write(&taken) {
                Ok(()) => self.on_success(),
                Err(problem) => {
                    self.shared.stats.skip(records);
                    self.on_problem(problem);
                }
            }
            if is_closing {
                return;
            }
            taken.clear();
            empty = taken;
        }
    }

    /// Writes a batch, and deletes what is too old or too much. The error says why the batch is left out.
    fn write(&mut self, taken: &[u8]) -> Result<(), String> {
        if DiskSpace::of(&self.config.path) != DiskSpace::Plenty {
            return Err("its disk is nearly full; what is left is for the spool".to_owned());
        }
        let mut database = match self.database.take() {
            Some(database) => database,
            None => self.open()?,
        };
        match self.write_to(&mut database, taken) {
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

    fn write_to(&mut self, database: &mut Database, taken: &[u8]) -> Result<(), JournalError> {
        let cutoff = AgeCutoff::of(self.config.keep);
        for _ in 0..EXPIRED_AT_ONCE {
            let Some(records) = database.delete_expired(cutoff)? else { break };
            self.records = self.records.saturating_sub(records);
        }
        if !taken.is_empty() {
            if database.is_blocked()? {
                return Err(JournalError::Busy(self.config.path.clone()));
            }
            let batch = self.packer.pack(taken).map_err(JournalError::io(&self.config.path))?;
            let deleted = database.add(&batch, self.config.max_size)?;
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

    fn on_problem(&mut self, problem: String) {
        if self.problem.as_ref() != Some(&problem) {
            tracing::error!(
                error = problem,
                "the journal can't be written; events are relayed and not recorded, and the relay tries again"
            );
            self.problem = Some(problem);
        }
    }
}
