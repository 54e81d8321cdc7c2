//! The dispatcher's view of its sink's spooled deliveries: how many there are, which it has taken, and when to fetch more.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use foldhash::HashMap;

use crate::clock::MonotonicTime;
use crate::rules::SinkName;
use crate::spool::{DigestLimit, DueDeliveries, FetchLimit, RowId, Spool, SpooledDelivery};

/// The largest number of deliveries taken from the spool at once. After a crash the sink may get these twice.
pub(super) const WINDOW: usize = 1_000;
/// The largest number of bytes of the deliveries taken at once. Only a delivery of more than a quarter of it exceeds it, and deliveries
/// that are spooled while their attempts are in flight.
const WINDOW_BYTES: usize = 16 * 1024 * 1024;
/// More deliveries are fetched once this number or fewer are left, which is enough work until the next ones arrive.
const REFILL: usize = WINDOW * 3 / 4;
const REFILL_BYTES: usize = WINDOW_BYTES * 3 / 4;

/// So many changes of `group` are told apart while deliveries from before the first are spooled.
const MAX_BOUNDARIES: usize = 16;

/// A fetch whose result is not here yet.
#[derive(Debug)]
struct PendingFetch {
    /// It was asked for before the `group` changed.
    is_outdated: bool,
    /// When it was asked for, no delivery was taken. One that was, and has failed since, is not in the result.
    had_none_taken: bool,
}

#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// The number of spooled deliveries, with those that are not on disk yet.
    pub(super) count: u64,
    /// Taken from the spool, and due.
    due: VecDeque<(RowId, SpooledDelivery)>,
    /// Taken from the spool, with an attempt in flight (or becoming a dead letter), and the bytes of each in memory.
    in_flight: HashMap<RowId, usize>,
    /// The bytes of all deliveries that are taken.
    bytes: usize,
    pending_fetch: Option<PendingFetch>,
    /// The last fetch returned all deliveries that were due.
    has_all_due: bool,
    /// When more deliveries may be due.
    fetch_at: Option<Instant>,
    /// Set: digests are fetched.
    pub(super) digests: Option<DigestLimit>,
    /// The last delivery of each `group` that the sink had before. Deliveries up to the first of these are fetched until they are gone.
    pub(super) boundaries: VecDeque<RowId>,
}

impl Backlog {
    /// `count` deliveries were spooled by earlier runs.
    pub(super) fn new(count: u64) -> Self {
        Self { count, fetch_at: (count > 0).then(Instant::now), ..Self::default() }
    }

    /// Counts a delivery that was handed to the spool.
    pub(super) fn add(&mut self, due: Instant) {
        self.count += 1;
        self.fetch_at(due);
    }

    /// Counts a delivery that was handed to the spool while its attempt is in flight.
    pub(super) fn add_in_flight(&mut self, id: RowId, bytes: usize) {
        self.count += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        self.in_flight.insert(id, bytes);
    }

    /// Uncounts a delivery that was added, but had been stored by an earlier run.
    pub(super) fn remove_duplicate(&mut self) {
        self.count = self.count.saturating_sub(1);
    }

    /// Takes over the result of a fetch. Returns whether none of the deliveries that could be fetched is in the spool any more.
    pub(super) fn on_due(&mut self, due: DueDeliveries) -> bool {
        let had_none_taken = self.pending_fetch.take().is_some_and(|fetch| fetch.had_none_taken);
        let has_none = had_none_taken && due.rows.is_empty() && due.next.is_none();
        self.has_all_due = due.next.is_none_or(|next| next > MonotonicTime::now());
        self.bytes = due.rows.iter().fold(self.bytes, |sum, (_, row)| sum.saturating_add(row.message.size()));
        self.due.extend(due.rows);
        if let Some(next) = due.next {
            self.fetch_at(Instant::now() + next.remaining());
        }
        has_none
    }

    pub(super) fn pop(&mut self) -> Option<(RowId, SpooledDelivery)> {
        let (id, row) = self.due.pop_front()?;
        self.in_flight.insert(id, row.message.size());
        Some((id, row))
    }

    /// Pops the first digest: the first delivery, and those behind it that belong to the same digest.
    pub(super) fn pop_digest(&mut self) -> Vec<(RowId, SpooledDelivery)> {
        let rows = self.take_digest();
        self.in_flight.extend(rows.iter().map(|(id, row)| (*id, row.message.size())));
        rows
    }

    /// Without `group` each delivery is alone, also those that were in a digest before.
    fn take_digest(&mut self) -> Vec<(RowId, SpooledDelivery)> {
        let has_digests = self.digests.is_some();
        let mut rows: Vec<(RowId, SpooledDelivery)> = Vec::new();
        while let Some((_, next)) = self.due.front()
            && rows
                .first()
                .is_none_or(|(_, first)| has_digests && first.digest.is_some() && first.digest == next.digest)
        {
            rows.extend(self.due.pop_front());
        }
        rows
    }

