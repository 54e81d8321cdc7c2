//! The one thread that writes: many changes in one transaction, one fsync for all of them.

mod inbox;
mod upkeep;

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::change::{Before, Change, Held, Outcome};
use super::command::Command;
use super::damaged::Damaged;
use super::database::{Database, SpoolError};
use super::delivery::RowId;
use super::disk::Room;
use super::footprint::LastPage;
use super::letter::LetterRow;
use super::lock::Lock;
use super::purge::Purge;
use super::queue::{Queue, Space};
use super::store::Store;
use super::{Block, CLOSED, Shared, damage};
use crate::clock::{self, ClockBase};
use crate::config::{DeadLettersConfig, OnCorrupt, SpoolConfig};
use crate::rules::SinkName;
use crate::tasks::TaskKind;

/// New rows alone wait so long after a transaction for others to come: each transaction costs an fsync, and with a few rows in it
/// hardly less than with a thousand …
const BETWEEN_COMMITS: Duration = Duration::from_millis(40);
/// … but no longer than this when none come: who sends them may wait for these.
const NONE_COME: Duration = Duration::from_millis(10);
/// After a failed transaction, before the next one; doubles …
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// … up to this.
const LAST_RETRY: Duration = Duration::from_secs(10);
/// How often it is looked whether there is room again.
const FULL_RETRY: Duration = Duration::from_secs(1);
/// How often too old letters are looked for.
const PURGE_EVERY: Duration = Duration::from_hours(1);
/// How often the age of a sink's oldest delivery is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long the writer goes on when nobody can ask it to close any more.
const LAST_GRACE: Duration = Duration::from_secs(5);

/// The state of the thread.
pub(super) struct Writer {
    path: PathBuf,
    keep: Option<Duration>,
    max_letters: u64,
    from: Receiver<Command>,
    shared: Arc<Shared>,
    /// None after a failure, until it is open again.
    database: Option<Database>,
    next_letter: i64,
    /// Of the table of dead letters.
    last_page: LastPage,
    /// What is to be done next.
    queue: Queue,
    /// The transaction under way.
    batch: Vec<Change>,
    /// After a transaction that failed: what makes the file larger waits so long, so that what makes it smaller goes through.
    grow_after: Instant,
    /// The number of the last transaction that was tried.
    number: i64,
    /// What the transaction under way comes to if it is on disk, which its failed commit doesn't say.
    unknown: Option<Vec<Outcome>>,
    held: Held,
    committed: Instant,
    /// How many rows had come when it was last looked whether more do.
    gathered: usize,
    /// Something waits that is more than new rows.
    is_urgent: bool,
    purges: VecDeque<Purge>,
    retry: Duration,
    next_purge: Instant,
    /// The sinks whose deliveries have changed, and when they were last looked at.
    looked: HashMap<SinkName, Instant>,
    closing: Option<(Instant, Option<oneshot::Sender<()>>)>,
    lock: Lock,
}

impl Writer {
    pub(super) fn open(
        config: &SpoolConfig,
        dead_letters: &DeadLettersConfig,
        from: Receiver<Command>,
        shared: Arc<Shared>,
    ) -> Result<Self, SpoolError> {
        let path = Database::locate(&config.path)?;
        let lock = Lock::take(&path)?;
        let mut writer = Self {
            path,
            keep: dead_letters.keep,
            max_letters: dead_letters.max_size,
            from,
            shared,
            database: None,
            next_letter: 1,
            last_page: LastPage::default(),
            queue: Queue::default(),
            batch: Vec::new(),
            grow_after: Instant::now(),
            number: 0,
            unknown: None,
            held: Held::default(),
            committed: Instant::now(),
            gathered: 0,
            is_urgent: false,
            purges: VecDeque::new(),
            retry: FIRST_RETRY,
            next_purge: Instant::now(),
            looked: HashMap::new(),
            closing: None,
            lock,
        };
        let opened = match writer.open_first() {
            Err(damaged @ SpoolError::Corrupt { .. }) if config.on_corrupt == OnCorrupt::Quarantine => {
                let aside = damage::set_aside(&writer.path)?;
                tracing::error!(aside = %aside.display(), "{damaged}; it was set aside and a new one is begun");
                writer.open_first()
            }
            opened => opened,
        };
        writer.database = Some(opened?);
        Ok(writer)
    }

