//! The one thread that writes to the file: many changes in one transaction, and one fsync for all of them.

mod inbox;
mod transaction;
mod upkeep;

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::command::WriterCommand;
use super::database::Database;
use super::delivery::RowId;
use super::lock::Lock;
use super::purge::Purge;
use super::queue::ChangeQueue;
use super::request::RequestLimits;
use super::row_size::CurrentPage;
use super::shared::Shared;
use super::writer_state::WriterState;
use super::{BlockReason, CLOSED, SpoolError, corruption};
use crate::clock::{self, ClockBase};
use crate::config::{DeadLettersConfig, OnCorrupt, SpoolConfig};
use crate::net::Backoff;
use crate::rules::SinkName;
use crate::storage::{DiskSpace, quarantine};
use crate::tasks::TaskKind;

use transaction::Transaction;

/// How long rows of new messages wait after a transaction, so that others can share the next one: each transaction costs an fsync, and one
/// with few rows costs hardly less than one with a thousand.
const COMMIT_INTERVAL: Duration = Duration::from_millis(40);
/// How long rows of new messages wait if no more come: the sources may be waiting for these.
const IDLE_WAIT: Duration = Duration::from_millis(10);
/// The delays after failed transactions.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
/// How often the writer checks whether a full disk or full dead letters have room again.
const FULL_RETRY: Duration = Duration::from_secs(1);
/// How often expired dead letters are purged.
const PURGE_INTERVAL: Duration = Duration::from_hours(1);
/// How often the oldest delivery of a sink whose backlog changes is read.
const OLDEST_INTERVAL: Duration = Duration::from_secs(1);
/// How long the writer continues after the spool was dropped without being closed.
const DROPPED_GRACE: Duration = Duration::from_secs(5);

pub(super) struct Writer {
    path: PathBuf,
    keep: Option<Duration>,
    max_dead_letter_bytes: u64,
    from: Receiver<WriterCommand>,
    shared: Arc<Shared>,
    /// None: the last transaction failed, and the file has to be opened again.
    database: Option<Database>,
    next_dead_letter: i64,
    current_page: CurrentPage,
    queue: ChangeQueue,
    /// After a failed transaction, changes that make the file larger wait until then, so that changes that make it smaller get through.
    grow_after: Instant,
    /// The number of the last transaction.
    number: i64,
    /// The last transaction, if its commit was reported as failed. It may be on disk nevertheless.
    unknown: Option<Transaction>,
    state: WriterState,
    /// When the last transaction was committed.
    committed: Instant,
    /// The length of the queue at the last check whether more rows come.
    rows_seen: usize,
    /// The queue has changes other than rows of new messages.
    is_urgent: bool,
    purges: VecDeque<Purge>,
    /// How many transactions in a row failed.
    failures: u32,
    next_purge: Instant,
    /// The sinks whose backlogs have changed since their oldest delivery was read, and since when.
    oldest_outdated: HashMap<SinkName, Instant>,
    closing: Option<(Instant, Option<oneshot::Sender<()>>)>,
    lock: Lock,
}

impl Writer {
    pub(super) fn open(
        config: &SpoolConfig,
        dead_letters: &DeadLettersConfig,
        request_limits: RequestLimits,
        from: Receiver<WriterCommand>,
        shared: Arc<Shared>,
    ) -> Result<Self, SpoolError> {
        let path = Database::locate(&config.path)?;
        let lock = Lock::take(&path)?;
        let mut writer = Self {
            path,
            keep: dead_letters.keep,
            max_dead_letter_bytes: dead_letters.max_size,
            from,
            shared,
            database: None,
            next_dead_letter: 1,
            current_page: CurrentPage::default(),
            queue: ChangeQueue::default(),
            grow_after: Instant::now(),
            number: 0,
            unknown: None,
            state: WriterState::new(request_limits),
            committed: Instant::now(),
            rows_seen: 0,
            is_urgent: false,
            purges: VecDeque::new(),
            failures: 0,
            next_purge: Instant::now(),
            oldest_outdated: HashMap::new(),
            closing: None,
            lock,
        };
        let opened = match writer.open_first() {
            Err(error @ SpoolError::Corrupt { .. }) if config.on_corrupt == OnCorrupt::Quarantine => {
                let quarantined = quarantine(&writer.path)
                    .map_err(|error| SpoolError::io(&writer.path, "the damaged spool can't be renamed", error))?;
                tracing::error!(
                    %error, file = %quarantined.display(),
                    "spool damaged; the relay renamed its file to this one and starts with a new spool"
                );
                writer.open_first()
            }
            opened => opened,
        };
        writer.database = Some(opened?);
        Ok(writer)
    }

