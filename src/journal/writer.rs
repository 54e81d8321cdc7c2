//! The thread that writes the journal.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::batch::Batch;
use super::packer::Packer;
use super::store::{self, Store};
use super::{JournalError, MAX_LAG, Shared};
use crate::config::JournalConfig;
use crate::storage::{DiskSpace, quarantine};
use crate::tasks::TaskKind;

pub(super) struct Writer {
    config: JournalConfig,
    shared: Arc<Shared>,
    /// None: it was not opened yet, or the last batch was not written.
    store: Option<Box<dyn Store>>,
    packer: Packer,
    /// A batch that can be written later, and may be stored. Nothing is added to it.
    unwritten: Option<Batch>,
    batch: Batch,
    last_write: Instant,
    /// Why the last batch was not written. It is logged when it changes.
    problem: Option<String>,
}

/// Why a batch is not written.
struct Problem {
    text: String,
    /// The same batch may be written later.
    is_transient: bool,
}

impl From<JournalError> for Problem {
    fn from(error: JournalError) -> Self {
        Self { text: error.to_string(), is_transient: error.is_transient() }
    }
}

impl Writer {
    pub(super) fn new(config: JournalConfig, shared: Arc<Shared>) -> Self {
        Self {
            config,
            shared,
            store: None,
            packer: Packer::default(),
            unwritten: None,
            batch: Batch::default(),
            last_write: Instant::now(),
            problem: None,
        }
    }

    /// Runs until the journal is closed.
    pub(super) fn run(mut self) {
        loop {
            // Asked before the records are taken: whatever was recorded before the end is written.
            let is_closing = self.shared.is_closing.load(Ordering::Relaxed);
            let wait = MAX_LAG.saturating_sub(self.last_write.elapsed());
            let can_take = !self.batch.is_full() && self.shared.buffer.has_full_block();
            if !is_closing && !wait.is_zero() && !can_take {
                std::thread::park_timeout(wait);
            }
            TaskKind::JournalWriter.panic_if_requested();
            let is_due = is_closing || self.last_write.elapsed() >= MAX_LAG;
            // While nothing can be written, records wait in the buffer, which has a limit.
            if is_closing || !self.batch.is_full() {
                self.take(is_due);
            }
            if is_due || (self.batch.is_full() && self.unwritten.is_none()) {
                self.last_write = Instant::now();
                self.write_batches(is_closing);
            }
            if is_closing {
                return;
            }
        }
    }

    fn take(&mut self, growing: bool) {
        for block in self.shared.buffer.take(growing) {
            if let Err(error) = self.packer.add(&block, &mut self.batch) {
                self.skip(block.records, error.to_string());
            }
            self.shared.buffer.reuse(block);
        }
    }

    /// Writes what is left of the last time, and then the rest.
    fn write_batches(&mut self, is_closing: bool) {
        let rest = std::mem::take(&mut self.batch);
        for mut batch in self.unwritten.take().into_iter().chain([rest]) {
            if self.unwritten.is_some() {
                self.batch = batch;
                return;
            }
            match self.write(&mut batch) {
                Ok(()) => self.on_success(),
                Err(problem) if problem.is_transient && !is_closing => self.keep(batch, problem.text),
                Err(problem) => self.skip(batch.records, problem.text),
            }
        }
    }

    /// Writes a batch, and deletes what is too old or too much.
    fn write(&mut self, batch: &mut Batch) -> Result<(), Problem> {
        if self.config.store.file().is_some_and(|path| DiskSpace::of(path) != DiskSpace::Plenty) {
            let text = "its disk is nearly full; what is left is for the spool".to_owned();
            return Err(Problem { text, is_transient: false });
        }
        let mut store = match self.store.take() {
            Some(store) => store,
            None => self.open()?,
        };
        match store.write(batch, &self.config) {
            Ok(contents) => {
                self.shared.stats.set(contents);
                self.store = Some(store);
                Ok(())
            }
            Err(error) => {
                // A file can't be renamed while it is open.
                drop(store);
                self.replace_damaged(&error);
                Err(error.into())
            }
        }
    }

    /// Opens the store; a file that can't be used becomes a new one.
    fn open(&self) -> Result<Box<dyn Store>, JournalError> {
        match store::open(&self.config.store) {
            Err(error) if error.needs_new_file() => {
                self.replace_damaged(&error);
                store::open(&self.config.store)
            }
            opened => opened,
        }
    }

    /// Renames a file that can't be used, so that the next batch begins a new one.
    fn replace_damaged(&self, error: &JournalError) {
        let Some(file) = self.config.store.file().filter(|_| error.needs_new_file()) else { return };
        match quarantine(file) {
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

    /// Keeps a batch to write it later.
    fn keep(&mut self, batch: Batch, problem: String) {
        if batch.records == 0 {
            return;
        }
        self.unwritten = Some(batch);
        // What the database says may change while it is away.
        if self.problem.is_none() {
            tracing::warn!(
                error = problem,
                "the journal can't be written at the moment; what fits into memory is written later"
            );
            self.problem = Some(problem);
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
