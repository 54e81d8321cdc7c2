//! Changes of the spool. Each is applied as one step of a transaction, and settled once the transaction is on disk: settling a change
//! notifies its caller and the dispatchers of the sinks.
//!
//! This is the seam of the spool: another database would apply the same changes with its own statements and settle them in the same way.

mod requests;
mod steps;

use std::fmt::Debug;

pub(super) use requests::{
    AdvanceRequest, EndRequest, FetchRequests, OpenOutcome, OpenRequest, SaveAlert, TidyRequests,
};
pub(super) use steps::{
    AddDeadLetters, AddDelivery, Complete, CompleteDigest, DeadLetterOrigin, DeadLetterOutcome, FetchDue, GiveBack,
    MakeDue, MakeFullGroupsDue, NewDeadLetter, Redrive, RedriveOutcome, RemovedItem, Reschedule, SaveState, Subscribe,
};
pub use steps::{RedriveOrigin, Subscription};

use super::Shared;
use super::delivery::{DeliveryRow, RowId};
use super::writer_state::WriterState;
use crate::rules::SinkName;

/// One kind of change: its statements, and the notifications once they are on disk.
pub(super) trait Step: Debug + Sized {
    /// The result of the statements.
    type Outcome: Debug;

    /// To be called once the transaction is on disk.
    fn settle(self, outcome: Self::Outcome, state: &mut WriterState, shared: &Shared);
}

#[derive(Debug)]
pub(super) enum Change {
    AddDeadLetters(AddDeadLetters),
    AddDelivery(AddDelivery),
    Complete(Complete),
    CompleteDigest(CompleteDigest),
    GiveBack(GiveBack),
    MakeFullGroupsDue(MakeFullGroupsDue),
    Reschedule(Reschedule),
    MakeDue(MakeDue),
    FetchDue(FetchDue),
    Subscribe(Subscribe),
    SaveState(SaveState),
    Redrive(Redrive),
    OpenRequest(OpenRequest),
    EndRequest(EndRequest),
    FetchRequests(FetchRequests),
    AdvanceRequest(AdvanceRequest),
    SaveAlert(SaveAlert),
    TidyRequests(TidyRequests),
}

/// Applies a change: evaluates `$apply` with its step, whatever the kind. An error comes with the change.
macro_rules! apply_step {
    ($change:expr, |$step:ident| $apply:expr) => {
        $crate::spool::change::apply_step!($change, |$step| $apply,
            AddDeadLetters AddDelivery Complete CompleteDigest GiveBack MakeFullGroupsDue Reschedule MakeDue FetchDue
            Subscribe SaveState Redrive OpenRequest EndRequest FetchRequests AdvanceRequest SaveAlert TidyRequests)
    };
    ($change:expr, |$step:ident| $apply:expr, $($kind:ident)*) => {
        match $change {
            $($crate::spool::change::Change::$kind($step) => match $apply {
                Ok(outcome) => Ok($crate::spool::change::AppliedChange::$kind($step, outcome)),
                Err(error) => Err(Box::new((error, $crate::spool::change::Change::$kind($step)))),
            },)*
        }
    };
}
pub(super) use apply_step;

/// A change that was applied in a transaction which is not on disk yet, with its outcome.
#[derive(Debug)]
pub(super) enum AppliedChange {
    AddDeadLetters(AddDeadLetters, <AddDeadLetters as Step>::Outcome),
    AddDelivery(AddDelivery, <AddDelivery as Step>::Outcome),
    Complete(Complete, <Complete as Step>::Outcome),
    CompleteDigest(CompleteDigest, <CompleteDigest as Step>::Outcome),
    GiveBack(GiveBack, <GiveBack as Step>::Outcome),
    MakeFullGroupsDue(MakeFullGroupsDue, <MakeFullGroupsDue as Step>::Outcome),
    Reschedule(Reschedule, <Reschedule as Step>::Outcome),
    MakeDue(MakeDue, <MakeDue as Step>::Outcome),
    FetchDue(FetchDue, <FetchDue as Step>::Outcome),
    Subscribe(Subscribe, <Subscribe as Step>::Outcome),
    SaveState(SaveState, <SaveState as Step>::Outcome),
    Redrive(Redrive, <Redrive as Step>::Outcome),
    OpenRequest(OpenRequest, <OpenRequest as Step>::Outcome),
    EndRequest(EndRequest, <EndRequest as Step>::Outcome),
    FetchRequests(FetchRequests, <FetchRequests as Step>::Outcome),
    AdvanceRequest(AdvanceRequest, <AdvanceRequest as Step>::Outcome),
    SaveAlert(SaveAlert, <SaveAlert as Step>::Outcome),
    TidyRequests(TidyRequests, <TidyRequests as Step>::Outcome),
}

