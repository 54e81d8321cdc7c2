//! The transactions of the owner: `postgres/mod.rs`, `apply.rs`, and the fence in `ownership.rs`.

use crate::protocol::Protocol;
use crate::state::{Change, InstanceId, MESSAGES, Memory, Owner, Phase, Promise, Row, State, Transaction, Write};
use crate::variants::Variant;

impl Protocol {
    /// Begins to store the first message in memory that is not settled, also while it is attempted.
    pub fn write_row(&self, state: &State, id: InstanceId) -> Option<State> {
        let owner = state.valid(id)?;
        let pending = owner.memory.iter().enumerate().find_map(|(message, memory)| match *memory {
            Memory::Pending { is_redelivered } => Some((message, is_redelivered)),
            _ => None,
        });
        let (message, may_be_known) = pending?;
        let epoch = if self.variant == Variant::IdsRestart { 0 } else { owner.epoch };
        let row = Row { id: (epoch, owner.last_row + 1), message };
        let mut next = state.clone();
        next.write(id, Change::Add { row, may_be_known })?;
        if self.variant == Variant::AcknowledgeBeforeCommit {
            next.owner_mut(id).memory[message] = Memory::Settled;
        }
        Some(next)
    }

    /// Begins to remove the row of a delivery that the receiver has confirmed.
    pub fn write_removal(state: &State, id: InstanceId) -> Option<State> {
        let owner = state.valid(id)?;
        let message = (0..MESSAGES).find(|message| owner.completed[*message] && state.has_row(*message))?;
        let mut next = state.clone();
        next.write(id, Change::Remove { message })?;
        Some(next)
    }

    /// The server executes BEGIN, the fence and the statements.
    pub fn execute(&self, state: &State, at: usize) -> Option<State> {
        let Transaction { instance, epoch, phase: Phase::Sent, .. } = state.transactions[at] else { return None };
        let is_open = |other: &Transaction| matches!(other.phase, Phase::Open | Phase::CommitSent);
        // Both would lock the row of `shard_batches`.
        if state.transactions.iter().any(|other| other.epoch == epoch && is_open(other)) {
            return None;
        }
        let mut next = state.clone();
        let transaction = &mut next.transactions[at];
        let passes = state.is_owned_by(instance, epoch) || self.variant == Variant::NoFence;
        transaction.phase = if passes { Phase::Open } else { Phase::Fenced };
        transaction.has_lock = !matches!(self.variant, Variant::NoFence | Variant::FenceOutside);
        Some(next)
    }

    pub fn send_commit(state: &State, id: InstanceId) -> Option<State> {
        state.running(id)?;
        let at = state.awaited(id)?;
        if state.transactions[at].phase != Phase::Open {
            return None;
        }
        let mut next = state.clone();
        next.transactions[at].phase = Phase::CommitSent;
        Some(next)
    }

    pub fn commit(&self, state: &State, at: usize) -> Option<State> {
        let Transaction { epoch, number, change, phase: Phase::CommitSent, is_connected, .. } = state.transactions[at]
        else {
            return None;
        };
        let mut next = state.clone();
        if self.variant == Variant::SynchronousCommitOff {
            next.database.unflushed = Some((state.database.rows.clone(), state.database.batch));
        }
        if epoch < state.database.epoch {
            next.broken.add(Promise::Fence);
        } else {
            next.database.batch = number;
        }
        next.apply(change);
        if is_connected {
            next.transactions[at].phase = Phase::Committed;
        } else {
            next.transactions.remove(at);
        }
        Some(next)
    }

    /// The server rolls a transaction back: its client is gone, or was silent for too long, or a taker has asked for it.
    pub fn end_backend(state: &State, at: usize) -> Option<State> {
        let transaction = state.transactions[at];
        let is_idle = transaction.phase == Phase::Open && state.instances[transaction.instance].is_suspended;
        if transaction.is_connected && !transaction.is_terminated && !is_idle {
            return None;
        }
        let mut next = state.clone();
        next.roll_back(at)?;
        Some(next)
    }

    pub fn learn_written(state: &State, id: InstanceId) -> Option<State> {
        state.running(id)?;
        let at = state.awaited(id)?;
        let phase = state.transactions[at].phase;
        if matches!(phase, Phase::Sent | Phase::Open | Phase::CommitSent) {
            return None;
        }
        let mut next = state.clone();
        let Transaction { change, .. } = next.transactions.remove(at);
        let has_row = next.has_row(change.message());
        let owner = next.owner_mut(id);
        match phase {
            Phase::Committed => owner.settle(change),
            Phase::Fenced => {
                owner.write = None;
                owner.deadline = 0;
            }
            Phase::Unanswered => {
                owner.is_connected = false;
                owner.write = owner.write.map(|write| Write { is_unknown: true, ..write });
            }
            _ => {
                owner.is_connected = false;
                owner.requeue(change, has_row);
            }
        }
        Some(next)
    }

