//! Taking, renewing and giving up the shard: `ownership.rs`, `renewal.rs` and `spool/lease.rs`.

use crate::protocol::Protocol;
use crate::state::{
    Attempt, Instance, InstanceId, Late, MESSAGES, Memory, Owner, Phase, Promise, Queued, Renewal, Role, State, Taking,
};
use crate::variants::Variant;

impl Protocol {
    /// A running owner sees in time that its lease has ended: it looks at the clock every 100 ms.
    pub fn tick(&self, state: &State) -> Option<State> {
        let mut next = self.advance(state)?;
        for id in 0..self.instances {
            let Some(epoch) = state.valid(id).map(|owner| owner.epoch).filter(|_| !self.has_renewals) else { continue };
            if state.is_owned_by(id, epoch) {
                next.owner_mut(id).deadline = self.lease;
                next.database.expires = self.lease;
            }
        }
        let has_ended = |id| self.valid_until(state, id) > 0 && self.valid_until(&next, id) == 0;
        if (0..self.instances).any(has_ended) {
            next = next.with_fault()?;
        }
        (next != *state).then_some(next)
    }

    /// The owner doesn't reach the database in time.
    pub fn tick_without_renewals(&self, state: &State) -> Option<State> {
        let is_any_valid = (0..self.instances).any(|id| state.valid(id).is_some());
        if self.has_renewals || !is_any_valid {
            return None;
        }
        self.advance(state)?.with_fault()
    }

    /// For how long a running instance has a lease by its own view.
    fn valid_until(&self, state: &State, id: InstanceId) -> i8 {
        match &state.instances[id] {
            Instance { is_suspended: true, .. } => 0,
            Instance { role: Role::Owner(owner), .. } => owner.deadline,
            Instance { role: Role::Taking(taking), .. } if taking.taken.is_some() => self.deadline(taking.age),
            _ => 0,
        }
    }

    fn advance(&self, state: &State) -> Option<State> {
        let has_to_end = |id| state.running(id).is_some_and(|owner| owner.deadline == 0);
        if (0..self.instances).any(has_to_end) {
            return None;
        }
        let mut next = state.clone();
        let later = |time: i8| (time - 1).max(0);
        let older = |age: i8| (age + 1).min(self.lease);
        next.database.expires = (next.database.expires - 1).max(-self.pause);
        for instance in &mut next.instances {
            let stands_still = instance.is_suspended && self.variant == Variant::ClockStandsStill;
            match &mut instance.role {
                Role::Standby => {}
                Role::Taking(taking) => {
                    taking.age = older(taking.age);
                    taking.taken = taking.taken.map(|(epoch, pause)| (epoch, later(pause)));
                }
                Role::Owner(_) if stands_still => {}
                Role::Owner(owner) => {
                    owner.deadline = later(owner.deadline);
                    owner.pause = later(owner.pause);
                    if let Some(renewal) = &mut owner.renewal {
                        renewal.age = older(renewal.age);
                    }
                }
            }
        }
        for late in &mut next.receiver.late {
            late.left = late.left.map(later);
        }
        next.receiver.late.retain(|late| late.left != Some(0));
        Some(next)
    }

    /// Finds the shard free, and ends the backends of the owner before.
    pub fn ask_for_shard(&self, state: &State, id: InstanceId) -> Option<State> {
        let is_standby = state.instances[id].role == Role::Standby;
        if !is_standby || !state.is_free() || state.database.epoch >= self.epochs {
            return None;
        }
        let mut next = state.clone();
        let previous = state.database.owner.map(|_| state.database.epoch);
        if self.variant != Variant::BackendsLeftAlive {
            let of_previous = next.transactions.iter_mut().filter(|transaction| Some(transaction.epoch) == previous);
            // The server ends them soon, not at once.
            of_previous.for_each(|transaction| transaction.is_terminated = true);
        }
        next.instances[id].role = Role::Taking(Taking { age: 0, previous, taken: None });
        Some(next)
    }