impl Change {
    /// How much larger it makes the file, in bytes.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::AddDeadLetters(add) => add.letters.iter().map(NewDeadLetter::size).sum(),
            Self::AddDelivery(add) => add.row.size,
            Self::OpenRequest(open) => open.size(),
            Self::EndRequest(end) => end.size(),
            Self::Redrive(_) | Self::AdvanceRequest(_) | Self::SaveAlert(_) => {
                self.added_rows().iter().map(|row| row.size).sum()
            }
            _ => 0,
        }
    }

    /// The deliveries that it adds beside what it is about.
    fn added_rows(&self) -> &[DeliveryRow] {
        match self {
            Self::Redrive(Redrive { rows, .. })
            | Self::AdvanceRequest(AdvanceRequest { rows, .. })
            | Self::SaveAlert(SaveAlert { rows, .. }) => rows,
            _ => &[],
        }
    }

    /// It only adds what a message needs that was just received, or follows its row. Only the message's source waits for that.
    pub(super) fn is_of_new_message(&self) -> bool {
        matches!(self, Self::OpenRequest(_) | Self::EndRequest(_) | Self::MakeFullGroupsDue(_))
    }

    /// Later changes may be written before it.
    pub(super) fn note_blocked(&mut self) {
        if let Self::AddDelivery(add) = self {
            add.was_blocked = true;
        }
    }

    /// The row that it adds, if the sink's dispatcher already knows the row's id.
    pub(super) fn row(&self) -> Option<RowId> {
        if let Self::AddDelivery(add) = self { Some(add.row.id) } else { None }
    }

    /// The row that has to be written before it.
    pub(super) fn refers_to(&self) -> Option<RowId> {
        match self {
            Self::Complete(Complete { id, .. }) | Self::Reschedule(Reschedule { id, .. }) => Some(*id),
            // Those of a digest were fetched, so they are written.
            Self::AddDeadLetters(AddDeadLetters { origin: DeadLetterOrigin::Deliveries(ids, ..), .. }) => {
                ids.first().copied()
            }
            _ => None,
        }
    }

    /// The lane of the delivery that it adds, if that is for `sink`.
    pub(super) fn lane_for(&self, sink: &SinkName) -> Option<u16> {
        match self {
            Self::AddDelivery(add) if add.row.delivery.sink == *sink => {
                u16::try_from(add.row.delivery.key & 0xffff).ok()
            }
            _ => None,
        }
    }

    pub(super) fn is_read_only(&self) -> bool {
        match self {
            // A fetch of digests stores what belongs to each.
            Self::FetchDue(fetch) => fetch.limit.digests.is_none(),
            Self::Subscribe(_) | Self::GiveBack(_) | Self::FetchRequests(_) => true,
            _ => false,
        }
    }

    /// The size of the dead letters that it adds, in bytes, as `dead_letters.max_size` counts them.
    pub(super) fn dead_letter_size(&self) -> Option<u64> {
        if let Self::AddDeadLetters(add) = self {
            Some(add.letters.iter().map(|letter| letter.row.size).sum())
        } else {
            None
        }
    }

    /// Whether it adds a dead letter beyond `dead_letters.max_size`: the source ends and would receive the message again, for all sinks; or
    /// the broker is about to drop the message. There are no more of these than the sources' prefetch.
    pub(super) fn is_dead_letter_beyond_limits(&self) -> bool {
        matches!(
            self,
            Self::AddDeadLetters(AddDeadLetters { origin: DeadLetterOrigin::Message(receipt), .. })
                if receipt.must_spill()
        )
    }

    /// The sinks whose backlogs it changes.
    pub(super) fn sinks(&self) -> impl Iterator<Item = &SinkName> {
        let (one, other) = match self {
            Self::AddDelivery(add) => (Some(&add.row.delivery.sink), None),
            Self::Complete(Complete { sink, .. })
            | Self::CompleteDigest(CompleteDigest { sink, .. })
            | Self::Redrive(Redrive { origin: RedriveOrigin::Orphan(_, sink), .. }) => (Some(sink), None),
            Self::AddDeadLetters(AddDeadLetters { letters, origin }) => {
                let replaced = match origin {
                    DeadLetterOrigin::Message(_) => None,
                    DeadLetterOrigin::Deliveries(_, sink, _) => Some(sink),
                };
                // All copies are for one sink.
                let copy = letters.iter().find_map(|letter| letter.copy.as_ref());
                (replaced, copy.map(|copy| &copy.delivery.sink))
            }
            _ => (None, None),
        };
        let added = self.added_rows().iter().map(|row| &row.delivery.sink);
        one.into_iter().chain(other).chain(added)
    }
}

