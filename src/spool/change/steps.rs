//! The changes: the statements of each, and whom it notifies once it is on disk.

use tokio::sync::{mpsc, oneshot};

use super::Step;
use crate::clock::MonotonicTime;
use crate::rules::SinkName;
use crate::source::Receipt;
use crate::spool::dead_letter::DeadLetterRow;
use crate::spool::delivery::{DeliveryRow, DigestLimit, FetchLimit, GroupTiming, Groups, RowId, SpoolEvent, WaitsFor};
use crate::spool::outcome::{FetchedDeliveries, InsertOutcome, RemovedDeadLetter, RemovedDeliveries, RemovedDelivery};
use crate::spool::writer_state::WriterState;
use crate::spool::{Component, Shared};

/// Adds dead letters, and their copies for `dead_letters.to`, in place of a message, a delivery, or all deliveries of a digest.
#[derive(Debug)]
pub(in crate::spool) struct AddDeadLetters {
    pub(in crate::spool) letters: Vec<NewDeadLetter>,
    pub(in crate::spool) origin: DeadLetterOrigin,
}

#[derive(Debug)]
pub(in crate::spool) struct NewDeadLetter {
    pub(in crate::spool) row: DeadLetterRow,
    pub(in crate::spool) copy: Option<Box<DeliveryRow>>,
}

#[derive(Debug)]
pub(in crate::spool) enum DeadLetterOrigin {
    Message(Receipt),
    /// Deliveries in the spool, each by its dead letter; of a sink with `group` also when the next digest is due.
    Deliveries(Vec<RowId>, SinkName, Option<GroupTiming>),
}

#[derive(Debug)]
pub(in crate::spool) struct DeadLetterOutcome {
    /// Of each dead letter and of its copy.
    pub(in crate::spool) inserted: Vec<(InsertOutcome, Option<InsertOutcome>)>,
    /// The deliveries that the dead letters replaced.
    pub(in crate::spool) removed: RemovedDeliveries,
}

impl NewDeadLetter {
    /// What a redelivered message is recorded as, if its dead letter is new.
    pub(in crate::spool) fn own_row(&self) -> Option<i64> {
        let is_redelivered = self.row.is_received && self.row.letter.message.redelivered;
        is_redelivered.then_some(-self.row.id)
    }

    pub(in crate::spool) fn size(&self) -> u64 {
        self.row.size + self.copy.as_ref().map_or(0, |copy| copy.size)
    }

    fn settle(self, inserted: InsertOutcome, copy: Option<InsertOutcome>, state: &WriterState, shared: &Shared) {
        let letter = &self.row.letter;
        if inserted == InsertOutcome::Inserted {
            if let Some(journal) = shared.journal() {
                self.row.record(journal);
            }
            shared.dead_letter_counts().add(letter.reason, letter.sink.as_ref(), self.row.size);
        }
        if let Some(row) = self.copy {
            settle_added(&row, copy, state, shared);
        }
    }
}

impl Step for AddDeadLetters {
    type Outcome = DeadLetterOutcome;

    fn settle(self, outcome: Self::Outcome, state: &mut WriterState, shared: &Shared) {
        for (letter, (inserted, copy)) in self.letters.into_iter().zip(outcome.inserted) {
            letter.settle(inserted, copy, state, shared);
        }
        match self.origin {
            DeadLetterOrigin::Message(receipt) => receipt.settle(),
            DeadLetterOrigin::Deliveries(_, sink, _) => {
                for (id, removed) in outcome.removed {
                    state.end_dead_lettering(&sink, id);
                    let key = removed.map(|removed| removed.key);
                    state.notify(&sink, SpoolEvent::DeadLettered { id, key });
                    settle_removed(id, &sink, removed, state, shared);
                }
            }
        }
    }
}

/// Adds a delivery. Once it is on disk, its message can be acknowledged.
#[derive(Debug)]
pub(in crate::spool) struct AddDelivery {
    pub(in crate::spool) row: Box<DeliveryRow>,
    pub(in crate::spool) receipt: Receipt,
    /// It waited for room, and later changes were written before it: a fetch may have missed it.
    pub(in crate::spool) was_blocked: bool,
}

impl AddDelivery {
    /// What a redelivered message is recorded as, if its delivery is new.
    pub(in crate::spool) fn own_row(&self) -> Option<i64> {
        self.row.delivery.may_be_known.then_some(self.row.id.0)
    }

    /// The delivery was completed before it was written, so it needs no row.
    pub(in crate::spool) fn settle_unwritten(self, state: &mut WriterState, shared: &Shared) {
        shared.budget().release(&self.row.delivery.sink, self.row.size);
        state.release(&self.row.delivery.sink, self.row.id);
        self.receipt.settle();
    }
}