    /// The transaction of the taker. Its lock FOR UPDATE waits for transactions with FOR KEY SHARE.
    pub fn take_shard(&self, state: &State, id: InstanceId) -> Option<State> {
        let Role::Taking(Taking { taken: None, age, previous }) = state.instances[id].role else { return None };
        let mut next = state.clone();
        let holds_lock = |phase| matches!(phase, Phase::Open | Phase::CommitSent);
        let mut blockers = state.transactions.iter().filter(|other| other.has_lock && holds_lock(other.phase));
        if let Some(blocker) = blockers.next() {
            let is_of_previous = Some(blocker.epoch) == previous && blocker.is_connected && state.is_free();
            if !is_of_previous || blocker.is_terminated || blocker.phase != Phase::Open {
                return None;
            }
            next.broken.add(Promise::TakeoverNotHeldUp);
            return Some(next);
        }
        if !state.is_free() || state.database.epoch >= self.epochs {
            next.instances[id].role = Role::Standby;
            return Some(next);
        }
        if self.deadline(age) == 0 {
            // The instance can't use what it takes.
            next = state.with_fault()?;
        }
        let database = &mut next.database;
        let is_immediate = database.is_clean || self.variant == Variant::NoPause;
        let pause = if is_immediate { 0 } else { self.pause + database.expires.min(0) };
        database.epoch += 1;
        database.owner = Some(id);
        database.is_clean = false;
        database.expires = self.lease;
        database.batch = 0;
        next.instances[id].role = Role::Taking(Taking { age, previous, taken: Some((next.database.epoch, pause)) });
        Some(next)
    }

    pub fn learn_taken(&self, state: &State, id: InstanceId) -> Option<State> {
        let Role::Taking(Taking { taken: Some((epoch, pause)), age, .. }) = state.instances[id].role else {
            return None;
        };
        if state.instances[id].is_suspended {
            return None;
        }
        let mut next = state.clone();
        let deadline = self.deadline(age);
        if deadline == 0 {
            next.is_disturbed = true;
            next.instances[id].role = Role::Standby;
            return Some(next);
        }
        next.instances[id].role = Role::Owner(Owner {
            epoch,
            deadline,
            pause,
            renewal: None,
            is_stopping: false,
            has_cut: false,
            is_connected: true,
            number: 0,
            last_row: 0,
            memory: [Memory::Absent; MESSAGES],
            completed: [false; MESSAGES],
            attempt: None,
            write: None,
        });
        Some(next)
    }

    /// The owner's own deadline after an answer to a request of that age.
    fn deadline(&self, age: i8) -> i8 {
        if self.variant == Variant::DeadlineFromAnswer { self.lease } else { self.lease - age }
    }

    /// A later request replaces one that was not answered; the relay has one at a time.
    pub fn ask_for_renewal(&self, state: &State, id: InstanceId) -> Option<State> {
        let owner = state.valid(id)?;
        let is_answered = owner.renewal.is_none_or(|renewal| renewal.age > 0);
        if !self.has_renewals || owner.deadline == self.lease || !is_answered {
            return None;
        }
        let mut next = state.clone();
        next.owner_mut(id).renewal = Some(Renewal { age: 0, renewed: None });
        Some(next)
    }

    /// The server executes it, maybe long after the owner has sent it.
    pub fn renew(&self, state: &State, id: InstanceId) -> Option<State> {
        let owner = state.owner(id)?;
        let renewal = owner.renewal.filter(|renewal| renewal.renewed.is_none())?;
        let renewed = state.is_owned_by(id, owner.epoch);
        let mut next = state.clone();
        if renewed {
            next.database.expires = self.lease;
        }
        next.owner_mut(id).renewal = Some(Renewal { renewed: Some(renewed), ..renewal });
        Some(next)
    }

    pub fn learn_renewed(&self, state: &State, id: InstanceId) -> Option<State> {
        let Renewal { age, renewed: Some(renewed) } = state.running(id)?.renewal? else { return None };
        let mut next = state.clone();
        let deadline = self.deadline(age);
        let owner = next.owner_mut(id);
        owner.renewal = None;
        if !renewed {
            owner.deadline = 0;
        } else if owner.deadline > 0 {
            owner.deadline = owner.deadline.max(deadline);
        }
        Some(next)
    }

