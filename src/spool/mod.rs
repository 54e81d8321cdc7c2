//! The spool: deliveries and dead letters on disk.
//!
//! One relay owns the spool, and one thread writes to it (`writer`). Other processes with permission can read it meanwhile
//! ([`SpoolReader`]). The writer gathers changes (`change`) in batches, which a store (`store`) applies, each batch in one transaction;
//! `sqlite` keeps the spool in a file, `postgres` where several machines
//! can reach it. A change is on disk, fsynced, before the [`Receipt`] of its message settles.
//!
//! The sources bound the memory: a change that can't be written yet keeps its message unacknowledged, so the changes in memory never take
//! more than the prefetch of all sources.
//!
//! Of each ordering key only the oldest delivery is ever due. This module doesn't know why an attempt failed or when the next one is due:
//! its caller tells it.

mod alerts;
mod budget;
mod change;
mod command;
mod component;
mod counts;
mod dead_letter;
mod delivery;
mod digest;
mod error;
mod instances;
mod lease;
mod open_shards;
mod outcome;
mod postgres;
mod progress;
mod purge;
mod queue;
mod reader;
mod remote_commands;
mod request;
mod row_size;
mod shard_watch;
mod shared;
mod sqlite;
mod store;
mod transfer;
mod unreadable;
mod writer;
mod writer_state;

pub use budget::{SinkUsage, SizeLimits, Usage};
pub use change::{RedriveOrigin, Subscription};
pub use component::Component;
pub use counts::{DeadLetterCount, DeadLetterCountRow};
pub use dead_letter::DeadLetter;
pub use delivery::{
    DigestLimit, DueDeliveries, FetchLimit, GroupTiming, Groups, RowId, SpoolEvent, SpooledDelivery, WaitsFor,
};
pub use error::SpoolError;
pub use instances::{Instance, Instances, LeaseOfInstance, warning as configuration_warning};
pub use open_shards::OpenShards;
pub use progress::Progress;
pub use purge::PurgeTarget;
pub use reader::{
    BacklogSummary, DeadLetterFilter, DeadLetterSummary, DeadLetters, DeliveryFilter, ListedDelivery, OverdueRequest,
    ShardName, SpoolReader, StoredDeadLetter, WatchedBy,
};
pub use remote_commands::{
    CommandClient, CommandQueue, NewCommand, NewStep, RemoteJob, StepEnd, StepState, TakenStep, WantedSteps,
};
pub use request::{
    DueKind, DueRequests, RequestCount, RequestEvent, RequestId, RequestLimits, RequestLosses, RequestState,
    RequestStep, Watch, WatchedRequest,
};
pub use shard_watch::{ShardState, ShardView, ShardWatch};
pub use transfer::{RowCounts, to_postgres, to_sqlite};

use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::clock::MonotonicTime;
use crate::config::{DeadLettersConfig, SpoolConfig, StoreConfig};
use crate::journal::Journal;
use crate::rules::SinkName;
use crate::source::Receipt;
use crate::tasks::{self, TaskKind};

use change::{
    AddDelivery, Change, Complete, CompleteDigest, DeadLetterOrigin, FetchDue, GiveBack, MakeDue, MakeFullGroupsDue,
    Redrive, Reschedule, SaveState, Subscribe,
};
use command::WriterCommand;
use lease::Lease;
use postgres::PostgresStore;
use purge::Purge;
use shared::Shared;
use sqlite::SqliteStore;
use store::Store;
use writer::Writer;

/// How often [`Spool::open_when_free`] tries again.
const OPEN_RETRY: Duration = Duration::from_secs(1);

const CLOSED: &str = "the spool is closed: this run of the relay can store nothing more";

/// The answer to a request that the writer had not finished when it ended.
const STOPPED: &str = "the relay stopped before it was done";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockReason {
    /// A sink has reached `max_share`, or all sinks `spool.max_size`.
    SpoolFull,
    /// The dead letters have reached `dead_letters.max_size`.
    DeadLettersFull,
    /// The disk is full, or fails.
    Disk,
}

