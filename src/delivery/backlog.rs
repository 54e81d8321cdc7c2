//! What a sink has in the spool, as its dispatcher knows it: what it has in its hands, and when to ask for more.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::rules::SinkName;
use crate::spool::{Due, Millis, RowId, Spool, Waiting};

/// At most so many deliveries are in hand: what a crash may make the sink get twice.
pub(super) const WINDOW: usize = 1_000;
/// More are asked for once no more than so many are in hand: enough to go on with until they come.
const REFILL: usize = WINDOW * 3 / 4;

/// The rows of one sink.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// How many there are, those on their way to the disk included.
    pub(super) count: u64,
    /// Due, and in our hands.
    due: VecDeque<(RowId, Waiting)>,
    /// Under way, and in our hands.
    under_way: usize,
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

    /// One more is on its way to the disk, to be due then; or it is under way and ours.
    pub(super) fn added(&mut self, due: Option<Instant>) {
        self.count += 1;
        match due {
            Some(due) => self.look_at(due),
            None => self.under_way += 1,
        }
    }

    /// One that was put there is not: it was there already.
    pub(super) fn was_known(&mut self) {
        self.count = self.count.saturating_sub(1);
    }

    /// Those that were asked for.
    pub(super) fn take_in(&mut self, due: Due) {
        self.is_asked = false;
        self.has_all_due = due.next.is_none_or(|next| next > Millis::now());
        self.due.extend(due.rows);
        if let Some(next) = due.next {
            self.look_at(Instant::now() + next.from_now());
        }
    }

    /// The next one that is due.
    pub(super) fn pop(&mut self) -> Option<(RowId, Waiting)> {
        let next = self.due.pop_front()?;
        self.under_way += 1;
        Some(next)
    }

    /// Some are due and in our hands.
    pub(super) fn is_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Takes those out of our hands that were received so long ago.
    pub(super) fn take_older(&mut self, age: Duration) -> VecDeque<(RowId, Waiting)> {
        let (old, due): (VecDeque<_>, _) =
            self.due.drain(..).partition(|(_, waiting)| waiting.received.elapsed() >= age);
        self.due = due;
        self.under_way += old.len();
        old
    }

    /// When the oldest in our hands was received.
    pub(super) fn oldest(&self) -> Option<Millis> {
        self.due.iter().map(|(_, waiting)| waiting.received).min()
    }

    /// Nothing is due that isn't under way.
    pub(super) fn has_caught_up(&self) -> bool {
        self.has_all_due && self.due.is_empty() && !self.is_full()
    }

    /// One that was under way is gone: the next of its key may be due.
    pub(super) fn done(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
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
    pub(super) fn again(&mut self, due: Instant) {
        self.under_way = self.under_way.saturating_sub(1);
        self.look_at(due);
    }

    /// As many are in our hands as may be.
    pub(super) fn is_full(&self) -> bool {
        self.under_way + self.due.len() >= WINDOW
    }

    /// How many to ask for now.
    fn room(&self) -> usize {
        let held = self.under_way + self.due.len();
        if self.is_asked || held > REFILL { 0 } else { WINDOW - held }
    }

    /// When to ask, if that is a matter of time.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.look.filter(|_| self.room() > 0)
    }

    /// Asks for what is due, if it is time to.
    pub(super) fn ask(&mut self, spool: &Spool, sink: &SinkName) {
        let room = self.room();
        if room > 0 && self.look.is_some_and(|look| look <= Instant::now()) {
            self.look = None;
            self.is_asked = true;
            spool.take(sink.clone(), room);
        }
    }

    pub(super) fn look_at(&mut self, time: Instant) {
        self.look = Some(self.look.map_or(time, |look| look.min(time)));
    }
}
