//! What must hold in every state, and what must be reached so that this says something.

use stateright::Property;

use crate::protocol::Protocol;
use crate::state::{Message, Owner, Phase, Promise, Queued, Role, State};

type Condition = fn(&Protocol, &State) -> bool;

/// The invariants.
pub fn promises() -> Vec<Property<Protocol>> {
    let promises: [(&str, Condition); 10] = [
        ("one valid lease", |_, state| owners(state).filter(|owner| owner.deadline > 0).count() <= 1),
        ("attempt with lease", |_, state| !state.broken.has(Promise::AttemptWithLease)),
        ("fence", |_, state| !state.broken.has(Promise::Fence)),
        ("takeover not held up", |_, state| !state.broken.has(Promise::TakeoverNotHeldUp)),
        ("ids ascend", |_, state| !state.broken.has(Promise::IdsAscend)),
        ("stored once", |_, state| !state.broken.has(Promise::StoredOnce)),
        ("nothing lost", |protocol, state| {
            let is_safe = |message| state.has_row(message) || state.receiver.arrived[message];
            (0..protocol.messages).all(|message| !is_acknowledged(state, message) || is_safe(message))
        }),
        ("order", |_, state| !state.broken.has(Promise::Order)),
        ("nothing after pause", |_, state| !state.broken.has(Promise::NothingAfterPause)),
        ("clean stop repeats nothing", |_, state| !state.broken.has(Promise::CleanStopRepeatsNothing)),
    ];
    promises.map(|(name, condition)| Property::always(name, condition)).to_vec()
}

/// Each has to be reached within some of the bounds.
pub fn situations() -> Vec<Property<Protocol>> {
    let situations: [(&str, Condition); 9] = [
        ("a later owner ends the work", |protocol, state| is_done(protocol, state) && state.receiver.begun_epoch > 1),
        ("a clean stop leaves work", |protocol, state| {
            state.database.epoch > 1 && !state.is_disturbed && !is_done(protocol, state)
        }),
        ("a late attempt is a duplicate", |_, state| {
            has_late(state, |receiver_has_it, later_ones| receiver_has_it && later_ones)
        }),
        ("a late attempt is the first copy", |_, state| {
            has_late(state, |receiver_has_it, later_ones| !receiver_has_it && later_ones)
        }),
        ("a write is fenced", |_, state| {
            state.transactions.iter().any(|transaction| transaction.phase == Phase::Fenced)
        }),
        ("a taker waits for a write", |_, state| {
            let is_taking = |role: &Role| matches!(role, Role::Taking(taking) if taking.taken.is_none());
            let has_taker = state.instances.iter().any(|instance| is_taking(&instance.role));
            has_taker && state.transactions.iter().any(|open| open.has_lock && open.phase == Phase::CommitSent)
        }),
        ("an unknown COMMIT is stored", |_, state| has_unknown(state, true)),
        ("an unknown COMMIT is not stored", |_, state| has_unknown(state, false)),
        ("an unknown COMMIT still runs", |_, state| {
            unknown(state).any(|(owner, _)| has_transaction(state, owner.epoch))
        }),
    ];
    situations.map(|(name, condition)| Property::sometimes(name, condition)).to_vec()
}

/// Everything is delivered and acknowledged.
pub fn is_done(protocol: &Protocol, state: &State) -> bool {
    let has_ended = |message| is_acknowledged(state, message) && state.receiver.arrived[message];
    (0..protocol.messages).all(has_ended) && state.database.rows.is_empty()
}

fn is_acknowledged(state: &State, message: Message) -> bool {
    state.broker.messages[message] == Queued::Acknowledged
}

fn owners(state: &State) -> impl Iterator<Item = &Owner> {
    state.instances.iter().filter_map(|instance| match &instance.role {
        Role::Owner(owner) => Some(owner),
        _ => None,
    })
}

/// Looks for a late attempt by whether a copy of its message has arrived, and whether a later owner has begun attempts.
fn has_late(state: &State, condition: fn(bool, bool) -> bool) -> bool {
    let receiver = &state.receiver;
    receiver.late.iter().any(|late| condition(receiver.arrived[late.message], late.epoch < receiver.begun_epoch))
}

/// The owners that don't know how their COMMIT has ended, with the number of its batch.
fn unknown(state: &State) -> impl Iterator<Item = (&Owner, u8)> {
    let number = |owner: &Owner| owner.write.filter(|write| write.is_unknown).map(|write| write.number);
    owners(state).filter_map(move |owner| number(owner).map(|number| (owner, number)))
}

fn has_unknown(state: &State, is_stored: bool) -> bool {
    unknown(state).any(|(owner, number)| {
        let has_ended = state.database.epoch == owner.epoch && !has_transaction(state, owner.epoch);
        has_ended && (number == state.database.batch) == is_stored
    })
}

fn has_transaction(state: &State, epoch: u8) -> bool {
    state.transactions.iter().any(|transaction| transaction.epoch == epoch)
}