impl BlockReason {
    pub const ALL: [Self; 3] = [Self::SpoolFull, Self::DeadLettersFull, Self::Disk];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SpoolFull => "spool_full",
            Self::DeadLettersFull => "dead_letters_full",
            Self::Disk => "disk",
        }
    }
}

/// The spool of a running relay: its only writer.
#[derive(Debug)]
pub struct Spool {
    name: String,
    shard: String,
    lease: Option<Lease>,
    reader: SpoolReader,
    to: Sender<WriterCommand>,
    shared: Arc<Shared>,
    writer: JoinHandle<()>,
}

impl Spool {
    /// Opens the spool, creates it if it is missing, and starts the writer. Blocks for as long as the disk takes.
    ///
    /// [`SpoolError::InUse`]: another relay uses it.
    pub fn open(config: &SpoolConfig, dead_letters: &DeadLettersConfig) -> Result<Self, SpoolError> {
        Self::open_with(config, dead_letters, RequestLimits::default(), Arc::default())
    }

    fn open_with(
        config: &SpoolConfig,
        dead_letters: &DeadLettersConfig,
        limits: RequestLimits,
        instances: Arc<Instances>,
    ) -> Result<Self, SpoolError> {
        let (to, from) = mpsc::channel();
        let shared = Arc::new(Shared::new(config));
        let (opened, opening) = mpsc::channel();
        let open = {
            let (config, dead_letters, shared) = (config.store.clone(), dead_letters.clone(), Arc::clone(&shared));
            move || -> Result<_, SpoolError> {
                let store: Box<dyn Store> = match &config {
                    StoreConfig::Sqlite(file) => Box::new(SqliteStore::open(file)?),
                    StoreConfig::Postgres(database) => Box::new(PostgresStore::open(database, instances)?),
                };
                let (name, lease) = (store.name(), store.lease());
                Ok((name, lease, Writer::open(store, &dead_letters, limits, from, shared)?))
            }
        };
        // The thread that uses a store opens it, too.
        let work = move || match open() {
            Ok((name, lease, writer)) => {
                if opened.send(Ok((name, lease))).is_ok() {
                    writer.run();
                }
            }
            Err(error) => {
                // The caller waits for it.
                let _ = opened.send(Err(error));
            }
        };
        let failed = |error| SpoolError::thread(&config.store.to_string(), "its thread can't be started", error);
        let writer = tasks::spawn_thread(TaskKind::SpoolWriter, "spool".to_owned(), work).map_err(failed)?;
        let ended = || failed(std::io::Error::other("it ended before the spool was open"));
        let (name, lease) = opening.recv().map_err(|_| ended())??;
        Ok(Self {
            name,
            shard: config.store.shard().to_owned(),
            lease,
            reader: SpoolReader::new(&config.store),
            to,
            shared,
            writer,
        })
    }

    /// Like [`open`](Self::open), but waits until no other relay uses the shard and its database answers. `on_wait` gets the error of each try.
    pub async fn open_when_free(
        config: &SpoolConfig,
        dead_letters: &DeadLettersConfig,
        instances: &Arc<Instances>,
        mut on_wait: impl FnMut(&SpoolError),
    ) -> Result<Self, SpoolError> {
        loop {
            match Self::try_open(config, dead_letters, instances).await {
                Err(error) if error.is_passing() => {
                    on_wait(&error);
                    wait_to_try_again(&config.store, instances, &error).await;
                }
                opened => return opened,
            }
        }
    }