impl Step for AddDelivery {
    type Outcome = InsertOutcome;

    fn settle(self, inserted: Self::Outcome, state: &mut WriterState, shared: &Shared) {
        let DeliveryRow { id, delivery, size, .. } = *self.row;
        shared.budget().on_written(&delivery.sink, size, inserted);
        if let InsertOutcome::Duplicate(_) = inserted {
            state.release(&delivery.sink, id);
            state.notify(&delivery.sink, SpoolEvent::AlreadySpooled { key: delivery.key });
        }
        if self.was_blocked {
            state.notify(&delivery.sink, SpoolEvent::MoreDue);
        }
        self.receipt.settle();
    }
}

/// Removes a delivery that has ended.
#[derive(Debug)]
pub(in crate::spool) struct Complete {
    pub(in crate::spool) id: RowId,
    pub(in crate::spool) sink: SinkName,
}

/// Removes the deliveries of a digest that has ended.
#[derive(Debug)]
pub(in crate::spool) struct CompleteDigest {
    pub(in crate::spool) ids: Vec<RowId>,
    pub(in crate::spool) sink: SinkName,
    /// When the next digest of the group is due.
    pub(in crate::spool) next: GroupTiming,
}

impl Step for CompleteDigest {
    type Outcome = RemovedDeliveries;

    fn settle(self, removed: Self::Outcome, state: &mut WriterState, shared: &Shared) {
        for (id, removed) in removed {
            settle_removed(id, &self.sink, removed, state, shared);
        }
    }
}

/// Makes groups due that wait for more events and are full.
#[derive(Debug)]
pub(in crate::spool) struct MakeFullGroupsDue {
    pub(in crate::spool) sink: SinkName,
    pub(in crate::spool) groups: Groups,
    pub(in crate::spool) limit: DigestLimit,
}

impl Step for MakeFullGroupsDue {
    /// Whether there was one.
    type Outcome = bool;

    fn settle(self, is_due: Self::Outcome, state: &mut WriterState, _: &Shared) {
        if is_due {
            state.notify(&self.sink, SpoolEvent::MoreDue);
        }
    }
}

/// Takes back deliveries that a dispatcher has fetched and not attempted.
#[derive(Debug)]
pub(in crate::spool) struct GiveBack {
    pub(in crate::spool) sink: SinkName,
    pub(in crate::spool) ids: Vec<RowId>,
}

impl Step for GiveBack {
    type Outcome = ();

    fn settle(self, (): Self::Outcome, _: &mut WriterState, _: &Shared) {}
}

impl Step for Complete {
    type Outcome = Option<RemovedDelivery>;

    fn settle(self, removed: Self::Outcome, state: &mut WriterState, shared: &Shared) {
        settle_removed(self.id, &self.sink, removed, state, shared);
    }
}

/// Makes a delivery due again at a later time.
#[derive(Debug)]
pub(in crate::spool) struct Reschedule {
    pub(in crate::spool) id: RowId,
    /// The other deliveries of its digest.
    pub(in crate::spool) others: Vec<RowId>,
    pub(in crate::spool) sink: SinkName,
    pub(in crate::spool) attempts: u32,
    /// None: as many as before.
    pub(in crate::spool) refusals: Option<u32>,
    pub(in crate::spool) due: MonotonicTime,
    pub(in crate::spool) error: String,
}

impl Step for Reschedule {
    type Outcome = ();

    fn settle(self, (): Self::Outcome, _: &mut WriterState, _: &Shared) {}
}

/// Makes deliveries of a sink due at a time, if they would be due later.
#[derive(Debug)]
pub(in crate::spool) struct MakeDue {
    pub(in crate::spool) sink: SinkName,
    pub(in crate::spool) waits_for: WaitsFor,
    pub(in crate::spool) at: MonotonicTime,
}

impl Step for MakeDue {
    type Outcome = ();

    fn settle(self, (): Self::Outcome, _: &mut WriterState, _: &Shared) {}
}

/// Gives due deliveries to the sink's dispatcher.
#[derive(Debug)]
pub(in crate::spool) struct FetchDue {
    pub(in crate::spool) sink: SinkName,
    pub(in crate::spool) limit: FetchLimit,
}

impl Step for FetchDue {
    type Outcome = FetchedDeliveries;

    fn settle(self, FetchedDeliveries { due, unreadable }: Self::Outcome, state: &mut WriterState, _: &Shared) {
        let ids: Vec<_> = due.rows.iter().map(|(id, _)| *id).collect();
        if state.notify(&self.sink, SpoolEvent::Due(due)) {
            state.claim(&self.sink, ids);
            state.unreadable.extend(unreadable);
        }
    }
}

