//! The changes that are not written yet, in the order of their arrival, and the choice of those for the next transaction.
//!
//! A change that makes room is never delayed by changes that need room. If the disk is full or the last transaction failed, changes that
//! make the file larger are blocked, and with them the changes that refer to their rows; all other changes are written.

use std::collections::{HashSet, VecDeque};

use super::change::{AddDelivery, Change};
use super::delivery::RowId;
use crate::rules::SinkName;
use crate::storage::{DiskSpace, LOG_OF_CHANGE, SMALL_BATCH};

/// The largest number of changes in a transaction.
const MAX_BATCH: usize = 1_000;
/// A transaction gets no further change once it has this many bytes.
const MAX_BATCH_BYTES: u64 = 16 * 1024 * 1024;

/// How much the next transaction has room for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Capacity {
    pub(super) disk: DiskSpace,
    /// How much may be added to the dead letters, in bytes.
    pub(super) dead_letters: u64,
    /// The file may become larger.
    pub(super) may_grow: bool,
}

/// The changes that are in no transaction yet.
#[derive(Debug)]
pub(super) struct ChangeQueue {
    /// In the order of their arrival: changes of one delivery must not overtake each other.
    changes: VecDeque<Change>,
    /// Dead letters that there is no room for.
    dead_letters: VecDeque<Change>,
    /// Other changes that the disk has no room for, and changes that refer to their rows.
    blocked: VecDeque<Change>,
    /// The rows that the blocked changes add.
    blocked_rows: HashSet<RowId>,
    /// The largest number of changes in the next transaction: fewer after one that failed.
    max_batch: usize,
}

/// The changes of the next transaction.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) changes: Vec<Change>,
    /// Deliveries that were completed before they were written.
    pub(super) completed: Vec<AddDelivery>,
    bytes: u64,
    dead_letters: u64,
}

impl Batch {
    fn push(&mut self, change: Change) {
        self.bytes = self.bytes.saturating_add(log_size(&change));
        self.dead_letters = self.dead_letters.saturating_add(change.dead_letter_size().unwrap_or_default());
        self.changes.push(change);
    }
}

/// How much a change that makes the file larger takes in the log, in bytes.
fn log_size(change: &Change) -> u64 {
    let size = change.size();
    if size == 0 { 0 } else { size.saturating_add(LOG_OF_CHANGE) }
}

impl Capacity {
    fn fits(&self, batch: &Batch, change: &Change) -> bool {
        change.size() == 0 || (self.may_grow && self.disk.fits(batch.bytes.saturating_add(log_size(change))))
    }

    fn fits_dead_letter(&self, batch: &Batch, change: &Change) -> bool {
        let is_within_limit =
            change.dead_letter_size().is_none_or(|size| batch.dead_letters.saturating_add(size) <= self.dead_letters);
        (is_within_limit || change.is_dead_letter_beyond_limits()) && self.fits(batch, change)
    }
}

impl Default for ChangeQueue {
    fn default() -> Self {
        Self {
            changes: VecDeque::new(),
            dead_letters: VecDeque::new(),
            blocked: VecDeque::new(),
            blocked_rows: HashSet::new(),
            max_batch: MAX_BATCH,
        }
    }
}

impl ChangeQueue {
    pub(super) fn push(&mut self, change: Change) {
        self.changes.push_back(change);
    }

    /// How many changes are not blocked.
    pub(super) fn len(&self) -> usize {
        self.changes.len()
    }

    /// All changes are blocked, if there are any.
    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// How many changes wait for room.
    pub(super) fn blocked_count(&self) -> usize {
        self.dead_letters.len() + self.blocked.len()
    }

    /// The first dead letter that there is no room for, and how many there are.
    pub(super) fn first_blocked_dead_letter(&self) -> Option<(&Change, usize)> {
        self.dead_letters.front().map(|letter| (letter, self.dead_letters.len()))
    }

    /// There are enough changes for a whole transaction.
    pub(super) fn fills_a_batch(&self) -> bool {
        self.changes.len() >= self.max_batch
    }

