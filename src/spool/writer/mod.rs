//! The one thread that writes to the store: many changes in one transaction, and one fsync for all of them.

mod inbox;
mod transaction;
mod upkeep;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::command::WriterCommand;
use super::purge::Purge;
use super::queue::ChangeQueue;
use super::request::RequestLimits;
use super::row_size::CurrentPage;
use super::shared::Shared;
use super::store::Store;
use super::writer_state::WriterState;
use super::{BlockReason, CLOSED, SpoolError};
use crate::config::DeadLettersConfig;
use crate::net::Backoff;
use crate::rules::SinkName;
use crate::storage::DiskSpace;
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
    store: Box<dyn Store>,
    keep: Option<Duration>,
    max_dead_letter_bytes: u64,
    from: Receiver<WriterCommand>,
    shared: Arc<Shared>,
    next_dead_letter: i64,
    current_page: CurrentPage,
    queue: ChangeQueue,
    /// After a failed transaction, changes that make the file larger wait until then, so that changes that make it smaller get through.
    grow_after: Instant,
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
}

impl Writer {
    pub(super) fn open(
        store: Box<dyn Store>,
        dead_letters: &DeadLettersConfig,
        request_limits: RequestLimits,
        from: Receiver<WriterCommand>,
        shared: Arc<Shared>,
    ) -> Result<Self, SpoolError> {
        let mut writer = Self {
            store,
            keep: dead_letters.keep,
            max_dead_letter_bytes: dead_letters.max_size,
            from,
            shared,
            next_dead_letter: 1,
            current_page: CurrentPage::default(),
            queue: ChangeQueue::default(),
            grow_after: Instant::now(),
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
        };
        writer.load_state()?;
        writer.shared.set_is_same_boot(writer.store.is_same_boot());
        writer.shared.set_states(writer.store.states()?);
        writer.shared.set_raised_alerts(writer.store.raised_alerts()?);
        let sinks: Vec<SinkName> = writer.shared.budget().sinks().map(|(sink, _)| sink.clone()).collect();
        for sink in sinks {
            writer.shared.set_oldest(&sink, writer.store.oldest(&sink)?);
        }
        Ok(writer)
    }

    /// Loads the state that the writer and the callers keep in memory.
    fn load_state(&mut self) -> Result<(), SpoolError> {
        let contents = self.store.contents()?;
        self.next_dead_letter = self.next_dead_letter.max(contents.last_dead_letter.saturating_add(1));
        self.shared.set_last_row(contents.last_row);
        self.shared.recount_deliveries(contents.usage);
        self.shared.recount_requests(contents.requests);
        self.shared.set_next_due_request(contents.next_due_request);
        self.shared.recount_dead_letters(contents.dead_letters);
        let counts = self.shared.request_counts();
        (self.state.requests, self.state.early_ends) = (counts.total(), counts.early_ends());
        Ok(())
    }

    fn recount_dead_letters(&self) -> Result<(), SpoolError> {
        self.shared.recount_dead_letters(self.store.dead_letter_totals()?);
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
                Err(error @ SpoolError::Fenced) => {
                    tracing::error!(%error, "spool lost");
                    break;
                }
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
        let space = self.store.disk_space();
        self.shared.budget().set_disk_is_full(space == DiskSpace::None);
        if !self.store.is_open() {
            self.recover()?;
        }
        let more = self.tick_with(space)?;
        self.failures = 0;
        Ok(more)
    }

    /// Whether to wait before the next transaction: the queue has only rows of new messages, some of them are new since the last check,
    /// and the commit interval is not over.
    fn may_wait_for_more(&self) -> bool {
        self.closing.is_none()
            && self.store.is_open()
            && self.committed.elapsed() < COMMIT_INTERVAL
            && self.queue.len() > self.rows_seen
            && !self.queue.fills_a_batch()
            && !self.is_urgent
    }

    fn tick_with(&mut self, space: DiskSpace) -> Result<bool, SpoolError> {
        let mut more = Instant::now() >= self.next_purge && self.purge_expired(space)?;
        let mut changes = self.assemble(space);
        if changes.is_empty() && self.queue.blocked_count() > 0 {
            // A purge may make room: an early one of expired dead letters, or a requested one.
            more |= self.purge_expired(space)? || self.purge_requested(space)?;
            changes = self.assemble(space);
        }
        if !changes.is_empty() {
            self.commit(changes, space)?;
            more = true;
        }
        if self.queue.is_empty() {
            // A drained backlog leaves free space. The disk gets some of it back when the writer has nothing else to do.
            more |= self.store.release_free_space(space, space != DiskSpace::Plenty)?;
        }
        if self.may_grow() {
            let problem = self.dead_letters_full().or_else(|| self.disk_full());
            self.shared.set_problem(problem);
        }
        self.update_oldest()?;
        Ok(more | self.purge_requested(space)?)
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

    fn close_after_failure(&mut self, error: &SpoolError, delay: Duration) {
        self.store.close();
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
            && (self.queue.blocked_count() == 0 || self.store.is_open());
        self.closing.as_ref().is_some_and(|(until, _)| is_done || Instant::now() >= *until)
    }

    fn end(self) {
        let pending = self.pending();
        if pending > 0 {
            tracing::error!("the relay stops before {pending} changes are stored; their messages stay unacknowledged");
        }
        self.shared.set_problem(Some((BlockReason::Disk, CLOSED.to_owned())));
        // Without a request to close, the relay ended by an error.
        let is_clean = pending == 0 && self.closing.is_some() && !self.shared.has_cut_attempts();
        let Self { queue, unknown, mut store, closing, from, .. } = self;
        drop((queue, unknown, from));
        store.give_up(is_clean);
        drop(store);
        if let Some((_, Some(done))) = closing {
            // The caller may have stopped waiting.
            let _ = done.send(());
        }
    }
}
