//! What a sink has in the spool, as its dispatcher knows it: what it has in its hands, and when to ask for more.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use foldhash::HashMap;

use crate::clock::MonotonicTime;
use crate::event::Message;
use crate::rules::SinkName;
use crate::spool::{Due, Portion, RowId, Spool, Waiting};

/// At most so many deliveries are in hand: what a crash may make the sink get twice.
pub(super) const WINDOW: usize = 1_000;
/// … and so many bytes of them; more only where a delivery alone has more than a quarter of it, or was spooled while an attempt at it
/// was under way.
const WINDOW_BYTES: usize = 16 * 1024 * 1024;
/// More are asked for once no more than so many are in hand: enough to go on with until they come.
const REFILL: usize = WINDOW * 3 / 4;
const REFILL_BYTES: usize = WINDOW_BYTES * 3 / 4;

/// The rows of one sink.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// How many there are, those on their way to the disk included.
    pub(super) count: u64,
    /// Due, and in our hands.
    due: VecDeque<(RowId, Waiting)>,
    /// Under way, and in our hands, with what each takes in memory.
    under_way: HashMap<RowId, usize>,
    /// What all that is in our hands takes in memory.
    bytes: usize,
    is_asked: bool,
    /// The last answer had all that was due.
    has_all_due: bool,
    /// When there may be some that are due.
    look: Option<Instant>,
}

impl Backlog {
    /// So many were there before.
    pub(super) fn new(count: u64) -> Self {
        Self { count, look: (count > 0).then(Instant::now), ..Self::default() }
    }

    /// One more is on its way to the disk, to be due then.
    pub(super) fn added(&mut self, due: Instant) {
        self.count += 1;
        self.look_at(due);
    }

    /// One more is on its way to the disk while an attempt at it is under way.
    pub(super) fn added_under_way(&mut self, id: RowId, message: &Message) {
        self.count += 1;
        let bytes = message.size();
        self.bytes = self.bytes.saturating_add(bytes);
        self.under_way.insert(id, bytes);
    }

    /// One that was put there is not: it was there already.
    pub(super) fn was_known(&mut self) {
        self.count = self.count.saturating_sub(1);
    }

    /// Those that were asked for.
    pub(super) fn take_in(&mut self, due: Due) {
        self.is_asked = false;
        self.has_all_due = due.next.is_none_or(|next| next > MonotonicTime::now());
        self.bytes = due.rows.iter().fold(self.bytes, |sum, (_, waiting)| sum.saturating_add(waiting.message.size()));
        self.due.extend(due.rows);
        if let Some(next) = due.next {
            self.look_at(Instant::now() + next.remaining());
        }
    }

    /// The next one that is due.
    pub(super) fn pop(&mut self) -> Option<(RowId, Waiting)> {
        let (id, waiting) = self.due.pop_front()?;
        self.under_way.insert(id, waiting.message.size());
        Some((id, waiting))
    }

    /// Some are due and in our hands.
    pub(super) fn is_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Takes those out of our hands that were received so long ago.
    pub(super) fn take_older(&mut self, age: Duration) -> VecDeque<(RowId, Waiting)> {
        let (old, due): (VecDeque<_>, _) = self.due.drain(..).partition(|(_, waiting)| waiting.received.age() >= age);
        self.due = due;
        self.under_way.extend(old.iter().map(|(id, waiting)| (*id, waiting.message.size())));
        old
    }

    /// How long ago the oldest in our hands was received.
    pub(super) fn oldest_age(&self) -> Option<Duration> {
        self.due.iter().map(|(_, waiting)| waiting.received.age()).max()
    }

    /// Nothing is due that isn't under way.
    pub(super) fn has_caught_up(&self) -> bool {
        self.has_all_due && self.due.is_empty() && !self.is_full()
    }

    /// One that was under way is gone: the next of its key may be due.
    pub(super) fn done(&mut self, id: RowId) {
        self.put_down(id);
        self.count = self.count.saturating_sub(1);
        if self.count > 0 {
            self.look_at(Instant::now());
        }
    }

    /// One that somebody else had in his hands is gone: the next of its key may be due.
    pub(super) fn gone_elsewhere(&mut self) {
        self.count = self.count.saturating_sub(1);
        self.look_at(Instant::now());
    }

    /// One that was under way will be due again then.
    pub(super) fn again(&mut self, id: RowId, due: Instant) {
        self.put_down(id);
        self.look_at(due);
    }

    /// As many are in our hands as may be.
    pub(super) fn is_full(&self) -> bool {
        self.held() >= WINDOW || self.bytes >= WINDOW_BYTES
    }

    fn held(&self) -> usize {
        self.under_way.len() + self.due.len()
    }

    fn put_down(&mut self, id: RowId) {
        let bytes = self.under_way.remove(&id).unwrap_or_default();
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// What to ask for now.
    fn room(&self) -> Option<Portion> {
        let may_ask = !self.is_asked && self.held() <= REFILL && self.bytes <= REFILL_BYTES;
        may_ask.then(|| Portion { count: WINDOW - self.held(), bytes: WINDOW_BYTES - self.bytes })
    }

    /// When to ask, if that is a matter of time.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.look.filter(|_| self.room().is_some())
    }

    /// Asks for what is due, if it is time to.
    pub(super) fn ask(&mut self, spool: &Spool, sink: &SinkName) {
        if self.look.is_some_and(|look| look <= Instant::now())
            && let Some(portion) = self.room()
        {
            self.look = None;
            self.is_asked = true;
            spool.take(sink.clone(), portion);
        }
    }

    pub(super) fn look_at(&mut self, time: Instant) {
        self.look = Some(self.look.map_or(time, |look| look.min(time)));
    }
}
