//! What is to be written, in the order in which it was handed in, and what of it may be written now.
//!
//! What makes room is never held up by what needs some. Where the disk has no room for more, or the last transaction failed, changes
//! that make the file larger wait here, and with them what refers to their rows; all others go on.

use std::collections::{HashSet, VecDeque};

use super::change::Change;
use super::delivery::RowId;
use super::disk::{LOG_OF_CHANGE, Room, SMALL_BATCH};
use crate::rules::SinkName;

/// One transaction has at most so many changes …
const MAX_BATCH: usize = 1_000;
/// … and begins no further one after so many bytes.
const MAX_BATCH_BYTES: u64 = 16 * 1024 * 1024;

/// What there is room for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Space {
    /// On the disk.
    pub(super) disk: Room,
    /// For dead letters, in bytes.
    pub(super) letters: u64,
    /// The file may become larger.
    pub(super) may_grow: bool,
}

/// All that waits for a transaction.
#[derive(Debug)]
pub(super) struct Queue {
    /// Of a delivery, one thing comes before another.
    changes: VecDeque<Change>,
    /// Dead letters that there is no room for.
    letters: VecDeque<Change>,
    /// Other changes that there is no room for on the disk, and what refers to their rows.
    withheld: VecDeque<Change>,
    /// The rows among these.
    ids: HashSet<RowId>,
    /// The next transaction has at most so many changes: less after one that failed.
    most: usize,
}

/// The next transaction, and deliveries that were over before they were written.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) changes: Vec<Change>,
    pub(super) over: Vec<Change>,
    bytes: u64,
    letters: u64,
}

impl Batch {
    fn take(&mut self, change: Change) {
        self.bytes = self.bytes.saturating_add(log_of(&change));
        self.letters = self.letters.saturating_add(change.letter_size().unwrap_or_default());
        self.changes.push(change);
    }
}

/// What a change that makes the file larger takes of the log, in bytes.
fn log_of(change: &Change) -> u64 {
    let size = change.size();
    if size == 0 { 0 } else { size.saturating_add(LOG_OF_CHANGE) }
}

impl Space {
    fn has_room(&self, batch: &Batch, change: &Change) -> bool {
        change.size() == 0 || (self.may_grow && self.disk.takes(batch.bytes.saturating_add(log_of(change))))
    }

    fn takes_letter(&self, batch: &Batch, change: &Change) -> bool {
        let letters = change.letter_size().is_none_or(|size| batch.letters.saturating_add(size) <= self.letters);
        (letters || change.is_letter_beyond_limits()) && self.has_room(batch, change)
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            changes: VecDeque::new(),
            letters: VecDeque::new(),
            withheld: VecDeque::new(),
            ids: HashSet::new(),
            most: MAX_BATCH,
        }
    }
}

impl Queue {
    pub(super) fn push(&mut self, change: Change) {
        self.changes.push_back(change);
    }

    /// How many changes nothing holds up.
    pub(super) fn len(&self) -> usize {
        self.changes.len()
    }

    /// Nothing waits but for room.
    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// How many wait for room.
    pub(super) fn held_up(&self) -> usize {
        self.letters.len() + self.withheld.len()
    }

    /// The first dead letter that there is no room for, and how many there are.
    pub(super) fn first_letter(&self) -> Option<(&Change, usize)> {
        self.letters.front().map(|letter| (letter, self.letters.len()))
    }

    /// More are there than one transaction takes.
    pub(super) fn is_more_than_a_batch(&self) -> bool {
        self.changes.len() >= self.most
    }

    /// The next transaction: what waits for room first, if there is some.
    pub(super) fn assemble(&mut self, space: Space) -> Batch {
        let mut batch = Batch::default();
        let most_bytes = if space.disk == Room::Plenty { MAX_BATCH_BYTES } else { SMALL_BATCH };
        let most = self.most;
        let is_full = |batch: &Batch| batch.changes.len() >= most || batch.bytes > most_bytes;
        while !is_full(&batch)
            && let Some(letter) = self.letters.pop_front_if(|letter| space.takes_letter(&batch, letter))
        {
            batch.take(letter);
        }
        let waiting = std::mem::take(&mut self.letters);
        for letter in waiting {
            if letter.is_letter_beyond_limits() && !is_full(&batch) && space.takes_letter(&batch, &letter) {
                batch.take(letter);
            } else {
                self.letters.push_back(letter);
            }
        }
        while !is_full(&batch)
            && let Some(change) = self.withheld.pop_front_if(|change| space.has_room(&batch, change))
        {
            if let Some(id) = change.row() {
                self.ids.remove(&id);
            }
            match change.letter_size() {
                Some(_) if !space.takes_letter(&batch, &change) => self.letters.push_back(change),
                _ => batch.take(change),
            }
        }
        while !is_full(&batch)
            && let Some(change) = self.changes.pop_front()
        {
            if change.refers_to().is_some_and(|id| self.ids.contains(&id)) {
                self.withhold_after_its_row(change, &mut batch);
            } else if change.letter_size().is_some() {
                let is_next = self.letters.is_empty() || change.is_letter_beyond_limits();
                if is_next && space.takes_letter(&batch, &change) {
                    batch.take(change);
                } else {
                    self.letters.push_back(change);
                }
            } else if change.size() > 0 && (!self.withheld.is_empty() || !space.has_room(&batch, &change)) {
                self.withhold(change);
            } else {
                batch.take(change);
            }
        }
        batch
    }

    fn withhold(&mut self, change: Change) {
        self.ids.extend(change.row());
        self.withheld.push_back(change);
    }

    /// A change of a row that isn't written yet. Where it ends the row, neither has to be.
    fn withhold_after_its_row(&mut self, change: Change, batch: &mut Batch) {
        let (Change::Done { .. }, Some(id)) = (&change, change.refers_to()) else { return self.withhold(change) };
        self.ids.remove(&id);
        let withheld = std::mem::take(&mut self.withheld);
        for other in withheld {
            if other.row() == Some(id) {
                batch.over.push(other);
            } else if other.refers_to() != Some(id) {
                self.withheld.push_back(other);
            }
        }
    }

    /// Puts back a transaction that failed, as it was ordered; the next one is smaller.
    pub(super) fn put_back(&mut self, batch: Vec<Change>) {
        self.most = (batch.len() / 2).max(1);
        let mut withheld = VecDeque::new();
        let (mut letters, mut changes) = (VecDeque::new(), VecDeque::new());
        for change in batch {
            let refers = change.refers_to().is_some_and(|id| self.ids.contains(&id));
            if refers || (change.size() > 0 && change.letter_size().is_none()) {
                self.ids.extend(change.row());
                withheld.push_back(change);
            } else if change.letter_size().is_some() {
                letters.push_back(change);
            } else {
                changes.push_back(change);
            }
        }
        for (front, whole) in
            [(withheld, &mut self.withheld), (letters, &mut self.letters), (changes, &mut self.changes)]
        {
            let rest = std::mem::replace(whole, front);
            whole.extend(rest);
        }
    }

    /// A transaction is on disk.
    pub(super) fn succeeded(&mut self) {
        self.most = self.most.saturating_mul(2).min(MAX_BATCH);
    }

    /// The lanes of a sink's deliveries that wait for room.
    pub(super) fn lanes(&self, sink: &SinkName) -> Vec<u16> {
        self.withheld.iter().filter_map(|change| change.lane_for(sink)).collect()
    }
}
