//! Transactions: from the queue to the disk, and back to the queue where one fails.

use std::collections::HashSet;
use std::time::Instant;

use super::{FULL_RETRY, Writer};
use crate::rules::SinkName;
use crate::spool::SpoolError;
use crate::spool::change::{AddDeadLetters, AppliedChange, Change, DeadLetterOrigin, NewDeadLetter};
use crate::spool::dead_letter::DeadLetterRow;
use crate::spool::queue::Capacity;
use crate::spool::store::{FailedBatch, FailedChanges};
use crate::spool::unreadable::UnreadableDelivery;
use crate::storage::DiskSpace;

/// A transaction whose changes were applied.
pub(super) struct Transaction {
    changes: Vec<AppliedChange>,
    /// The sinks whose backlogs it changes.
    sinks: HashSet<SinkName>,
    makes_file_larger: bool,
}

impl Transaction {
    fn new(changes: &[Change]) -> Self {
        let mut sinks = HashSet::new();
        for sink in changes.iter().flat_map(Change::sinks) {
            if !sinks.contains(sink) {
                sinks.insert(sink.clone());
            }
        }
        let makes_file_larger = changes.iter().any(|change| change.size() > 0);
        Self { changes: Vec::new(), sinks, makes_file_larger }
    }

    pub(super) fn len(&self) -> usize {
        self.changes.len()
    }
}

impl Writer {
    /// Whether changes may make the file larger: not for a while after a transaction that failed.
    pub(super) fn may_grow(&self) -> bool {
        self.closing.is_some() || Instant::now() >= self.grow_after
    }

    /// Takes the changes of the next transaction out of the queue.
    pub(super) fn assemble(&mut self, disk: DiskSpace) -> Vec<Change> {
        let dead_letters = self.max_dead_letter_bytes.saturating_sub(self.shared.dead_letter_counts().bytes());
        let capacity = Capacity { disk, dead_letters, may_grow: self.may_grow() };
        let mut batch = self.queue.assemble(capacity);
        if batch.changes.is_empty() && !capacity.may_grow {
            // No other change has to go before those that make the file larger.
            let completed = std::mem::take(&mut batch.completed);
            batch = self.queue.assemble(Capacity { may_grow: true, ..capacity });
            batch.completed.extend(completed);
        }
        for delivery in batch.completed {
            delivery.settle_unwritten(&mut self.state, &self.shared);
        }
        batch.changes
    }

    /// Writes the changes in one transaction, and settles them once it is on disk.
    pub(super) fn commit(&mut self, changes: Vec<Change>, space: DiskSpace) -> Result<(), SpoolError> {
        let transaction = Transaction::new(&changes);
        let committed = self.store.commit(changes, &mut self.state, space);
        #[cfg(test)]
        let committed = committed.and_then(|applied| self.shared.fail_commit_if_asked(applied));
        match committed {
            Ok(changes) => {
                self.settle(Transaction { changes, ..transaction });
                Ok(())
            }
            Err(failed) => {
                let FailedBatch { error, changes } = *failed;
                match changes {
                    FailedChanges::Unstored(changes) => self.roll_back(changes, transaction.makes_file_larger),
                    FailedChanges::Unknown(changes) => self.unknown = Some(Transaction { changes, ..transaction }),
                }
                Err(error)
            }
        }
    }

    /// Opens the store again after a failure, and settles or repeats the last transaction if its end was unknown.
    pub(super) fn recover(&mut self) -> Result<(), SpoolError> {
        let is_stored = self.store.recover()?;
        match self.unknown.take() {
            Some(transaction) if is_stored => self.settle(transaction),
            Some(Transaction { changes, makes_file_larger, .. }) => {
                self.roll_back(changes.into_iter().map(AppliedChange::into_change).collect(), makes_file_larger);
            }
            None => {}
        }
        self.load_state()
    }

    /// Requeues the changes of a transaction that is not on disk. They are repeated in smaller transactions.
    fn roll_back(&mut self, changes: Vec<Change>, makes_file_larger: bool) {
        self.state.on_rollback();
        let counts = self.shared.request_counts();
        (self.state.requests, self.state.early_ends) = (counts.total(), counts.early_ends());
        drop(counts);
        if makes_file_larger {
            self.grow_after = Instant::now() + FULL_RETRY;
        }
        self.queue.requeue(changes);
    }

    /// Settles the changes of a transaction that is on disk.
    fn settle(&mut self, transaction: Transaction) {
        self.state.on_commit();
        self.committed = Instant::now();
        self.is_urgent = !self.queue.is_empty();
        self.queue.on_commit();
        if transaction.makes_file_larger {
            self.grow_after = self.committed;
        }
        for sink in transaction.sinks {
            self.oldest_outdated.entry(sink).or_insert(self.committed);
        }
        for mut change in transaction.changes {
            if let AppliedChange::Subscribe(subscribe, lanes) = &mut change {
                // The new dispatcher has to know of deliveries that are written later, too.
                lanes.extend(self.queue.lanes(&subscribe.sink).into_iter().map(|lane| (lane, 1)));
            }
            change.settle(&mut self.state, &self.shared);
        }
        for delivery in std::mem::take(&mut self.state.unreadable) {
            self.dead_letter_unreadable(delivery);
        }
    }

    fn dead_letter_unreadable(&mut self, UnreadableDelivery { id, letter, properties }: UnreadableDelivery) {
        let Some(sink) = letter.sink.clone() else { return };
        tracing::error!(%sink, detail = letter.detail, "a delivery can't be read and becomes a dead letter; other deliveries continue");
        self.state.begin_dead_lettering(&sink, id);
        let number = self.next_dead_letter_number();
        let row = DeadLetterRow::with_properties(number, letter, false, properties, &mut self.current_page);
        self.add_dead_letters(vec![row], DeadLetterOrigin::Deliveries(vec![id], sink, None));
    }

    pub(super) fn next_dead_letter_number(&mut self) -> i64 {
        let number = self.next_dead_letter;
        self.next_dead_letter = number.saturating_add(1);
        number
    }

    pub(super) fn add_dead_letters(&mut self, rows: Vec<DeadLetterRow>, origin: DeadLetterOrigin) {
        let new = |row| NewDeadLetter { copy: self.copy_of(&row), row };
        let letters = rows.into_iter().map(new).collect();
        self.queue.push(Change::AddDeadLetters(AddDeadLetters { letters, origin }));
    }
}