    /// Takes the changes of the next transaction: blocked ones first, if there is room for them.
    pub(super) fn assemble(&mut self, capacity: Capacity) -> Batch {
        let mut batch = Batch::default();
        let max_bytes = if capacity.disk == DiskSpace::Plenty { MAX_BATCH_BYTES } else { SMALL_BATCH };
        let max_batch = self.max_batch;
        let is_full = |batch: &Batch| batch.changes.len() >= max_batch || batch.bytes > max_bytes;
        while !is_full(&batch)
            && let Some(letter) = self.dead_letters.pop_front_if(|letter| capacity.fits_dead_letter(&batch, letter))
        {
            batch.push(letter);
        }
        for letter in std::mem::take(&mut self.dead_letters) {
            if letter.is_dead_letter_beyond_limits() && !is_full(&batch) && capacity.fits_dead_letter(&batch, &letter) {
                batch.push(letter);
            } else {
                self.dead_letters.push_back(letter);
            }
        }
        while !is_full(&batch)
            && let Some(change) = self.blocked.pop_front_if(|change| capacity.fits(&batch, change))
        {
            if let Some(id) = change.row() {
                self.blocked_rows.remove(&id);
            }
            match change.dead_letter_size() {
                Some(_) if !capacity.fits_dead_letter(&batch, &change) => self.dead_letters.push_back(change),
                _ => batch.push(change),
            }
        }
        while !is_full(&batch)
            && let Some(change) = self.changes.pop_front()
        {
            if change.refers_to().is_some_and(|id| self.blocked_rows.contains(&id)) {
                self.block_after_its_row(change, &mut batch);
            } else if change.dead_letter_size().is_some() {
                let is_next = self.dead_letters.is_empty() || change.is_dead_letter_beyond_limits();
                if is_next && capacity.fits_dead_letter(&batch, &change) {
                    batch.push(change);
                } else {
                    self.dead_letters.push_back(change);
                }
            } else if change.size() > 0 && (!self.blocked.is_empty() || !capacity.fits(&batch, &change)) {
                self.block(change);
            } else {
                batch.push(change);
            }
        }
        batch
    }

    fn block(&mut self, mut change: Change) {
        change.note_blocked();
        self.blocked_rows.extend(change.row());
        self.blocked.push_back(change);
    }

    /// Blocks a change that refers to a blocked row. If it completes the delivery, neither of them has to be written.
    fn block_after_its_row(&mut self, change: Change, batch: &mut Batch) {
        let Change::Complete(complete) = &change else { return self.block(change) };
        let id = complete.id;
        self.blocked_rows.remove(&id);
        for other in std::mem::take(&mut self.blocked) {
            match other {
                Change::AddDelivery(add) if add.row.id == id => batch.completed.push(add),
                other if other.refers_to() == Some(id) => {}
                other => self.blocked.push_back(other),
            }
        }
    }

    /// Puts the changes of a failed transaction back in their order. The next transaction is smaller.
    pub(super) fn requeue(&mut self, batch: Vec<Change>) {
        self.max_batch = (batch.len() / 2).max(1);
        let mut blocked = VecDeque::new();
        let (mut dead_letters, mut changes) = (VecDeque::new(), VecDeque::new());
        for mut change in batch {
            let refers = change.refers_to().is_some_and(|id| self.blocked_rows.contains(&id));
            if refers || (change.size() > 0 && change.dead_letter_size().is_none()) {
                change.note_blocked();
                self.blocked_rows.extend(change.row());
                blocked.push_back(change);
            } else if change.dead_letter_size().is_some() {
                dead_letters.push_back(change);
            } else {
                changes.push_back(change);
            }
        }
        for (front, whole) in
            [(blocked, &mut self.blocked), (dead_letters, &mut self.dead_letters), (changes, &mut self.changes)]
        {
            let rest = std::mem::replace(whole, front);
            whole.extend(rest);
        }
    }

    pub(super) fn on_commit(&mut self) {
        self.max_batch = self.max_batch.saturating_mul(2).min(MAX_BATCH);
    }

    /// The lanes of a sink's blocked deliveries.
    pub(super) fn lanes(&self, sink: &SinkName) -> Vec<u16> {
        self.blocked.iter().filter_map(|change| change.lane_for(sink)).collect()
    }
}