impl AppliedChange {
    /// To be called once the transaction is on disk.
    pub(super) fn settle(self, state: &mut WriterState, shared: &Shared) {
        match self {
            Self::AddDeadLetters(step, outcome) => step.settle(outcome, state, shared),
            Self::AddDelivery(step, outcome) => step.settle(outcome, state, shared),
            Self::Complete(step, outcome) => step.settle(outcome, state, shared),
            Self::CompleteDigest(step, outcome) => step.settle(outcome, state, shared),
            Self::GiveBack(step, outcome) => step.settle(outcome, state, shared),
            Self::MakeFullGroupsDue(step, outcome) => step.settle(outcome, state, shared),
            Self::Reschedule(step, outcome) => step.settle(outcome, state, shared),
            Self::MakeDue(step, outcome) => step.settle(outcome, state, shared),
            Self::FetchDue(step, outcome) => step.settle(outcome, state, shared),
            Self::Subscribe(step, outcome) => step.settle(outcome, state, shared),
            Self::SaveState(step, outcome) => step.settle(outcome, state, shared),
            Self::Redrive(step, outcome) => step.settle(outcome, state, shared),
            Self::OpenRequest(step, outcome) => step.settle(outcome, state, shared),
            Self::EndRequest(step, outcome) => step.settle(outcome, state, shared),
            Self::FetchRequests(step, outcome) => step.settle(outcome, state, shared),
            Self::AdvanceRequest(step, outcome) => step.settle(outcome, state, shared),
            Self::SaveAlert(step, outcome) => step.settle(outcome, state, shared),
            Self::TidyRequests(step, outcome) => step.settle(outcome, state, shared),
        }
    }

    /// The transaction is not on disk: the change has to be applied again.
    pub(super) fn into_change(self) -> Change {
        match self {
            Self::AddDeadLetters(step, _) => Change::AddDeadLetters(step),
            Self::AddDelivery(step, _) => Change::AddDelivery(step),
            Self::Complete(step, _) => Change::Complete(step),
            Self::CompleteDigest(step, _) => Change::CompleteDigest(step),
            Self::GiveBack(step, ()) => Change::GiveBack(step),
            Self::MakeFullGroupsDue(step, _) => Change::MakeFullGroupsDue(step),
            Self::Reschedule(step, ()) => Change::Reschedule(step),
            Self::MakeDue(step, ()) => Change::MakeDue(step),
            Self::FetchDue(step, _) => Change::FetchDue(step),
            Self::Subscribe(step, _) => Change::Subscribe(step),
            Self::SaveState(step, ()) => Change::SaveState(step),
            Self::Redrive(step, _) => Change::Redrive(step),
            Self::OpenRequest(step, _) => Change::OpenRequest(step),
            Self::EndRequest(step, _) => Change::EndRequest(step),
            Self::FetchRequests(step, _) => Change::FetchRequests(step),
            Self::AdvanceRequest(step, _) => Change::AdvanceRequest(step),
            Self::SaveAlert(step, _) => Change::SaveAlert(step),
            Self::TidyRequests(step, _) => Change::TidyRequests(step),
        }
    }
}
