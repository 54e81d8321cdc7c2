//! The one thread that writes: many letters in one transaction, one fsync for all of them.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rusqlite::params;
use tokio::sync::oneshot;

use super::database::{Database, SpoolError};
use super::lock::Lock;
use super::purge::{self, Purge};
use super::{CLOSED, DeadLetter, Shared, damage};
use crate::config::{DeadLettersConfig, OnCorrupt, SpoolConfig};
use crate::event::Reason;
use crate::rules::SinkName;
use crate::source::Receipt;

/// One transaction writes at most so many letters …
const MAX_BATCH: usize = 1_000;
/// … and begins no further one after so many bytes.
const MAX_BATCH_BYTES: u64 = 16 * 1024 * 1024;
/// What a letter takes beside its texts and its body: row, indexes, the rest of its last page. In bytes, about.
const OVERHEAD: usize = 512;
/// A cause is kept so far, in bytes.
const MAX_DETAIL: usize = 4 * 1024;
/// After a failed transaction, before the next one; doubles …
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// … up to this.
const LAST_RETRY: Duration = Duration::from_secs(10);
/// How often a spool that is full looks whether there is room again.
const FULL_RETRY: Duration = Duration::from_secs(1);
/// How often too old letters are looked for.
const PURGE_EVERY: Duration = Duration::from_hours(1);
/// How long the writer goes on when nobody can ask it to close any more.
const LAST_GRACE: Duration = Duration::from_secs(5);

/// What the writer is asked.
#[derive(Debug)]
pub(super) enum Command {
    Store(Box<Waiting>),
    Purge(Purge),
    Close { until: Instant, done: oneshot::Sender<()> },
}

/// A letter that isn't on the disk yet.
#[derive(Debug)]
pub(super) struct Waiting {
    letter: DeadLetter,
    at: i64,
    receipt: Receipt,
}

impl Waiting {
    pub(super) fn new(letter: DeadLetter, receipt: Receipt) -> Self {
        Self { letter, at: now(), receipt }
    }
}

/// A letter as it is written: made once, however often the writing fails.
#[derive(Debug)]
struct Row {
    /// Given once, so that writing it again after a commit of unknown end doesn't make two of it.
    id: i64,
    waiting: Waiting,
    properties: String,
    size: u64,
}

impl Row {
    fn new(id: i64, mut waiting: Waiting) -> Self {
        let letter = &mut waiting.letter;
        cut(&mut letter.detail, MAX_DETAIL);
        let properties = letter.message.properties.to_json();
        let texts =
            [Some(&letter.detail), letter.tenant.as_ref(), letter.status.as_ref(), letter.correlation_id.as_ref()];
        let texts: usize = texts.into_iter().flatten().map(String::len).sum();
        let size = OVERHEAD + texts + properties.len() + letter.message.body.len();
        Self { id, properties, size: u64::try_from(size).unwrap_or(u64::MAX), waiting }
    }
}

/// Why a transaction wasn't made.
enum Failure {
    /// `max_size` is reached.
    Full,
    /// Whether the transaction was made isn't known.
    Error(SpoolError),
}

impl From<SpoolError> for Failure {
    fn from(error: SpoolError) -> Self {
        Self::Error(error)
    }
}

