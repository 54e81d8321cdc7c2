//! Transactions: from the queue to the disk, and back to the queue where one fails.

use std::collections::HashSet;
use std::time::Instant;

use super::{FULL_RETRY, Writer};
use crate::rules::SinkName;
use crate::spool::SpoolError;
use crate::spool::change::{AddDeadLetters, AppliedChange, Change, DeadLetterOrigin, NewDeadLetter};
use crate::spool::database::Database;
use crate::spool::dead_letter::DeadLetterRow;
use crate::spool::queue::Capacity;
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
        Self { changes: Vec::with_capacity(changes.len()), sinks, makes_file_larger }
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
    pub(super) fn commit(&mut self, database: &Database, changes: Vec<Change>) -> Result<(), SpoolError> {
        self.number += 1;
        let (number, state) = (self.number, &mut self.state);
        let is_read_only = changes.iter().all(Change::is_read_only);
        let mut transaction = Transaction::new(&changes);
        let (mut unapplied, mut failed) = (changes.into_iter(), None);
        let committed = database.transact(|| {
            for change in unapplied.by_ref() {
                match change.apply(database, state) {
                    Ok(applied) => transaction.changes.push(applied),
                    Err(failure) => {
                        let (change, error) = *failure;
                        failed = Some(change);
                        return Err(error);
                    }
                }
            }
            if is_read_only { Ok(()) } else { database.set_batch(number) }
        });
        #[cfg(test)]
        let committed = committed.and_then(|()| self.shared.fail_commit_if_asked(&self.path));
        match committed {
            Ok(()) => {
                self.settle(transaction);
                Ok(())
            }
            Err(error) => {
                let unapplied: Vec<_> = failed.into_iter().chain(unapplied).collect();
                if unapplied.is_empty() {
                    self.unknown = Some(transaction);
                } else {
                    self.roll_back(transaction, unapplied);
                }
                Err(error)
            }
        }
    }

    /// Opens the file again after a failure, and finds out whether the last transaction is on disk.
    pub(super) fn reopen(&mut self) -> Result<Database, SpoolError> {
        let database = Database::open(&self.path)?;
        database.checkpoint()?;
        if self.unknown.is_some() {
            let is_on_disk = database.last_batch()? == self.number;
            if let Some(transaction) = self.unknown.take() {
                if is_on_disk {
                    self.settle(transaction);
                } else {
                    self.roll_back(transaction, Vec::new());
                }
            }
        }
        self.load_state(&database)?;
        Ok(database)
    }

    /// Requeues the changes of a transaction that is not on disk. They are repeated in smaller transactions.
    fn roll_back(&mut self, transaction: Transaction, unapplied: Vec<Change>) {
        self.state.on_rollback();
        let counts = self.shared.request_counts();
        (self.state.requests, self.state.early_ends) = (counts.total(), counts.early_ends());
        drop(counts);
        if transaction.makes_file_larger {
            self.grow_after = Instant::now() + FULL_RETRY;
        }
        let applied = transaction.changes.into_iter().map(AppliedChange::into_change);
        self.queue.requeue(applied.chain(unapplied).collect());
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
