//! What is kept on disk, in one SQLite file: deliveries that wait, and dead letters.
//!
//! One relay owns the file (`lock`), one thread writes to it (`writer`), and anyone who may read it can do so beside
//! them ([`DeadLetters`]). What is stored is on the disk, fsynced, before its [`Receipt`] settles; what that takes of
//! SQLite is behind a trait (`store`).
//!
//! Memory is bounded by the sources: what can't be stored yet holds its message unacknowledged, so there is never more of it
//! than all sources' prefetch together.
//!
//! Of each key only the oldest delivery is ever due. This module knows nothing of why a delivery failed or when it is tried
//! next; it is told.

mod budget;
mod change;
mod command;
mod damage;
mod damaged;
mod database;
mod delivery;
mod disk;
mod filter;
mod footprint;
mod letter;
mod lock;
mod network;
mod old_sizes;
mod progress;
mod purge;
mod queue;
mod reader;
mod rows;
mod sqlite;
mod store;
mod tally;
mod waits;
mod writer;

pub use budget::{Limits, Share, Sizes};
pub use change::{Origin, Watch};
pub use database::SpoolError;
pub use delivery::{Due, News, Portion, RowId, Waiting};
pub use filter::Filter;
pub use letter::DeadLetter;
pub use network::lost_at_reboot;
pub use progress::Progress;
pub use purge::Unwanted;
pub use reader::{DeadLetters, Listed, Shown};
pub use tally::{Tally, TallyRow};
pub use waits::{DeliveryFilter, ListedDelivery, Waits, list_deliveries, orphans, waits};

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::clock::{MonotonicTime, Timestamp};
use crate::config::{DeadLettersConfig, SpoolConfig};
use crate::rules::SinkName;
use crate::source::Receipt;
use crate::tasks::{self, TaskKind};

use budget::Budget;
use change::{Before, Change};
use command::Command;
use purge::Purge;
use store::{DeliveryRow, Remembered};
use tally::{Tallied, Tallies};
use writer::Writer;

/// How often [`Spool::open_when_free`] looks whether the other relay has gone.
const LOCK_RETRY: Duration = Duration::from_secs(1);

/// What [`Spool::problem`] says at the end.
const CLOSED: &str = "the spool is closed: nothing more can be stored by this run of the relay";

/// Why messages stay unacknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Block {
    /// A sink's share, or the whole, has no room.
    SpoolFull,
    /// `dead_letters.max_size` is reached.
    DeadLettersFull,
    /// The disk is full, or fails.
    Disk,
}

impl Block {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::SpoolFull, Self::DeadLettersFull, Self::Disk];

    /// The word used in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SpoolFull => "spool_full",
            Self::DeadLettersFull => "dead_letters_full",
            Self::Disk => "disk",
        }
    }
}

/// What is said of what was asked for and not done at the end.
const STOPPED: &str = "the relay stopped before it was done";

/// The spool of a running relay: the only writer of the file.
#[derive(Debug)]
pub struct Spool {
    path: PathBuf,
    to: Sender<Command>,
    shared: Arc<Shared>,
    writer: JoinHandle<()>,
}

/// What the writer tells of itself.
#[derive(Debug)]
struct Shared {
    tallies: Mutex<Tallies>,
    budget: Mutex<Budget>,
    problem: Mutex<Option<(Block, String)>>,
    last_row: AtomicI64,
    states: Mutex<BTreeMap<Subject, String>>,
    copies: Mutex<Option<SinkName>>,
    /// Due times were written down in this boot.
    clock_goes_on: AtomicBool,
    /// So many of the next commits are made and reported as failed: what a sync that fails can come to.
    #[cfg(test)]
    unknown_commits: std::sync::atomic::AtomicUsize,
}

/// What can be remembered of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A sink.
    Sink(String),
    /// A source.
    Source(String),
}

impl Subject {
    fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Sink(name) => ("sink", name),
            Self::Source(name) => ("source", name),
        }
    }
}