/// The state of the thread.
pub(super) struct Writer {
    path: PathBuf,
    keep: Option<Duration>,
    max_size: u64,
    from: Receiver<Command>,
    shared: Arc<Shared>,
    /// None after a failure, until it is open again.
    database: Option<Database>,
    next_id: i64,
    queue: VecDeque<Row>,
    purges: VecDeque<Purge>,
    retry: Duration,
    next_purge: Instant,
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
            max_size: dead_letters.max_size,
            from,
            shared,
            database: None,
            next_id: 1,
            queue: VecDeque::new(),
            purges: VecDeque::new(),
            retry: FIRST_RETRY,
            next_purge: Instant::now(),
            closing: None,
            lock,
        };
        let opened = match writer.open_first() {
            Err(damaged @ SpoolError::Corrupt { .. }) if config.on_corrupt == OnCorrupt::SetAside => {
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
        match database.checkpoint() {
            // Not worth a relay that doesn't start: no commit of this process has failed yet.
            Err(busy) if busy.is_busy() => tracing::warn!("{busy}"),
            end => end?,
        }
        self.take_up(&database)?;
        Ok(database)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads from the file what the writer has to know of it.
    fn take_up(&mut self, database: &Database) -> Result<(), SpoolError> {
        let last = "SELECT max(coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'dead_letters'), 0), \
                    coalesce((SELECT max(id) FROM dead_letters), 0))";
        let last: i64 =
            database.connection.query_row(last, [], |row| row.get(0)).map_err(SpoolError::sqlite(&self.path))?;
        self.next_id = self.next_id.max(last.saturating_add(1));
        self.recount(database)
    }

    fn recount(&self, database: &Database) -> Result<(), SpoolError> {
        let count = || -> rusqlite::Result<_> {
            let mut statement = database
                .connection
                .prepare("SELECT reason, sink, count(*), sum(size) FROM dead_letters GROUP BY reason, sink")?;
            let mut rows = statement.query([])?;
            let (mut kept, mut bytes) = (Vec::new(), 0_u64);
            while let Some(row) = rows.next()? {
                bytes = bytes.saturating_add(u64::try_from(row.get::<_, i64>(3)?).unwrap_or(0));
                let sink: Option<String> = row.get(1)?;
                // A word that only a later version knows takes room, but has no counter here.
                if let Some(reason) = Reason::parse(row.get_ref(0)?.as_str()?) {
                    let count = u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0);
                    kept.push((reason, sink.as_deref().map(SinkName::new), count));
                }
            }
            Ok((kept, bytes))
        };
        let (kept, bytes) = count().map_err(SpoolError::sqlite(&self.path))?;
        self.shared.tallies.lock().unwrap_or_else(PoisonError::into_inner).recount(kept, bytes);
        Ok(())
    }

    /// Until it is closed.
    pub(super) fn run(mut self) {
        loop {
            self.take_waiting();
            if self.is_over() {
                break;
            }
            match self.work() {
                Ok(true) => {}
                Ok(false) => self.wait(self.next_purge),
                // No room will come in the time that is left.
                Err(Failure::Full) if self.closing.is_some() => break,
                Err(Failure::Full) => self.wait(Instant::now() + FULL_RETRY),
                Err(Failure::Error(error)) => {
                    self.give_up_handle(&error);
                    self.wait(Instant::now() + self.retry);
                    self.retry = (self.retry * 2).min(LAST_RETRY);
                }
            }
        }
        self.end();
    }

    /// Does one transaction; says whether there may be more to do at once.
    fn work(&mut self) -> Result<bool, Failure> {
        let database = match self.database.take() {
            Some(database) => database,
            None => self.reopen()?,
        };
        // Put back only when all went well.
        let done = self.work_with(&database);
        if !matches!(done, Err(Failure::Error(_))) {
            self.database = Some(database);
            self.retry = FIRST_RETRY;
        }
        done
    }

    fn reopen(&mut self) -> Result<Database, SpoolError> {
        let database = Database::open(&self.path)?;
        database.checkpoint()?;
        self.take_up(&database)?;
        Ok(database)
    }

    fn work_with(&mut self, database: &Database) -> Result<bool, Failure> {
        let purged = Instant::now() >= self.next_purge && self.purge(database)?;
        let stored = match self.store_batch(database) {
            // What is too old may make room before its hour has come, and what somebody has seen.
            Err(Failure::Full) if self.purge(database)? || self.purge_asked(database)? => true,
            end => end?,
        };
        if stored || self.queue.is_empty() {
            self.shared.set_problem(None);
        }
        Ok(purged | stored | self.purge_asked(database)?)
    }

    /// Stores the first letters that wait; says whether there were any.
    fn store_batch(&mut self, database: &Database) -> Result<bool, Failure> {
        let room =
            self.max_size.saturating_sub(self.shared.tallies.lock().unwrap_or_else(PoisonError::into_inner).bytes());
        let (mut count, mut bytes) = (0, 0_u64);
        for row in self.queue.iter().take(MAX_BATCH) {
            if bytes.saturating_add(row.size) > room || bytes > MAX_BATCH_BYTES {
                break;
            }
            bytes += row.size;
            count += 1;
        }
        if count == 0 {
            let Some(first) = self.queue.front() else { return Ok(false) };
            self.shared.set_problem(Some(format!(
                "the dead letters have reached `dead_letters.max_size` ({} bytes; the next one takes {}): nothing more can be stored \
                 and {} wait, unacknowledged; look at them with `regards-relay dead-letters list`, then `purge` those that are \
                 dealt with, or raise `max_size` or set `keep` and restart",
                self.max_size,
                first.size,
                self.queue.len(),
            )));
            return Err(Failure::Full);
        }
        self.insert(database, count).map_err(SpoolError::sqlite(&self.path))?;
        database.check_moved()?;
        self.settle(count);
        Ok(true)
    }

    fn insert(&self, database: &Database, count: usize) -> rusqlite::Result<()> {
        let transaction = database.connection.unchecked_transaction()?;
        let mut insert = transaction.prepare(
            "INSERT INTO dead_letters (id, at, reason, detail, sink, source, tenant, status, correlation_id, event_id, \
             attempts, size, properties, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14) \
             ON CONFLICT (id) DO NOTHING",
        )?;
        for row in self.queue.iter().take(count) {
            let letter = &row.waiting.letter;
            insert.execute(params![
                row.id,
                row.waiting.at,
                letter.reason.as_str(),
                letter.detail,
                letter.sink.as_ref().map(SinkName::as_str),
                letter.message.source.as_str(),
                letter.tenant,
                letter.status,
                letter.correlation_id,
                letter.event_id.as_ref().map(|id| id.as_bytes().as_slice()),
                letter.attempts,
                i64::try_from(row.size).unwrap_or(i64::MAX),
                row.properties,
                &*letter.message.body,
            ])?;
        }
        drop(insert);
        transaction.commit()
    }

    /// The first `count` letters of the queue are on the disk.
    fn settle(&mut self, count: usize) {
        let mut tallies = self.shared.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        for row in self.queue.drain(..count) {
            tallies.stored(row.waiting.letter.reason, row.waiting.letter.sink.as_ref(), row.size);
            row.waiting.receipt.settle();
        }
    }

    /// Deletes some of what is older than `keep`; says whether there may be more.
    fn purge(&mut self, database: &Database) -> Result<bool, SpoolError> {
        let Some(keep) = self.keep else {
            self.next_purge = Instant::now() + PURGE_EVERY;
            return Ok(false);
        };
        let before = now().saturating_sub(i64::try_from(keep.as_millis()).unwrap_or(i64::MAX));
        let purged = purge::delete_older(database, before).map_err(SpoolError::sqlite(&self.path))?;
        let more = purged > 0;
        if more {
            self.recount(database)?;
            tracing::info!(count = purged, "dead letters older than `dead_letters.keep` were purged");
        } else {
            self.next_purge = Instant::now() + PURGE_EVERY;
        }
        Ok(more)
    }

    /// Deletes some of what people asked for; says whether there may be more.
    fn purge_asked(&mut self, database: &Database) -> Result<bool, SpoolError> {
        let Some(mut purge) = self.purges.pop_front() else { return Ok(false) };
        let more = match purge.go_on(database).map_err(SpoolError::sqlite(&self.path)) {
            Ok(false) => self.recount(database).map(|()| false),
            more => more,
        };
        match more {
            Ok(true) => self.purges.push_front(purge),
            Ok(false) => purge.end(None),
            Err(error) => {
                purge.end(Some(error.to_string()));
                return Err(error);
            }
        }
        Ok(true)
    }

    /// Nothing is known of the last transaction, so the handle isn't used again: what is in the queue counts as unstored.
    fn give_up_handle(&mut self, error: &SpoolError) {
        self.database = None;
        let waiting = self.queue.len();
        tracing::error!(waiting, "{error}; trying again in {:?}", self.retry);
        self.shared
            .set_problem(Some(format!("{error}; {waiting} dead letters wait, unacknowledged, and are tried again")));
    }

    /// Until something comes in, at most until then, and not beyond the end of the grace.
    fn wait(&mut self, until: Instant) {
        // Once closing, nobody is there who would wake us.
        let end = self.closing.as_ref().map(|(end, _)| *end);
        let until = end.map_or(until, |end| until.min(end));
        let failed = self.database.is_none() || !self.queue.is_empty();
        loop {
            match self.from.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(command) => {
                    self.take(command);
                    // New letters don't cut a back-off short; a close does, for one more try.
                    if !failed || (end.is_none() && self.closing.is_some()) {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => {
                    if self.closing.is_none() {
                        self.closing = Some((Instant::now() + LAST_GRACE, None));
                        return;
                    }
                    std::thread::sleep(until.saturating_duration_since(Instant::now()));
                    return;
                }
            }
        }
    }

    fn take_waiting(&mut self) {
        loop {
            match self.from.try_recv() {
                Ok(command) => self.take(command),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    self.closing.get_or_insert_with(|| (Instant::now() + LAST_GRACE, None));
                    return;
                }
            }
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Store(waiting) => {
                self.queue.push_back(Row::new(self.next_id, *waiting));
                self.next_id = self.next_id.saturating_add(1);
            }
            Command::Purge(purge) => self.purges.push_back(purge),
            Command::Close { until, done } => self.closing = Some((until, Some(done))),
        }
    }

    fn is_over(&self) -> bool {
        self.closing.as_ref().is_some_and(|(until, _)| self.queue.is_empty() || Instant::now() >= *until)
    }

    fn end(self) {
        if !self.queue.is_empty() {
            tracing::error!(
                waiting = self.queue.len(),
                "dead letters could not be stored before the relay stops: their messages stay unacknowledged",
            );
        }
        self.shared.set_problem(Some(CLOSED.to_owned()));
        let Self { queue, database, lock, closing, from, .. } = self;
        drop((queue, from));
        drop(database);
        drop(lock);
        if let Some((_, Some(done))) = closing {
            // Who asked may have stopped waiting.
            let _ = done.send(());
        }
    }
}

/// Cuts `text` to at most so many bytes, between two characters.
fn cut(text: &mut String, bytes: usize) {
    let end = (0..=bytes).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    if text.len() > bytes {
        text.truncate(end);
    }
}

/// Milliseconds since 1970.
pub(super) fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}