    /// Forgets the deliveries that are taken and not attempted, and those of a fetch under way.
    pub(super) fn give_back(&mut self) -> Vec<RowId> {
        if let Some(fetch) = &mut self.pending_fetch {
            fetch.is_outdated = true;
        }
        let due = std::mem::take(&mut self.due);
        self.bytes = due.iter().fold(self.bytes, |bytes, (_, row)| bytes.saturating_sub(row.message.size()));
        self.fetch_at(Instant::now());
        due.into_iter().map(|(id, _)| id).collect()
    }

    /// What is spooled up to `last` is delivered before anything later.
    pub(super) fn add_boundary(&mut self, last: RowId) {
        if self.boundaries.len() >= MAX_BOUNDARIES {
            self.boundaries.pop_back();
        }
        self.boundaries.push_back(last);
    }

    /// Whether the result of the fetch that has ended is to be given back: it was asked for before the `group` changed.
    pub(super) fn end_outdated_fetch(&mut self) -> bool {
        let is_outdated = self.pending_fetch.take_if(|fetch| fetch.is_outdated).is_some();
        if is_outdated {
            self.fetch_at(Instant::now());
        }
        is_outdated
    }

    /// Whether [`pop`](Self::pop) has a delivery.
    pub(super) fn is_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Pops all due deliveries that were received at least `age` ago, each with its digest.
    pub(super) fn take_expired(&mut self, age: Duration) -> Vec<Vec<(RowId, SpooledDelivery)>> {
        let (mut expired, mut others) = (Vec::new(), VecDeque::with_capacity(self.due.len()));
        while !self.due.is_empty() {
            let rows = self.take_digest();
            if rows.iter().any(|(_, row)| row.received.age() >= age) {
                self.in_flight.extend(rows.iter().map(|(id, row)| (*id, row.message.size())));
                expired.push(rows);
            } else {
                others.extend(rows);
            }
        }
        self.due = others;
        expired
    }

    /// The age of the oldest delivery that is taken and due.
    pub(super) fn oldest_age(&self) -> Option<Duration> {
        self.due.iter().map(|(_, row)| row.received.age()).max()
    }

    /// Whether every due delivery has its attempt in flight.
    pub(super) fn has_caught_up(&self) -> bool {
        self.has_all_due && self.due.is_empty() && !self.is_full()
    }

    /// Removes a taken delivery that is no longer in the spool. The next one of its key may be due.
    pub(super) fn remove(&mut self, id: RowId) {
        self.release(id);
        self.count = self.count.saturating_sub(1);
        if self.count > 0 {
            self.fetch_at(Instant::now());
        }
    }

    /// Uncounts a delivery that an earlier dispatcher had taken and that is no longer in the spool. The next one of its key may be due.
    pub(super) fn remove_untaken(&mut self) {
        self.count = self.count.saturating_sub(1);
        self.fetch_at(Instant::now());
    }

    /// Gives a taken delivery back to the spool.
    pub(super) fn reschedule(&mut self, id: RowId, due: Instant) {
        self.release(id);
        self.fetch_at(due);
    }

    /// Whether no more deliveries may be taken.
    pub(super) fn is_full(&self) -> bool {
        self.taken() >= WINDOW || self.bytes >= WINDOW_BYTES
    }

    fn taken(&self) -> usize {
        self.in_flight.len() + self.due.len()
    }

    fn release(&mut self, id: RowId) {
        let bytes = self.in_flight.remove(&id).unwrap_or_default();
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// How much to fetch now. None: nothing.
    fn room(&self) -> Option<FetchLimit> {
        // The largest digest has to fit.
        let refill = self.digests.map_or(REFILL, |digests| REFILL.min(WINDOW.saturating_sub(digests.count)));
        let may_fetch = self.pending_fetch.is_none() && self.taken() <= refill && self.bytes <= REFILL_BYTES;
        may_fetch.then(|| FetchLimit {
            count: WINDOW - self.taken(),
            bytes: WINDOW_BYTES - self.bytes,
            digests: self.digests,
            up_to: self.boundaries.front().copied(),
        })
    }

    /// When to [`fetch`](Self::fetch). None: not before something else changes.
    pub(super) fn next_fetch(&self) -> Option<Instant> {
        self.fetch_at.filter(|_| self.room().is_some())
    }

    /// Asks the spool for due deliveries.
    pub(super) fn fetch(&mut self, spool: &Spool, sink: &SinkName) {
        if let Some(portion) = self.room() {
            self.fetch_at = None;
            self.pending_fetch = Some(PendingFetch { is_outdated: false, had_none_taken: self.taken() == 0 });
            spool.fetch_due(sink.clone(), portion);
        }
    }

    /// Makes [`next_fetch`](Self::next_fetch) no later than `time`.
    pub(super) fn fetch_at(&mut self, time: Instant) {
        self.fetch_at = Some(self.fetch_at.map_or(time, |at| at.min(time)));
    }
}
