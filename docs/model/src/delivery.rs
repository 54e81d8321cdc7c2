//! The broker's queue, and attempts to deliver to the sink's receiver.

use crate::protocol::Protocol;
use crate::state::{Attempt, InstanceId, Late, MESSAGES, Memory, Message, Owner, Promise, Queued, State};
use crate::variants::Variant;

impl Protocol {
    /// The queue has one consumer at a time.
    pub fn consume(state: &State, id: InstanceId) -> Option<State> {
        let owner = state.valid(id)?;
        let has_messages = state.broker.messages.iter().any(|queued| matches!(queued, Queued::Ready { .. }));
        if owner.pause > 0 || owner.is_stopping || state.broker.session.is_some() || !has_messages {
            return None;
        }
        let mut next = state.clone();
        next.broker.session = Some((id, owner.epoch));
        Some(next)
    }

    /// Messages come in the order of the queue. One that the instance still has in memory is recognized.
    pub fn receive(state: &State, id: InstanceId) -> Option<State> {
        let owner = state.running(id)?;
        if owner.is_stopping || state.broker.session != Some((id, owner.epoch)) {
            return None;
        }
        let mut messages = state.broker.messages.iter().enumerate();
        let (message, is_redelivered) = messages.find_map(|(message, queued)| match *queued {
            Queued::Ready { is_redelivered } => Some((message, is_redelivered)),
            _ => None,
        })?;
        let mut next = state.clone();
        next.broker.messages[message] = Queued::Unacknowledged;
        let memory = &mut next.owner_mut(id).memory[message];
        if *memory == Memory::Absent {
            *memory = Memory::Pending { is_redelivered };
        }
        Some(next)
    }

    /// Messages are acknowledged in order.
    pub fn acknowledge(state: &State, id: InstanceId, message: Message) -> Option<State> {
        let owner = state.running(id)?;
        let is_first = !state.broker.messages[..message].contains(&Queued::Unacknowledged);
        let is_received = state.broker.messages[message] == Queued::Unacknowledged;
        let has_session = state.broker.session == Some((id, owner.epoch));
        if owner.memory[message] != Memory::Settled || !is_first || !is_received || !has_session {
            return None;
        }
        let mut next = state.clone();
        next.broker.messages[message] = Queued::Acknowledged;
        Some(next)
    }

    /// The broker notices that the consumer is gone or suspended. The loss of a good session is a fault.
    pub fn end_session(state: &State) -> Option<State> {
        let (id, epoch) = state.broker.session?;
        let is_good = state.running(id).is_some_and(|owner| owner.epoch == epoch);
        let mut next = if is_good { state.with_fault()? } else { state.clone() };
        next.requeue();
        Some(next)
    }

    /// Of a key, spooled deliveries come first, by their ids. A message that was redelivered is stored first.
    pub fn begin_attempt(&self, state: &State, id: InstanceId) -> Option<State> {
        let owner = if self.variant == Variant::AttemptWithoutLease { state.running(id)? } else { state.valid(id)? };
        if owner.attempt.is_some() || owner.pause > 0 || owner.is_stopping {
            return None;
        }
        let spooled = state.database.rows.iter().map(|row| row.message).find(|message| !owner.completed[*message]);
        let message = match self.variant {
            Variant::NewBeforeSpooled => direct(owner).or(spooled)?,
            _ => spooled.or_else(|| direct(owner))?,
        };
        let mut next = state.clone();
        let has_lease = state.is_owned_by(id, owner.epoch) && state.database.expires > 0;
        if !has_lease {
            next.broken.add(Promise::AttemptWithLease);
        }
        next.receiver.begun_epoch = next.receiver.begun_epoch.max(owner.epoch);
        next.owner_mut(id).attempt = Some(Attempt { message, has_arrived: false, was_suspended: false });
        Some(next)
    }

    pub fn arrive(state: &State, id: InstanceId) -> Option<State> {
        let owner = state.owner(id)?;
        let Attempt { message, has_arrived: false, was_suspended } = owner.attempt? else { return None };
        let mut next = state.clone();
        next.deliver(message, owner.epoch, !was_suspended);
        next.owner_mut(id).attempt = Some(Attempt { message, has_arrived: true, was_suspended });
        Some(next)
    }

    /// The owner gets the receiver's confirmation.
    pub fn confirm(state: &State, id: InstanceId) -> Option<State> {
        let owner = state.running(id)?;
        let Attempt { message, has_arrived: true, .. } = owner.attempt? else { return None };
        let is_storing = |owner: &Owner| owner.write.is_some_and(|write| write.change.stores(message));
        let is_spooled = state.has_row(message) || is_storing(owner);
        let mut next = state.clone();
        let owner = next.owner_mut(id);
        owner.attempt = None;
        if is_spooled {
            owner.completed[message] = true;
        } else {
            owner.memory[message] = Memory::Settled;
        }
        Some(next)
    }

    /// The receiver has not taken it; it will be attempted again.
    pub fn refuse(state: &State, id: InstanceId) -> Option<State> {
        if state.running(id)?.attempt?.has_arrived {
            return None;
        }
        let mut next = state.clone();
        next.owner_mut(id).attempt = None;
        Some(next)
    }

    pub fn arrive_late(state: &State, at: usize) -> State {
        let mut next = state.clone();
        let Late { message, epoch, left } = next.receiver.late.remove(at);
        next.deliver(message, epoch, left.is_some());
        next
    }
}

/// The first message in memory that is not settled, if it may be attempted before it is stored.
fn direct(owner: &Owner) -> Option<Message> {
    let is_pending = |message: &Message| matches!(owner.memory[*message], Memory::Pending { .. });
    let first = (0..MESSAGES).find(is_pending)?;
    let is_storing = owner.write.is_some_and(|write| write.change.stores(write.change.message()));
    let is_new = owner.memory[first] == Memory::Pending { is_redelivered: false };
    (is_new && !is_storing).then_some(first)
}

impl State {
    /// A copy of the message arrives. `ran`: its owner ran all the time, so it has aborted the attempt when its lease ended.
    fn deliver(&mut self, message: Message, epoch: u8, ran: bool) {
        let receiver = &mut self.receiver;
        if ran && receiver.begun_epoch > epoch {
            self.broken.add(Promise::NothingAfterPause);
        }
        if receiver.arrived[message] && !self.is_disturbed {
            self.broken.add(Promise::CleanStopRepeatsNothing);
        }
        if receiver.arrived[..message].contains(&false) {
            self.broken.add(Promise::Order);
        }
        receiver.arrived[message] = true;
        let arrived = receiver.arrived;
        // Of an owner that was suspended, a duplicate may arrive at any time, and changes nothing.
        receiver.late.retain(|late| late.left.is_some() || !arrived[late.message]);
    }

    /// Without a consumer, the messages that it has not acknowledged are in the queue again.
    pub fn requeue(&mut self) {
        self.broker.session = None;
        for message in &mut self.broker.messages {
            if *message == Queued::Unacknowledged {
                *message = Queued::Ready { is_redelivered: true };
            }
        }
    }
}
