//! What goes wrong. The number of faults is bounded; a suspended instance wakes up without a further one.

use crate::protocol::Protocol;
use crate::state::{Instance, InstanceId, Phase, Role, State, Taking, Write};
use crate::variants::Variant;

impl Protocol {
    /// The instance is started again at once. The broker and the server notice the end of its connections later.
    pub fn crash(&self, state: &State, id: InstanceId) -> Option<State> {
        if state.instances[id].role == Role::Standby {
            return None;
        }
        let mut next = state.with_fault()?;
        let session = next.broker.session.take();
        self.leave(&mut next, id);
        next.broker.session = session;
        next.instances[id] = Instance::default();
        Some(next)
    }

    pub fn suspend(state: &State, id: InstanceId) -> Option<State> {
        if state.instances[id].is_suspended || state.instances[id].role == Role::Standby {
            return None;
        }
        let mut next = state.with_fault()?;
        next.instances[id].is_suspended = true;
        if let Role::Owner(owner) = &mut next.instances[id].role
            && let Some(attempt) = &mut owner.attempt
        {
            attempt.was_suspended = true;
        }
        Some(next)
    }

    pub fn wake_up(state: &State, id: InstanceId) -> Option<State> {
        if !state.instances[id].is_suspended {
            return None;
        }
        let mut next = state.clone();
        next.instances[id].is_suspended = false;
        Some(next)
    }

    /// The owner loses its connection for writes, with the answers on it.
    pub fn lose_connection(state: &State, id: InstanceId) -> Option<State> {
        if !state.running(id)?.is_connected {
            return None;
        }
        let mut next = state.with_fault()?;
        let phase = state.awaited(id).map(|at| state.transactions[at].phase);
        next.close_connection(id);
        let owner = next.owner_mut(id);
        owner.is_connected = false;
        let has_sent_commit = matches!(phase, Some(Phase::CommitSent | Phase::Committed | Phase::Unanswered));
        match owner.write {
            Some(write) if has_sent_commit => owner.write = Some(Write { is_unknown: true, ..write }),
            Some(Write { change, .. }) => owner.requeue(change, state.has_row(change.message())),
            None => {}
        }
        Some(next)
    }

    /// Without an answer the instance stands by again. It is a fault if it has the shard then, and doesn't know it.
    pub fn forget_request(&self, state: &State, id: InstanceId) -> Option<State> {
        let Role::Taking(Taking { taken, age, .. }) = state.instances[id].role else { return None };
        let mut next = match taken {
            Some(_) => state.with_fault()?,
            None if age == self.lease => state.clone(),
            None => return None,
        };
        next.instances[id].role = Role::Standby;
        Some(next)
    }

    pub fn restart_database(state: &State) -> Option<State> {
        let mut next = state.with_fault()?;
        next.lose_transactions();
        for instance in &mut next.instances {
            match &mut instance.role {
                Role::Owner(owner) => owner.renewal = None,
                role @ Role::Taking(Taking { taken: None, .. }) => *role = Role::Standby,
                _ => {}
            }
        }
        if let Some((rows, batch)) = next.database.unflushed.take() {
            (next.database.rows, next.database.batch) = (rows, batch);
        }
        Some(next)
    }

    /// A deadline by the wall clock, which somebody corrects.
    pub fn set_clock_back(&self, state: &State, id: InstanceId) -> Option<State> {
        if self.variant != Variant::ClockSetBack || state.valid(id)?.deadline == self.lease {
            return None;
        }
        let mut next = state.with_fault()?;
        next.owner_mut(id).deadline = self.lease;
        Some(next)
    }

    pub fn set_database_clock_forward(&self, state: &State) -> Option<State> {
        if self.variant != Variant::DatabaseClockSetForward || state.database.expires <= 0 {
            return None;
        }
        let mut next = state.with_fault()?;
        next.database.expires = -self.pause;
        Some(next)
    }
}

impl State {
    pub fn with_event(&self) -> Option<Self> {
        let events_left = self.events_left.checked_sub(1)?;
        Some(Self { events_left, ..self.clone() })
    }

    pub fn with_fault(&self) -> Option<Self> {
        Some(Self { is_disturbed: true, ..self.with_event()? })
    }
}