    /// Stands by as if just started: attempts are aborted, all connections end, and the memory is forgotten.
    pub fn end_lease(&self, state: &State, id: InstanceId) -> Option<State> {
        if state.running(id)?.deadline > 0 {
            return None;
        }
        let mut next = state.clone();
        self.leave(&mut next, id);
        next.is_disturbed = true;
        Some(next)
    }

    /// The same, and the shard is free at once, if the writer still reaches the database. It doesn't count as clean.
    pub fn give_up(&self, state: &State, id: InstanceId) -> Option<State> {
        let epoch = state.running(id)?.epoch;
        if state.database.expires <= 0 || !state.is_owned_by(id, epoch) {
            return None;
        }
        let mut next = self.end_lease(state, id)?;
        next.database.expires = 0;
        Some(next)
    }

    pub fn stop(state: &State, id: InstanceId) -> Option<State> {
        let owner = state.valid(id)?;
        // During the pause its spool isn't open yet, and a stop gives nothing up.
        if owner.is_stopping || owner.pause > 0 {
            return None;
        }
        let mut next = state.with_event()?;
        next.owner_mut(id).is_stopping = true;
        Some(next)
    }

    /// The grace period of a stop ends before an attempt does.
    pub fn end_grace(&self, state: &State, id: InstanceId) -> Option<State> {
        let owner = state.valid(id)?;
        if !owner.is_stopping || owner.attempt.is_none() {
            return None;
        }
        let mut next = state.clone();
        self.abort_attempt(&mut next, id);
        next.owner_mut(id).has_cut = true;
        next.is_disturbed = true;
        Some(next)
    }

    /// The end of a stop. It is clean if everything in memory is stored or confirmed, and acknowledged, and no attempt was aborted.
    pub fn release(&self, state: &State, id: InstanceId) -> Option<State> {
        let owner = state.valid(id)?;
        let is_completing = owner.completed.contains(&true) && self.variant != Variant::StopLeavesCompletedRows;
        let has_pending = owner.memory.iter().any(|memory| matches!(memory, Memory::Pending { .. }));
        let has_session = state.broker.session == Some((id, owner.epoch));
        let is_unacknowledged = has_session && state.broker.messages.contains(&Queued::Unacknowledged);
        let has_ended = !is_completing && !has_pending && !is_unacknowledged;
        let is_busy = owner.attempt.is_some() || owner.write.is_some() || !owner.is_connected;
        if !owner.is_stopping || is_busy || !(has_ended || owner.has_cut) {
            return None;
        }
        let mut next = state.clone();
        if state.is_owned_by(id, owner.epoch) {
            let is_clean = has_ended && (!owner.has_cut || self.variant == Variant::CutCountsAsClean);
            next.database.owner = state.database.owner.filter(|_| !is_clean);
            next.database.is_clean = is_clean;
            next.database.expires = 0;
        }
        self.leave(&mut next, id);
        Some(next)
    }

    /// The instance has no connection any more, and has forgotten everything.
    pub fn leave(&self, state: &mut State, id: InstanceId) {
        let Some(epoch) = state.owner(id).map(|owner| owner.epoch) else { return };
        self.abort_attempt(state, id);
        state.close_connection(id);
        if state.broker.session == Some((id, epoch)) {
            state.requeue();
        }
        state.instances[id].role = Role::Standby;
    }

    /// What was handed to the network may still arrive.
    fn abort_attempt(&self, state: &mut State, id: InstanceId) {
        let owner = state.owner_mut(id);
        let epoch = owner.epoch;
        let Some(Attempt { message, has_arrived, was_suspended }) = owner.attempt.take() else { return };
        let late = Late { message, epoch, left: (!was_suspended).then_some(self.pause) };
        if !has_arrived && !state.receiver.late.contains(&late) {
            state.receiver.late.push(late);
            state.receiver.late.sort_unstable();
        }
    }
}