    /// Like [`open`](Self::open), on a thread that may block.
    pub async fn try_open(
        config: &SpoolConfig,
        dead_letters: &DeadLettersConfig,
        instances: &Arc<Instances>,
    ) -> Result<Self, SpoolError> {
        let (spool, dead_letters, others) = (config.clone(), dead_letters.clone(), Arc::clone(instances));
        let open = move || Self::open_with(&spool, &dead_letters, RequestLimits::default(), others);
        let failed = |error| {
            let error = std::io::Error::other(tasks::blocking_error("opening the spool", &error));
            SpoolError::thread(&config.store.to_string(), "it can't be opened", error)
        };
        tokio::task::spawn_blocking(open).await.map_err(failed)?
    }

    /// Its name for people. Another spool has another name; a file has its real path.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of the shard: the source whose queue it is about; empty: the whole spool, or all sources that have one queue.
    #[must_use]
    pub fn shard(&self) -> &str {
        &self.shard
    }

    /// Returns when the lease of a spool has ended that several machines can reach: this process must do nothing more.
    pub async fn lease_ended(&self) {
        match &self.lease {
            Some(lease) => lease.ended().await,
            None => std::future::pending().await,
        }
    }

    /// Whether this process may still begin attempts: always if no other machine can reach the spool.
    #[must_use]
    pub fn has_lease(&self) -> bool {
        self.lease.as_ref().is_none_or(Lease::is_valid)
    }

    #[must_use]
    pub fn reader(&self) -> &SpoolReader {
        &self.reader
    }

    /// From now on each new dead letter of an event is recorded in the journal.
    pub fn record_dead_letters(&self, journal: Journal) {
        self.shared.set_journal(journal);
    }

    /// From now on each new dead letter is copied to `sink`, if there is room for the copy; `None`: to no sink.
    pub fn copy_dead_letters_to(&self, sink: Option<SinkName>) {
        *self.shared.copy_sink() = sink;
    }

    /// Stores a dead letter. Returns at once. `receipt` settles when the dead letter is on disk; it is dropped only if the relay stops
    /// before that.
    pub fn store_dead_letter(&self, letter: DeadLetter, receipt: Receipt) {
        self.send(WriterCommand::AddDeadLetters(vec![letter], DeadLetterOrigin::Message(receipt)));
    }

    /// Replaces a delivery that the caller holds by a dead letter. The caller holds it until [`SpoolEvent::DeadLettered`]. `next` is for a
    /// sink with `group`.
    pub fn dead_letter(&self, letter: DeadLetter, id: RowId, sink: SinkName, next: Option<GroupTiming>) {
        self.dead_letter_all(vec![(id, letter)], sink, next);
    }

    /// [`dead_letter`](Self::dead_letter) for all deliveries of a digest, in one transaction.
    pub fn dead_letter_all(&self, letters: Vec<(RowId, DeadLetter)>, sink: SinkName, next: Option<GroupTiming>) {
        let (ids, letters) = letters.into_iter().unzip();
        self.send(WriterCommand::AddDeadLetters(letters, DeadLetterOrigin::Deliveries(ids, sink, next)));
    }

    /// Stores a delivery and returns its id; without room for it the receipt comes back. `receipt` settles when the delivery is on disk.
    /// With `is_attempted` the caller holds the delivery, as if it had been [fetched](Self::fetch_due).
    pub fn spill(
        &self,
        delivery: SpooledDelivery,
        receipt: Receipt,
        is_attempted: bool,
        limits: SizeLimits,
    ) -> Result<RowId, Receipt> {
        let Some(row) = self.shared.reserve(delivery, limits) else { return Err(receipt) };
        let id = row.id;
        self.send(WriterCommand::AddDelivery {
            add: AddDelivery { row: Box::new(row), receipt, was_blocked: false },
            is_attempted,
        });
        Ok(id)
    }

    /// Removes a delivery that has ended; the next one of its key becomes due.
    pub fn complete(&self, id: RowId, sink: SinkName) {
        self.change(Change::Complete(Complete { id, sink }));
    }

