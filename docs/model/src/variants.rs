//! The protocol as designed, and with one mistake. The checker has to find each mistake, or the promises would say nothing.

use crate::protocol::Protocol;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    AsDesigned,
    /// A transaction doesn't look who has the shard.
    NoFence,
    /// It looks in a transaction of its own, before.
    FenceOutside,
    /// The owner's deadline is by a clock that stands still while the owner is suspended.
    ClockStandsStill,
    /// The owner's deadline is by the wall clock, which somebody sets back.
    ClockSetBack,
    /// The owner's deadline counts from the answer to its request.
    DeadlineFromAnswer,
    /// An attempt begins without a look at the lease.
    AttemptWithoutLease,
    /// Attempts begin at once, also after an unclean end.
    NoPause,
    /// A stop that has aborted an attempt is clean, too.
    CutCountsAsClean,
    /// A stop doesn't wait until the rows of confirmed deliveries are removed.
    StopLeavesCompletedRows,
    /// A new message is attempted although rows of its key are spooled.
    NewBeforeSpooled,
    AcknowledgeBeforeCommit,
    /// A restart of the database loses the last commit.
    SynchronousCommitOff,
    UnknownIsDone,
    UnknownIsFailed,
    /// By `pg_xact_status`: after a crash, the id belongs to another transaction.
    AskedByTransactionId,
    /// The first row of each owner has the number 1.
    IdsRestart,
    /// A taker doesn't end the backends of the owner before.
    BackendsLeftAlive,
    /// No mistake of the protocol: an assumption that doesn't hold.
    DatabaseClockSetForward,
}

/// A mistake, and the promise by which the checker has to find it.
pub struct Mutant {
    pub name: &'static str,
    pub caught_by: &'static str,
    pub protocol: Protocol,
}

/// Small bounds in which most mistakes are found. All states are explored, so the result also says what a mistake does not break.
const SMALL: Protocol = Protocol {
    instances: 2,
    messages: 1,
    epochs: 2,
    events: 1,
    lease: 1,
    has_renewals: false,
    pause: 1,
    is_symmetric: false,
    promise: None,
    variant: Variant::AsDesigned,
};

const RENEWALS: Protocol = Protocol { messages: 0, lease: 2, has_renewals: true, ..SMALL };

const TWO_MESSAGES: Protocol = Protocol { messages: 2, ..SMALL };

/// The bounds of the protocol as designed, with their names.
pub fn designed() -> Vec<(&'static str, Protocol)> {
    let symmetric = Protocol { is_symmetric: true, ..SMALL };
    let renewals = Protocol { lease: 2, has_renewals: true, epochs: 3, ..symmetric };
    vec![
        ("leases alone", Protocol { instances: 3, messages: 0, epochs: 4, events: 3, lease: 3, pause: 2, ..renewals }),
        ("one message", Protocol { epochs: 3, events: 2, ..symmetric }),
        ("two messages", Protocol { messages: 2, epochs: 3, ..symmetric }),
        ("three instances", Protocol { instances: 3, epochs: 3, ..symmetric }),
        ("renewals and a message", renewals),
    ]
}

/// More faults: seven minutes, and 1.3 GB of memory.
pub fn deep() -> Vec<(&'static str, Protocol)> {
    let symmetric = Protocol { is_symmetric: true, ..SMALL };
    vec![
        ("three faults", Protocol { epochs: 3, events: 3, ..symmetric }),
        ("three instances, two faults", Protocol { instances: 3, epochs: 3, events: 2, ..symmetric }),
        ("two messages, two faults", Protocol { messages: 2, events: 2, ..symmetric }),
    ]
}

pub fn mutants() -> Vec<Mutant> {
    vec![
        mutant("no fence", SMALL, Variant::NoFence, "fence"),
        mutant("fence outside of the transaction", SMALL, Variant::FenceOutside, "fence"),
        mutant("clock that stands still", SMALL, Variant::ClockStandsStill, "one valid lease"),
        mutant("clock that is set back", RENEWALS, Variant::ClockSetBack, "one valid lease"),
        mutant("deadline from the answer", RENEWALS, Variant::DeadlineFromAnswer, "one valid lease"),
        mutant("attempt without a lease", SMALL, Variant::AttemptWithoutLease, "attempt with lease"),
        mutant("no pause", TWO_MESSAGES, Variant::NoPause, "nothing after pause"),
        mutant("stop that aborts counts as clean", SMALL, Variant::CutCountsAsClean, "nothing after pause"),
        mutant("stop leaves completed rows", SMALL, Variant::StopLeavesCompletedRows, "clean stop repeats nothing"),
        mutant("new before spooled", TWO_MESSAGES, Variant::NewBeforeSpooled, "order"),
        mutant("acknowledged before COMMIT", SMALL, Variant::AcknowledgeBeforeCommit, "nothing lost"),
        mutant("synchronous_commit off", SMALL, Variant::SynchronousCommitOff, "nothing lost"),
        mutant("unknown COMMIT is done", SMALL, Variant::UnknownIsDone, "nothing lost"),
        mutant("unknown COMMIT has failed", SMALL, Variant::UnknownIsFailed, "stored once"),
        mutant("asked by pg_xact_status", SMALL, Variant::AskedByTransactionId, "nothing lost"),
        mutant("ids that restart", SMALL, Variant::IdsRestart, "ids ascend"),
        mutant("backends left alive", SMALL, Variant::BackendsLeftAlive, "takeover not held up"),
        mutant("clock of the database set forward", SMALL, Variant::DatabaseClockSetForward, "one valid lease"),
    ]
}

/// Clocks that can't be trusted, with a second message: they must not break the order.
pub fn deep_mutants() -> Vec<Mutant> {
    vec![
        mutant("clock that stands still", TWO_MESSAGES, Variant::ClockStandsStill, "one valid lease"),
        mutant("clock of the database set forward", TWO_MESSAGES, Variant::DatabaseClockSetForward, "one valid lease"),
    ]
}

fn mutant(name: &'static str, bounds: Protocol, variant: Variant, caught_by: &'static str) -> Mutant {
    Mutant { name, caught_by, protocol: Protocol { variant, ..bounds } }
}