impl Shared {
    fn tallies(&self) -> MutexGuard<'_, Tallies> {
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn budget(&self) -> MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // What is counted in the file comes here as it is: no lock is held while it is counted.

    fn recount_deliveries(&self, sizes: Vec<(SinkName, Sizes)>) {
        self.budget().recount(sizes);
    }

    fn recount_letters(&self, tallied: Tallied) {
        self.tallies().recount(tallied);
    }

    fn set_oldest(&self, sink: &SinkName, oldest: Option<Timestamp>) {
        self.budget().set_oldest(sink, oldest);
    }

    fn states(&self) -> MutexGuard<'_, BTreeMap<Subject, String>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_states(&self, states: Vec<(String, String, String)>) {
        for (kind, name, state) in states {
            let of = if kind == "sink" { Subject::Sink(name) } else { Subject::Source(name) };
            self.states().insert(of, state);
        }
    }

    fn go_on_after(&self, last: RowId) {
        self.last_row.fetch_max(last.0, Ordering::Relaxed);
    }

    /// The sink that gets a copy of each dead letter.
    fn copies(&self) -> MutexGuard<'_, Option<SinkName>> {
        self.copies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be written, if there is room.
    fn row(&self, waiting: Waiting, limits: Limits) -> Option<DeliveryRow> {
        let properties = waiting.message.properties.to_json();
        let footprint = waiting.footprint(&properties);
        let size = self.budget().reserve_row(&waiting.sink, &footprint, limits)?;
        let id = RowId(self.last_row.fetch_add(1, Ordering::Relaxed).saturating_add(1));
        Some(DeliveryRow { id, waiting, properties, size })
    }

    /// A commit that succeeded is reported as failed, where a test asks for it.
    #[cfg(test)]
    fn lose_end(&self, path: &Path) -> Result<(), SpoolError> {
        let less = |left: usize| left.checked_sub(1);
        match self.unknown_commits.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less) {
            Ok(_) => Err(SpoolError::io(path, "the commit failed", std::io::Error::other("as the test asks"))),
            Err(_) => Ok(()),
        }
    }

    fn set_problem(&self, problem: Option<(Block, String)>) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }
}

impl Spool {
    /// Opens the file, creates it and its directory if they aren't there, and starts its writer. Blocks for as long as the
    /// disk takes.
    ///
    /// Another relay that holds the file is [`SpoolError::Held`].
    pub fn open(config: &SpoolConfig, dead_letters: &DeadLettersConfig) -> Result<Self, SpoolError> {
        let (to, from) = mpsc::channel();
        let shared = Arc::new(Shared {
            tallies: Mutex::default(),
            budget: Mutex::new(Budget::new(config)),
            problem: Mutex::default(),
            last_row: AtomicI64::new(0),
            states: Mutex::default(),
            copies: Mutex::default(),
            clock_goes_on: AtomicBool::new(true),
            #[cfg(test)]
            unknown_commits: 0.into(),
        });
        let writer = Writer::open(config, dead_letters, from, Arc::clone(&shared))?;
        let path = writer.path().to_owned();
        let writer = tasks::spawn_thread(TaskKind::SpoolWriter, "spool".to_owned(), move || writer.run())
            .map_err(|cause| SpoolError::io(&config.path, "no thread can be started to write to it", cause))?;
        Ok(Self { path, to, shared, writer })
    }

    /// Like [`open`](Self::open), but waits for as long as another relay holds the file; each time that is found so, `told`
    /// hears who.
    pub async fn open_when_free(
        config: &SpoolConfig,
        dead_letters: &DeadLettersConfig,
        mut told: impl FnMut(&SpoolError),
    ) -> Result<Self, SpoolError> {
        loop {
            let (config, dead_letters) = (config.clone(), dead_letters.clone());
            let path = config.path.clone();
            let opened = tokio::task::spawn_blocking(move || Self::open(&config, &dead_letters)).await;
            match opened.map_err(|cause| SpoolError::io(&path, "it can't be opened", std::io::Error::other(cause)))? {
                Err(held @ SpoolError::Held { .. }) => told(&held),
                end => return end,
            }
            tokio::time::sleep(LOCK_RETRY).await;
        }
    }