    /// Removes the deliveries of a digest that has ended; the next digest of its group becomes due as `next` says.
    pub fn complete_digest(&self, ids: Vec<RowId>, sink: SinkName, next: GroupTiming) {
        self.change(Change::CompleteDigest(CompleteDigest { ids, sink, next }));
    }

    /// Makes those of the groups due that wait for more events and are full. [`SpoolEvent::MoreDue`] follows if there is one.
    pub fn make_full_groups_due(&self, sink: SinkName, groups: Groups, limit: DigestLimit) {
        self.change(Change::MakeFullGroupsDue(MakeFullGroupsDue { sink, groups, limit }));
    }

    /// Takes back deliveries that the caller has fetched and not attempted.
    pub fn give_back(&self, sink: SinkName, ids: Vec<RowId>) {
        self.change(Change::GiveBack(GiveBack { sink, ids }));
    }

    /// The last id that was given to a delivery.
    #[must_use]
    pub fn last_row(&self) -> RowId {
        self.shared.last_row()
    }

    /// Makes a delivery due again after a failed attempt. Without `refusals` their count stays as it is.
    pub fn reschedule(&self, id: RowId, sink: SinkName, counts: (u32, Option<u32>), due: MonotonicTime, error: String) {
        self.reschedule_digest((id, Vec::new()), sink, counts, due, error);
    }

    /// [`reschedule`](Self::reschedule) for the first and all other deliveries of a digest.
    pub fn reschedule_digest(
        &self,
        (id, others): (RowId, Vec<RowId>),
        sink: SinkName,
        (attempts, refusals): (u32, Option<u32>),
        due: MonotonicTime,
        mut error: String,
    ) {
        dead_letter::cut(&mut error, delivery::MAX_ERROR);
        self.change(Change::Reschedule(Reschedule { id, others, sink, attempts, refusals, due, error }));
    }

    /// Makes the deliveries of a sink that wait for this due at `at`, if they would be due later.
    pub fn make_due(&self, sink: SinkName, waits_for: WaitsFor, at: MonotonicTime) {
        self.change(Change::MakeDue(MakeDue { sink, waits_for, at }));
    }

    /// Whether due times, pauses and open breakers were written in this boot. If not, the wall clock may have been wrong then, or may be
    /// wrong now.
    #[must_use]
    pub fn is_same_boot(&self) -> bool {
        self.shared.is_same_boot()
    }

    /// Asks for due deliveries of a sink. [`SpoolEvent::Due`] has them, after all changes that were asked for before. The caller holds
    /// them until it completes, reschedules or dead-letters each. It asks again only after the answer.
    pub fn fetch_due(&self, sink: SinkName, limit: FetchLimit) {
        self.change(Change::FetchDue(FetchDue { sink, limit }));
    }

    /// The lanes of a sink's deliveries, and all events about them from now on. `None`: the spool is closed.
    pub async fn subscribe(&self, sink: SinkName) -> Option<Subscription> {
        let (done, subscription) = oneshot::channel();
        self.change(Change::Subscribe(Subscribe { sink, done }));
        subscription.await.ok()
    }

    /// Saves the state of a component that has to survive a restart, as JSON; `None` deletes it.
    pub fn save_state(&self, component: Component, state: Option<String>) {
        match state.clone() {
            Some(state) => self.shared.states().insert(component.clone(), state),
            None => self.shared.states().remove(&component),
        };
        self.change(Change::SaveState(SaveState { component, state }));
    }

    #[must_use]
    pub fn saved_state(&self, component: &Component) -> Option<String> {
        self.shared.states().get(component).cloned()
    }

    /// Replaces a dead letter or an orphan by deliveries; deliveries that are spooled later come after them. The answer is false if the
    /// dead letter or the orphan is gone already. Errors are texts for people.
    pub fn redrive(
        &self,
        origin: RedriveOrigin,
        deliveries: Vec<SpooledDelivery>,
    ) -> Result<impl Future<Output = Result<bool, String>> + use<>, String> {
        let rows = self.shared.reserve_all(deliveries, SizeLimits::Enforced)?;
        let (done, redriven) = oneshot::channel();
        self.change(Change::Redrive(Redrive { origin, rows, done }));
        Ok(async { redriven.await.map_err(|_| STOPPED.to_owned()) })
    }