    /// Connects again, and asks for the number of the last batch. The lock FOR UPDATE waits for a transaction that is still open.
    pub fn recover(&self, state: &State, id: InstanceId) -> Option<State> {
        let owner = state.valid(id)?;
        let is_open = state.transactions.iter().any(|other| other.epoch == owner.epoch);
        if owner.is_connected || is_open {
            return None;
        }
        let mut next = state.clone();
        if !state.is_owned_by(id, owner.epoch) {
            next.owner_mut(id).deadline = 0;
            return Some(next);
        }
        let batch = state.database.batch;
        let write = owner.write;
        let owner = next.owner_mut(id);
        owner.is_connected = true;
        if let Some(Write { change, number, is_id_reused, .. }) = write {
            let is_stored = match self.variant {
                Variant::UnknownIsDone => true,
                Variant::UnknownIsFailed => false,
                Variant::AskedByTransactionId => batch == number || is_id_reused,
                _ => batch == number,
            };
            if is_stored {
                owner.settle(change);
            } else {
                owner.requeue(change, state.has_row(change.message()));
            }
        }
        Some(next)
    }
}

impl State {
    fn write(&mut self, id: InstanceId, change: Change) -> Option<()> {
        let owner = self.owner_mut(id);
        if owner.write.is_some() || !owner.is_connected {
            return None;
        }
        owner.number += 1;
        let (epoch, number) = (owner.epoch, owner.number);
        owner.write = Some(Write { change, number, is_unknown: false, is_id_reused: false });
        self.transactions.push(Transaction {
            instance: id,
            epoch,
            number,
            change,
            phase: Phase::Sent,
            has_lock: false,
            is_terminated: false,
            is_connected: true,
        });
        Some(())
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Remove { message } => self.database.rows.retain(|row| row.message != message),
            Change::Add { row, may_be_known } => {
                if self.has_row(row.message) {
                    if !may_be_known {
                        self.broken.add(Promise::StoredOnce);
                    }
                    return;
                }
                if row.id <= self.database.last_id {
                    self.broken.add(Promise::IdsAscend);
                }
                self.database.last_id = self.database.last_id.max(row.id);
                self.database.rows.push(row);
                self.database.rows.sort_unstable();
            }
        }
    }

    /// Without COMMIT the client knows that nothing is stored.
    fn roll_back(&mut self, at: usize) -> Option<()> {
        let transaction = &mut self.transactions[at];
        let phase = match transaction.phase {
            Phase::Sent | Phase::Open => Phase::RolledBack,
            Phase::CommitSent => Phase::Unanswered,
            _ => return None,
        };
        transaction.phase = phase;
        if !transaction.is_connected {
            self.transactions.remove(at);
        }
        Some(())
    }

    /// The client ends its connection. A transaction that is open at the server ends later.
    pub fn close_connection(&mut self, id: InstanceId) {
        let Some(at) = self.awaited(id) else { return };
        self.transactions[at].is_connected = false;
        if !matches!(self.transactions[at].phase, Phase::Open | Phase::CommitSent) {
            self.transactions.remove(at);
        }
    }

    /// A restart of the server: what was not committed is gone, and all connections end.
    pub fn lose_transactions(&mut self) {
        for id in 0..self.instances.len() {
            let Some(epoch) = self.owner(id).map(|owner| owner.epoch) else { continue };
            let is_awaiting = self.awaited(id).is_some();
            let is_open = |phase| matches!(phase, Phase::Open | Phase::CommitSent);
            let is_lost = self.transactions.iter().any(|other| other.epoch == epoch && is_open(other.phase));
            let owner = self.owner_mut(id);
            // Who waits for an answer learns of it later.
            owner.is_connected &= is_awaiting;
            if let Some(write) = &mut owner.write {
                write.is_id_reused |= is_lost;
            }
        }
        for transaction in &mut self.transactions {
            transaction.phase = match transaction.phase {
                Phase::Sent | Phase::Open => Phase::RolledBack,
                Phase::CommitSent | Phase::Committed => Phase::Unanswered,
                phase => phase,
            };
        }
        self.transactions.retain(|transaction| transaction.is_connected);
    }
}

impl Owner {
    /// The batch is stored.
    fn settle(&mut self, change: Change) {
        self.write = None;
        match change {
            Change::Add { row, .. } => {
                self.memory[row.message] = Memory::Settled;
                self.last_row = row.id.1;
            }
            Change::Remove { message } => self.completed[message] = false,
        }
    }

    /// The batch is not stored, so it is repeated. A delivery that was confirmed meanwhile needs no row.
    pub fn requeue(&mut self, change: Change, has_row: bool) {
        self.write = None;
        if let Change::Add { row, .. } = change
            && self.completed[row.message]
            && !has_row
        {
            self.completed[row.message] = false;
            self.memory[row.message] = Memory::Settled;
        }
    }
}