/// What a sink's dispatcher gets when it starts.
#[derive(Debug)]
pub struct Subscription {
    /// How many deliveries the spool has, by the low 16 bits of their key.
    pub lanes: Vec<(u16, u32)>,
    /// All later events of the sink's deliveries.
    pub events: mpsc::UnboundedReceiver<SpoolEvent>,
}

/// Subscribes a sink's dispatcher to the events of its deliveries.
#[derive(Debug)]
pub(in crate::spool) struct Subscribe {
    pub(in crate::spool) sink: SinkName,
    pub(in crate::spool) done: oneshot::Sender<Subscription>,
}

impl Step for Subscribe {
    type Outcome = Vec<(u16, u32)>;

    fn settle(self, lanes: Self::Outcome, state: &mut WriterState, _: &Shared) {
        let events = state.set_dispatcher(self.sink);
        // The dispatcher may be gone; then nothing is ever fetched.
        let _ = self.done.send(Subscription { lanes, events });
    }
}

/// Saves the state of a sink or a source that has to survive a restart.
#[derive(Debug)]
pub(in crate::spool) struct SaveState {
    pub(in crate::spool) component: Component,
    /// JSON; none: the saved state is deleted.
    pub(in crate::spool) state: Option<String>,
}

impl Step for SaveState {
    type Outcome = ();

    fn settle(self, (): Self::Outcome, _: &mut WriterState, _: &Shared) {}
}

/// Adds deliveries in place of a dead letter or an orphan, unless that is gone.
#[derive(Debug)]
pub(in crate::spool) struct Redrive {
    pub(in crate::spool) origin: RedriveOrigin,
    pub(in crate::spool) rows: Vec<DeliveryRow>,
    /// False: the dead letter or the orphan was gone.
    pub(in crate::spool) done: oneshot::Sender<bool>,
}

#[derive(Debug)]
pub enum RedriveOrigin {
    /// The dead letter with that id.
    DeadLetter(i64),
    /// A delivery for a sink that is not in the configuration.
    Orphan(RowId, SinkName),
    /// An event of the journal, which stays there.
    Journal,
}

#[derive(Debug)]
pub(in crate::spool) enum RedriveOutcome {
    Redriven { removed: RemovedItem, inserted: Vec<InsertOutcome> },
    Gone,
}

#[derive(Debug)]
pub(in crate::spool) enum RemovedItem {
    DeadLetter(RemovedDeadLetter),
    Orphan(RowId, SinkName, RemovedDelivery),
    Nothing,
}

impl Step for Redrive {
    type Outcome = RedriveOutcome;

    fn settle(self, outcome: Self::Outcome, state: &mut WriterState, shared: &Shared) {
        let was_there = match outcome {
            RedriveOutcome::Gone => {
                for row in &self.rows {
                    settle_added(row, None, state, shared);
                }
                false
            }
            RedriveOutcome::Redriven { removed, inserted } => {
                for (row, inserted) in self.rows.iter().zip(inserted) {
                    settle_added(row, Some(inserted), state, shared);
                }
                match removed {
                    RemovedItem::DeadLetter(removed) => {
                        shared.dead_letter_counts().remove(removed.reason, removed.sink.as_ref(), removed.size);
                    }
                    RemovedItem::Nothing => {}
                    RemovedItem::Orphan(id, sink, removed) => settle_removed(id, &sink, Some(removed), state, shared),
                }
                true
            }
        };
        // The caller may be gone.
        let _ = self.done.send(was_there);
    }
}

/// Settles a delivery that its sink's dispatcher doesn't know of yet; none: it was not inserted.
pub(super) fn settle_added(row: &DeliveryRow, inserted: Option<InsertOutcome>, state: &WriterState, shared: &Shared) {
    let inserted = inserted.unwrap_or(InsertOutcome::AlreadyInserted);
    shared.budget().on_written(&row.delivery.sink, row.size, inserted);
    if inserted == InsertOutcome::Inserted {
        state.notify(&row.delivery.sink, SpoolEvent::Added { key: row.delivery.key });
    }
}

/// Settles a delivery that is no longer in the spool; none: it was gone before.
fn settle_removed(
    id: RowId,
    sink: &SinkName,
    removed: Option<RemovedDelivery>,
    state: &mut WriterState,
    shared: &Shared,
) {
    state.release(sink, id);
    state.forget_recognized(id);
    if let Some(removed) = removed {
        shared.budget().remove(sink, removed.size);
    }
}