    /// Opens the file as the last process left it.
    fn open_first(&mut self) -> Result<Database, SpoolError> {
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
        self.load_state(&database)?;
        self.number = database.last_batch()?;
        self.shared.set_states(database.states()?);
        self.shared.set_raised_alerts(database.raised_alerts()?);
        let sinks: Vec<SinkName> = self.shared.budget().sinks().map(|(sink, _)| sink.clone()).collect();
        for sink in sinks {
            self.shared.set_oldest(&sink, database.oldest(&sink)?);
        }
        Ok(database)
    }

    /// Due times keep the start that an earlier run in this boot has stored. Without one, they start now.
    fn set_clock(&self, database: &Database) -> Result<(), SpoolError> {
        let is_same_boot = database.clock()?.is_some_and(clock::restore);
        self.shared.set_is_same_boot(is_same_boot);
        if is_same_boot {
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

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Loads the state that the writer and the callers keep in memory.
    fn load_state(&mut self, database: &Database) -> Result<(), SpoolError> {
        let (last_dead_letter, last_row) = database.last_ids()?;
        self.next_dead_letter = self.next_dead_letter.max(last_dead_letter.saturating_add(1));
        self.shared.set_last_row(RowId(last_row));
        self.shared.recount_deliveries(database.usage()?);
        self.shared.recount_requests(database.count_requests()?);
        self.shared.set_next_due_request(database.next_due_request()?);
        let counts = self.shared.request_counts();
        (self.state.requests, self.state.early_ends) = (counts.total(), counts.early_ends());
        drop(counts);
        self.recount_dead_letters(database)
    }

    fn recount_dead_letters(&self, database: &Database) -> Result<(), SpoolError> {
        self.shared.recount_dead_letters(database.dead_letter_totals()?);
        Ok(())
    }

    /// Runs until the spool is closed.
    pub(super) fn run(mut self) {
        loop {
            self.receive_all();
            if self.is_finished() {
                break;
            }
            if self.may_wait_for_more() {
                self.rows_seen = self.queue.len();
                // Commands other than new rows unpark the thread. Waking up for each row would cost more than writing it.
                let left = (self.committed + COMMIT_INTERVAL).saturating_duration_since(Instant::now());
                std::thread::park_timeout(left.min(IDLE_WAIT));
                continue;
            }
            self.rows_seen = 0;
            TaskKind::SpoolWriter.panic_if_requested();
            match self.tick() {
                Ok(true) => {}
                Ok(false) => self.wait_for_command(self.next_upkeep()),
                Err(error) => {
                    self.failures = self.failures.saturating_add(1);
                    let delay = BACKOFF.delay(self.failures);
                    self.close_after_failure(&error, delay);
                    self.wait_for_command(Instant::now() + delay);
                }
            }
        }
        self.end();
    }

    /// Does the next transaction and some upkeep. Returns whether there may be more to do at once.
    fn tick(&mut self) -> Result<bool, SpoolError> {
        let space = DiskSpace::of(&self.path);
        self.shared.budget().set_disk_is_full(space == DiskSpace::None);
        let database = match self.database.take() {
            Some(database) => database,
            None => self.reopen()?,
        };
        let more = self.tick_with(&database, space)?;
        // After an error the file is opened again.
        self.database = Some(database);
        self.failures = 0;
        Ok(more)
    }

    /// Whether to wait before the next transaction: the queue has only rows of new messages, some of them are new since the last check,
    /// and the commit interval is not over.
    fn may_wait_for_more(&self) -> bool {
        self.closing.is_none()
            && self.database.is_some()
            && self.committed.elapsed() < COMMIT_INTERVAL
            && self.queue.len() > self.rows_seen
            && !self.queue.fills_a_batch()
            && !self.is_urgent
    }

    fn tick_with(&mut self, database: &Database, space: DiskSpace) -> Result<bool, SpoolError> {
        let mut more = Instant::now() >= self.next_purge && self.purge_expired(database, space)?;
        let mut changes = self.assemble(space);
        if changes.is_empty() && self.queue.blocked_count() > 0 {
            // A purge may make room: an early one of expired dead letters, or a requested one.
            more |= self.purge_expired(database, space)? || self.purge_requested(database, space)?;
            changes = self.assemble(space);
        }
        if !changes.is_empty() {
            self.commit(database, changes)?;
            more = true;
            if space != DiskSpace::Plenty {
                checkpoint_unless_busy(database)?;
            }
        }
        if self.queue.is_empty() {
            // A drained backlog leaves free pages in the file. The disk gets some of them back when the writer has nothing else to do.
            more |= upkeep::release_free_pages(database, space, space != DiskSpace::Plenty)?;
        }
        if self.may_grow() {
            let problem = self.dead_letters_full().or_else(|| self.disk_full());
            self.shared.set_problem(problem);
        }
        self.update_oldest(database)?;
        Ok(more | self.purge_requested(database, space)?)
    }

    fn dead_letters_full(&self) -> Option<(BlockReason, String)> {
        let (first, count) = self.queue.first_blocked_dead_letter()?;
        let size = first.dead_letter_size().unwrap_or_default();
        if self.shared.dead_letter_counts().bytes().saturating_add(size) <= self.max_dead_letter_bytes {
            return None;
        }
        let problem = format!(
            "the dead letters have reached `dead_letters.max_size` ({} bytes; the next one takes {size}): {count} dead letters \
             are not stored, and their messages stay unacknowledged; look at them with `regards-relay dead-letters list`, then \
             `purge` those that you no longer need, or raise `max_size` or set `keep` and restart",
            self.max_dead_letter_bytes,
        );
        Some((BlockReason::DeadLettersFull, problem))
    }

    fn disk_full(&self) -> Option<(BlockReason, String)> {
        let blocked = self.queue.blocked_count();
        let problem = || {
            format!(
                "the disk of the spool is nearly full: {blocked} changes wait, and their messages stay unacknowledged; make room on \
                 the disk"
            )
        };
        (blocked > 0).then(|| (BlockReason::Disk, problem()))
    }

    /// How many changes are not on disk yet.
    fn pending(&self) -> usize {
        let unknown = self.unknown.as_ref().map_or(0, Transaction::len);
        unknown + self.queue.len() + self.queue.blocked_count()
    }

    /// It is unknown how the last transaction ended, so its handle isn't used again.
    fn close_after_failure(&mut self, error: &SpoolError, delay: Duration) {
        self.database = None;
        let pending = self.pending();
        tracing::error!(%error, "spool failed; {pending} changes are kept in memory; trying again in {delay:?}");
        let problem =
            format!("{error}; {pending} changes wait, and their messages stay unacknowledged; the relay tries again");
        self.shared.set_problem(Some((BlockReason::Disk, problem)));
    }

    fn is_finished(&self) -> bool {
        // Blocked changes don't count while the file is open: the space that they need will not come in the time that is left.
        let is_done = self.queue.is_empty()
            && self.unknown.is_none()
            && (self.queue.blocked_count() == 0 || self.database.is_some());
        self.closing.as_ref().is_some_and(|(until, _)| is_done || Instant::now() >= *until)
    }

    fn end(self) {
        let pending = self.pending();
        if pending > 0 {
            tracing::error!("the relay stops before {pending} changes are stored; their messages stay unacknowledged");
        }
        self.shared.set_problem(Some((BlockReason::Disk, CLOSED.to_owned())));
        let Self { queue, unknown, database, lock, closing, from, .. } = self;
        drop((queue, unknown, from));
        drop(database);
        drop(lock);
        if let Some((_, Some(done))) = closing {
            // The caller may have stopped waiting.
            let _ = done.send(());
        }
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