    /// Where the file really lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// From now on each new dead letter is copied to that sink, if there is room: none, to no sink.
    pub fn copy_dead_letters_to(&self, sink: Option<SinkName>) {
        *self.shared.copies() = sink;
    }

    /// Stores a dead letter. Returns at once; `receipt` settles when the letter is on disk, and is dropped only if the relay
    /// stops before that could be done.
    pub fn store(&self, letter: DeadLetter, receipt: Receipt) {
        self.ask(Command::Bury(Box::new(letter), Before::Message(receipt)));
    }

    /// The same in place of a delivery that waits here, which stays the caller's until [`News::Buried`].
    pub fn bury(&self, letter: DeadLetter, id: RowId, sink: SinkName) {
        self.ask(Command::Bury(Box::new(letter), Before::Row(id, sink)));
    }

    /// Puts a delivery to disk, if there is room for it, and gives it a number; `receipt` settles when it is there. While
    /// `is_attempted` it is in the caller's hands, as if it had been [taken](Self::take).
    pub fn spill(
        &self,
        waiting: Waiting,
        receipt: Receipt,
        is_attempted: bool,
        limits: Limits,
    ) -> Result<RowId, Receipt> {
        let Some(row) = self.shared.row(waiting, limits) else { return Err(receipt) };
        let id = row.id;
        let change = Change::Deliver(Box::new(row), receipt);
        self.ask(Command::Change { change, claim: is_attempted.then_some(id) });
        Ok(id)
    }

    /// A delivery is done: it goes, and the next of its key is due.
    pub fn done(&self, id: RowId, sink: SinkName) {
        self.change(Change::Done { id, sink });
    }

    /// A delivery is to be attempted again, then.
    pub fn reschedule(&self, id: RowId, sink: SinkName, attempts: u32, due: MonotonicTime, mut cause: String) {
        letter::cut(&mut cause, delivery::MAX_CAUSE);
        self.change(Change::Again { id, sink, attempts, refusals: None, due, cause });
    }

    /// The same for one that the destination refused, so often by now.
    pub fn reschedule_refused(
        &self,
        id: RowId,
        sink: SinkName,
        (attempts, refusals): (u32, u32),
        due: MonotonicTime,
        mut cause: String,
    ) {
        letter::cut(&mut cause, delivery::MAX_CAUSE);
        self.change(Change::Again { id, sink, attempts, refusals: Some(refusals), due, cause });
    }

    /// What would be due later is due then.
    pub fn make_due(&self, sink: SinkName, then: MonotonicTime) {
        self.change(Change::MakeDue(sink, then));
    }

    /// Due times, pauses and open breakers were written down in this boot, or there were none. False: the wall clock was wrong then, or is
    /// now, for all that is known.
    #[must_use]
    pub fn clock_goes_on(&self) -> bool {
        self.shared.clock_goes_on.load(Ordering::Relaxed)
    }

    /// Asks for deliveries of the sink that are due, no more than `portion`. They come as [`News::Due`], after all that was handed in
    /// before, and are the caller's until it says what became of each. One question at a time.
    pub fn take(&self, sink: SinkName, portion: Portion) {
        self.change(Change::Take { sink, portion });
    }

    /// What waits for a sink, and all news of it from now on. None: the spool is closed.
    pub async fn watch(&self, sink: SinkName) -> Option<Watch> {
        let (begun, watch) = oneshot::channel();
        self.change(Change::Watch { sink, begun });
        watch.await.ok()
    }

    /// Keeps what must not be forgotten when the relay restarts, as JSON; none: nothing is to be remembered any more.
    pub fn remember(&self, of: Subject, state: Option<String>) {
        match state.clone() {
            Some(state) => self.shared.states().insert(of.clone(), state),
            None => self.shared.states().remove(&of),
        };
        self.change(Change::Remember(Remembered { of, state }));
    }