    /// Opens the file as whoever had it last left it.
    fn open_first(&mut self) -> Result<Database, SpoolError> {
        let is_doubtful = damage::was_left_open(&self.path);
        let database = Database::open(&self.path)?;
        if is_doubtful {
            damage::examine(&database, &self.path)?;
        }
        checkpoint_unless_busy(&database)?;
        self.set_clock(&database)?;
        let mended = database.mend_heads()?;
        if mended > 0 {
            tracing::error!(
                mended,
                "the spool {} didn't know of the oldest delivery of each key; it does again, and these are delivered",
                self.path.display()
            );
        }
        self.take_up(&database)?;
        self.number = database.last_batch()?;
        self.shared.set_states(database.states()?);
        let sinks: Vec<SinkName> = self.shared.budget().shares().map(|(sink, _)| sink.clone()).collect();
        for sink in sinks {
            self.shared.set_oldest(&sink, database.oldest(&sink)?);
        }
        Ok(database)
    }

    /// Due times are counted on from where an earlier run of this boot began, or begin here.
    fn set_clock(&self, database: &Database) -> Result<(), SpoolError> {
        let kept = database.clock()?;
        let goes_on = kept.is_some_and(clock::restore);
        self.shared.clock_goes_on.store(goes_on, Ordering::Relaxed);
        if goes_on {
            return Ok(());
        }
        match database.set_clock(ClockBase::now()) {
            // The next start counts anew, too: that delays nothing by more than its back-off.
            Err(error) if Room::of(&self.path) == Room::None => {
                tracing::warn!(%error, "the disk of the spool is full: what its times are counted from could not be written");
                Ok(())
            }
            done => done,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads from the file what the writer has to know of it.
    fn take_up(&mut self, database: &Database) -> Result<(), SpoolError> {
        let (last_letter, last_row) = database.last_ids()?;
        self.next_letter = self.next_letter.max(last_letter.saturating_add(1));
        self.shared.go_on_after(RowId(last_row));
        self.shared.recount_deliveries(database.sizes()?);
        self.recount(database)
    }

    fn recount(&self, database: &Database) -> Result<(), SpoolError> {
        self.shared.recount_letters(database.tally()?);
        Ok(())
    }

    /// Until it is closed.
    pub(super) fn run(mut self) {
        loop {
            self.take_waiting();
            if self.is_over() {
                break;
            }
            if self.may_gather() {
                self.gathered = self.queue.len();
                // Whoever asks for more than a new row unparks us: waking up for each row would cost more than writing it.
                let left = (self.committed + BETWEEN_COMMITS).saturating_duration_since(Instant::now());
                std::thread::park_timeout(left.min(NONE_COME));
                continue;
            }
            self.gathered = 0;
            TaskKind::SpoolWriter.panic_if_requested();
            match self.work() {
                Ok(true) => {}
                Ok(false) => self.wait(self.next_look()),
                Err(error) => {
                    self.give_up_handle(&error);
                    self.wait(Instant::now() + self.retry);
                    self.retry = (self.retry * 2).min(LAST_RETRY);
                }
            }
        }
        self.end();
    }

    /// Does one transaction; says whether there may be more to do at once.
    fn work(&mut self) -> Result<bool, SpoolError> {
        let room = Room::of(&self.path);
        self.shared.budget().set_disk_is_full(room == Room::None);
        let database = match self.database.take() {
            Some(database) => database,
            None => self.reopen()?,
        };
        let done = self.work_with(&database, room)?;
        // Put back only when all went well.
        self.database = Some(database);
        self.retry = FIRST_RETRY;
        Ok(done)
    }

    /// There are new rows and nothing else, some of which have just come, and more may before it is time for them.
    fn may_gather(&self) -> bool {
        self.closing.is_none()
            && self.database.is_some()
            && self.batch.is_empty()
            && self.committed.elapsed() < BETWEEN_COMMITS
            && self.queue.len() > self.gathered
            && !self.queue.is_more_than_a_batch()
            && !self.is_urgent
    }

    fn reopen(&mut self) -> Result<Database, SpoolError> {
        let database = Database::open(&self.path)?;
        database.checkpoint()?;
        if self.unknown.is_some() {
            let is_on_disk = database.last_batch()? == self.number;
            match self.unknown.take() {
                Some(outcomes) if is_on_disk => self.settle(outcomes),
                _ => self.undo(),
            }
        }
        self.take_up(&database)?;
        Ok(database)
    }

    fn work_with(&mut self, database: &Database, room: Room) -> Result<bool, SpoolError> {
        let mut more = Instant::now() >= self.next_purge && self.purge(database, room)?;
        self.assemble(room);
        if self.batch.is_empty() && self.queue.held_up() > 0 {
            // What is too old may make room before its hour has come, and what somebody has seen.
            more |= self.purge(database, room)? || self.purge_asked(database, room)?;
            self.assemble(room);
        }
        if !self.batch.is_empty() {
            self.commit(database)?;
            more = true;
            if room != Room::Plenty {
                checkpoint_unless_busy(database)?;
            }
        }
        if self.queue.is_empty() {
            // What drained leaves room in the file; the disk gets it back some at a time, when nobody waits.
            more |= upkeep::give_back(database, room, room != Room::Plenty)?;
        }
        if self.may_grow() {
            let problem = self.no_room_for_letters().or_else(|| self.no_room_on_disk());
            self.shared.set_problem(problem);
        }
        self.look_at_ages(database)?;
        Ok(more | self.purge_asked(database, room)?)
    }

    /// Whether the file may become larger, as far as the last transaction says.
    fn may_grow(&self) -> bool {
        self.closing.is_some() || Instant::now() >= self.grow_after
    }

    /// The next transaction.
    fn assemble(&mut self, disk: Room) {
        if !self.batch.is_empty() {
            return;
        }
        let letters = self.max_letters.saturating_sub(self.shared.tallies().bytes());
        let space = Space { disk, letters, may_grow: self.may_grow() };
        let mut batch = self.queue.assemble(space);
        if batch.changes.is_empty() && !space.may_grow {
            // Nothing goes before it.
            let over = std::mem::take(&mut batch.over);
            batch = self.queue.assemble(Space { may_grow: true, ..space });
            batch.over.extend(over);
        }
        for change in batch.over {
            change.settle_unwritten(&mut self.held, &self.shared);
        }
        self.batch = batch.changes;
    }

    /// How many changes wait.
    fn waiting(&self) -> usize {
        self.batch.len() + self.queue.len() + self.queue.held_up()
    }

    fn commit(&mut self, database: &Database) -> Result<(), SpoolError> {
        let (batch, held) = (&self.batch, &mut self.held);
        self.number += 1;
        let number = self.number;
        let mut outcomes = Vec::with_capacity(batch.len());
        let done = database.transact(|| {
            for change in batch {
                outcomes.push(change.apply(database, held)?);
            }
            if batch.iter().all(Change::is_question) { Ok(()) } else { database.set_batch(number) }
        });
        #[cfg(test)]
        let done = done.and_then(|()| self.shared.lose_end(&self.path));
        if let Err(error) = done {
            if outcomes.len() == self.batch.len() {
                self.unknown = Some(outcomes);
            } else {
                self.undo();
            }
            return Err(error);
        }
        self.settle(outcomes);
        Ok(())
    }

    /// The transaction is not on disk: it is made again, in smaller ones.
    fn undo(&mut self) {
        self.held.forget_noted();
        if self.batch.iter().any(|change| change.size() > 0) {
            self.grow_after = Instant::now() + FULL_RETRY;
        }
        self.queue.put_back(std::mem::take(&mut self.batch));
    }

    /// The transaction is on disk.
    fn settle(&mut self, outcomes: Vec<Outcome>) {
        self.held.keep_noted();
        self.committed = Instant::now();
        self.is_urgent = !self.queue.is_empty();
        self.queue.succeeded();
        if self.batch.iter().any(|change| change.size() > 0) {
            self.grow_after = self.committed;
        }
        for (change, mut outcome) in self.batch.drain(..).zip(outcomes) {
            for sink in change.sinks() {
                self.looked.entry(sink.clone()).or_insert_with(Instant::now);
            }
            if let (Change::Watch { sink, .. }, Outcome::Begun(lanes)) = (&change, &mut outcome) {
                // They are written later, and its dispatcher is to know of them.
                lanes.extend(self.queue.lanes(sink).into_iter().map(|lane| (lane, 1)));
            }
            change.settle(outcome, &mut self.held, &self.shared);
        }
        for damaged in std::mem::take(&mut self.held.damaged) {
            self.bury_damaged(damaged);
        }
    }

    /// A delivery can't be read: a dead letter takes its place.
    fn bury_damaged(&mut self, Damaged { id, letter, properties }: Damaged) {
        let Some(sink) = letter.sink.clone() else { return };
        tracing::error!(%sink, detail = letter.detail, "a delivery can't be read and becomes a dead letter; all others go on");
        self.held.bury(&sink, id);
        let row = LetterRow::with_properties(self.next_letter, letter, false, properties, &mut self.last_page);
        self.next_letter = self.next_letter.saturating_add(1);
        let copy = self.copy_of(&row);
        self.queue.push(Change::Letter { row: Box::new(row), copy, before: Before::Row(id, sink) });
    }

    fn no_room_for_letters(&self) -> Option<(Block, String)> {
        let (first, count) = self.queue.first_letter()?;
        let size = first.letter_size().unwrap_or_default();
        if self.shared.tallies().bytes().saturating_add(size) <= self.max_letters {
            return None;
        }
        let problem = format!(
            "the dead letters have reached `dead_letters.max_size` ({} bytes; the next one takes {size}): nothing more can be \
             stored and {count} wait, unacknowledged; look at them with `regards-relay dead-letters list`, then `purge` those that \
             are dealt with, or raise `max_size` or set `keep` and restart",
            self.max_letters,
        );
        Some((Block::DeadLettersFull, problem))
    }

    fn no_room_on_disk(&self) -> Option<(Block, String)> {
        let waiting = self.queue.held_up();
        let problem = || {
            format!(
                "the disk of the spool is nearly full: nothing more is put there, and {waiting} changes wait, their messages \
                 unacknowledged; make room on it"
            )
        };
        (waiting > 0).then(|| (Block::Disk, problem()))
    }

    /// Nothing is known of the last transaction, so the handle isn't used again: what is to be done counts as not done.
    fn give_up_handle(&mut self, error: &SpoolError) {
        self.database = None;
        let waiting = self.waiting();
        tracing::error!(waiting, "{error}; trying again in {:?}", self.retry);
        let problem = format!("{error}; {waiting} changes wait, their messages unacknowledged, and are tried again");
        self.shared.set_problem(Some((Block::Disk, problem)));
    }

    fn is_over(&self) -> bool {
        // Dead letters are put aside when there is no room for them, and none will come in the time that is left.
        let is_done =
            self.queue.is_empty() && self.batch.is_empty() && (self.queue.held_up() == 0 || self.database.is_some());
        self.closing.as_ref().is_some_and(|(until, _)| is_done || Instant::now() >= *until)
    }

    fn end(self) {
        let waiting = self.waiting();
        if waiting > 0 {
            tracing::error!(
                waiting,
                "not all could be stored before the relay stops: what wasn't stays unacknowledged"
            );
        }
        self.shared.set_problem(Some((Block::Disk, CLOSED.to_owned())));
        let Self { queue, batch, database, lock, closing, from, .. } = self;
        drop((queue, batch, from));
        drop(database);
        drop(lock);
        if let Some((_, Some(done))) = closing {
            // Who asked may have stopped waiting.
            let _ = done.send(());
        }
    }
}

/// Empties the log, unless a reader holds it up: where no commit has failed, that can wait.
fn checkpoint_unless_busy(database: &Database) -> Result<(), SpoolError> {
    match database.checkpoint() {
        Err(busy) if busy.is_busy() => {
            tracing::warn!("{busy}");
            Ok(())
        }
        end => end,
    }
}