    /// How much of the spool the deliveries of each sink use.
    #[must_use]
    pub fn sink_usage(&self) -> Vec<(SinkName, SinkUsage)> {
        self.shared.budget().sinks().map(|(sink, usage)| (sink.clone(), *usage)).collect()
    }

    /// How much the deliveries of all sinks may take, and those of one sink, in bytes.
    #[must_use]
    pub fn limits(&self) -> (u64, u64) {
        self.shared.budget().limits()
    }

    fn change(&self, change: Change) {
        self.send(WriterCommand::Change(change));
    }

    fn send(&self, command: WriterCommand) {
        let can_wait = command.is_new_row();
        // Without a writer the command is dropped with its receipt: the message stays unacknowledged, and `problem` says why.
        let _ = self.to.send(command);
        if !can_wait {
            self.writer.thread().unpark();
        }
    }

    /// Deletes dead letters or orphans. Returns how many, and counts them in `progress` meanwhile. Errors are texts for people.
    pub async fn purge(&self, target: PurgeTarget, progress: &Arc<Progress>) -> Result<u64, String> {
        let (done, purged) = oneshot::channel();
        self.send(WriterCommand::Purge(Purge::new(target, Arc::clone(progress), done)));
        purged.await.unwrap_or_else(|_| Err(STOPPED.to_owned()))
    }

    /// Why nothing can be stored at the moment, with what to do.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.block().map(|(_, problem)| problem)
    }

    #[must_use]
    pub fn block_reason(&self) -> Option<BlockReason> {
        self.block().map(|(reason, _)| reason)
    }

    fn block(&self) -> Option<(BlockReason, String)> {
        if self.writer.is_finished() {
            // Also if the thread ended without setting the problem, which would be a bug.
            return Some((BlockReason::Disk, CLOSED.to_owned()));
        }
        self.shared.problem().or_else(|| {
            let budget = self.shared.budget();
            let reason = if budget.disk_is_full() { BlockReason::Disk } else { BlockReason::SpoolFull };
            budget.problem().map(|problem| (reason, problem))
        })
    }

    #[must_use]
    pub fn dead_letter_counts(&self) -> Vec<DeadLetterCountRow> {
        self.shared.dead_letter_counts().rows()
    }

    /// The size of all dead letters, in bytes, as `dead_letters.max_size` counts it.
    #[must_use]
    pub fn dead_letter_bytes(&self) -> u64 {
        self.shared.dead_letter_counts().bytes()
    }

    /// Notes that attempts were cut off: they may still arrive after the spool has another owner.
    pub fn note_cut_attempts(&self) {
        self.shared.note_cut_attempts();
    }

    /// Writes the remaining changes, for at most `grace`, and closes the file. Changes that can't be written by then are dropped with their
    /// receipts, as are all later ones.
    pub async fn close(&self, grace: Duration) {
        let (done, closed) = oneshot::channel();
        let until = Instant::now() + grace;
        self.send(WriterCommand::Close { until, done });
        // The sender is dropped only when the writer has ended.
        let _ = closed.await;
    }
}

/// Returns when it makes sense to open the store again.
async fn wait_to_try_again(store: &StoreConfig, instances: &Instances, failed: &SpoolError) {
    if let (StoreConfig::Postgres(config), true) = (store, failed.is_standby())
        && postgres::wait_for_change(config, instances).await.is_ok()
    {
        return;
    }
    // The next try tells why the database can't be asked.
    tokio::time::sleep(OPEN_RETRY).await;
}

#[cfg(test)]
mod tests;