    /// What is remembered.
    #[must_use]
    pub fn remembered(&self, of: &Subject) -> Option<String> {
        self.shared.states().get(of).cloned()
    }

    /// Puts deliveries in the place of a dead letter or an orphan; what comes in later comes after them. The answer is false where
    /// that is gone already. What can't be done is a sentence.
    pub fn redrive(
        &self,
        from: Origin,
        all: Vec<Waiting>,
    ) -> Result<impl Future<Output = Result<bool, String>> + use<>, String> {
        let mut rows = Vec::with_capacity(all.len());
        for waiting in all {
            let sink = waiting.sink.clone();
            if let Some(row) = self.shared.row(waiting, Limits::Kept) {
                rows.push(row);
                continue;
            }
            for row in rows {
                self.shared.budget().not_needed(&row.waiting.sink, row.size);
            }
            return Err(format!("the spool has no room for sink {sink}"));
        }
        let (done, redriven) = oneshot::channel();
        self.change(Change::Redrive { from, rows, done });
        Ok(async { redriven.await.map_err(|_| STOPPED.to_owned()) })
    }

    /// What the deliveries of each sink take.
    #[must_use]
    pub fn shares(&self) -> Vec<(SinkName, Share)> {
        self.shared.budget().shares().map(|(sink, share)| (sink.clone(), *share)).collect()
    }

    fn change(&self, change: Change) {
        self.ask(Command::Change { change, claim: None });
    }

    fn ask(&self, command: Command) {
        let can_wait = command.is_new_row();
        // A writer that is gone drops it, and with it what it holds: messages stay unacknowledged, and `problem` says so.
        let _ = self.to.send(command);
        if !can_wait {
            self.writer.thread().unpark();
        }
    }

    /// Deletes these dead letters, or these orphans; says how many there were, and counts them meanwhile. What couldn't be done is a
    /// sentence.
    pub async fn purge(&self, which: Unwanted, progress: &Arc<Progress>) -> Result<u64, String> {
        let (done, purged) = oneshot::channel();
        // Dropped with the writer, which is then heard of below.
        self.ask(Command::Purge(Purge::new(which, Arc::clone(progress), done)));
        purged.await.unwrap_or_else(|_| Err(STOPPED.to_owned()))
    }

    /// Why nothing can be stored at the moment, in a sentence with what to do.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.trouble().map(|(_, problem)| problem)
    }

    /// What [`problem`](Self::problem) is about.
    #[must_use]
    pub fn block(&self) -> Option<Block> {
        self.trouble().map(|(block, _)| block)
    }

    fn trouble(&self) -> Option<(Block, String)> {
        if self.writer.is_finished() {
            // It ended without saying so: a bug.
            return Some((Block::Disk, CLOSED.to_owned()));
        }
        let problem = self.shared.problem.lock().unwrap_or_else(PoisonError::into_inner).clone();
        problem.or_else(|| {
            let budget = self.shared.budget();
            let block = if budget.disk_is_full() { Block::Disk } else { Block::SpoolFull };
            budget.problem().map(|problem| (block, problem))
        })
    }

    /// Counts of dead letters by reason and sink: since start, and kept.
    #[must_use]
    pub fn tallies(&self) -> Vec<TallyRow> {
        self.shared.tallies().rows()
    }

    /// The size of all that is kept, in bytes, as `dead_letters.max_size` counts it.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shared.tallies().bytes()
    }

    /// Stores what still waits, at most for `grace`, and closes the file. What could not be stored by then is dropped
    /// unsettled, as is everything handed in later.
    pub async fn close(&self, grace: Duration) {
        let (done, closed) = oneshot::channel();
        let until = Instant::now() + grace;
        self.ask(Command::Close { until, done });
        // The other end is dropped only when the writer has ended, which is what we wait for.
        let _ = closed.await;
    }
}

#[cfg(test)]
mod tests;
