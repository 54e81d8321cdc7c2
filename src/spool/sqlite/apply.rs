//! The changes as statements on the file, one after the other.

use super::database::Database;
use crate::clock::{ClockBase, MonotonicTime};
use crate::spool::SpoolError;
use crate::spool::change::{
    AddDeadLetters, AddDelivery, AdvanceRequest, AppliedChange, Change, Complete, CompleteDigest, DeadLetterOrigin,
    DeadLetterOutcome, EndRequest, FetchDue, FetchRequests, GiveBack, MakeDue, MakeFullGroupsDue, NewDeadLetter,
    OpenOutcome, OpenRequest, Redrive, RedriveOrigin, RedriveOutcome, RemovedItem, Reschedule, SaveAlert, SaveState,
    Step, Subscribe, TidyRequests, apply_step,
};
use crate::spool::delivery::RowId;
use crate::spool::outcome::InsertOutcome;
use crate::spool::writer_state::WriterState;

/// Executes the statements of a change in the current transaction. A change that could not be applied comes back with the error.
pub(super) fn apply(
    change: Change,
    database: &Database,
    state: &mut WriterState,
) -> Result<AppliedChange, Box<(SpoolError, Change)>> {
    apply_step!(change, |step| step.apply(database, state))
}

trait Apply: Step {
    /// Executes the statements in the current transaction. They may be repeated after a transaction with an unknown outcome.
    fn apply(&self, database: &Database, state: &mut WriterState) -> Result<Self::Outcome, SpoolError>;
}

impl Apply for AddDeadLetters {
    fn apply(&self, database: &Database, state: &mut WriterState) -> Result<Self::Outcome, SpoolError> {
        let removed = match &self.origin {
            DeadLetterOrigin::Message(_) => Vec::new(),
            DeadLetterOrigin::Deliveries(ids, _, None) => {
                let remove = |id: &RowId| Ok((*id, database.remove_delivery(*id)?));
                ids.iter().map(remove).collect::<Result<_, SpoolError>>()?
            }
            DeadLetterOrigin::Deliveries(ids, _, Some(next)) => database.remove_digest(ids.iter().copied(), *next)?,
        };
        let inserted = self.letters.iter().map(|letter| insert(letter, database, state)).collect::<Result<_, _>>()?;
        Ok(DeadLetterOutcome { inserted, removed })
    }
}

impl Apply for AddDelivery {
    fn apply(&self, database: &Database, state: &mut WriterState) -> Result<Self::Outcome, SpoolError> {
        Ok(state.record(database.add_delivery(&self.row, state.recognized())?, self.own_row()))
    }
}

impl Apply for CompleteDigest {
    fn apply(&self, database: &Database, _: &mut WriterState) -> Result<Self::Outcome, SpoolError> {
        database.remove_digest(self.ids.iter().copied(), self.next)
    }
}

impl Apply for MakeFullGroupsDue {
    fn apply(&self, database: &Database, _: &mut WriterState) -> Result<Self::Outcome, SpoolError> {
        database.make_full_groups_due(&self.sink, &self.groups, self.limit)
    }
}

impl Apply for GiveBack {
    fn apply(&self, _: &Database, state: &mut WriterState) -> Result<Self::Outcome, SpoolError> {
        for id in &self.ids {
            state.release(&self.sink, *id);
        }
        Ok(())
    }
}

impl Apply for Complete {
    fn apply(&self, database: &Database, _: &mut WriterState) -> Result<Self::Outcome, SpoolError> {
        database.remove_delivery(self.id)
    }
}

impl Apply for Reschedule {
    fn apply(&self, database: &Database, state: &mut WriterState) -> Result<Self::Outcome, SpoolError> {
        for id in std::iter::once(&self.id).chain(&self.others) {
            database.reschedule(*id, (self.attempts, self.refusals), self.due, &self.error)?;
            // Not only in `settle`: a later change of the same transaction that fetches due deliveries must find it.
            state.release(&self.sink, *id);
        }
        Ok(())
    }
}

impl Apply for MakeDue {
    fn apply(&self, database: &Database, _: &mut WriterState) -> Result<Self::Outcome, SpoolError> {
        database.make_due(&self.sink, self.waits_for, self.at)
    }
}

impl Apply for FetchDue {
    fn apply(&self, database: &Database, state: &mut WriterState) -> Result<Self::Outcome, SpoolError> {
        database.fetch_due(&self.sink, MonotonicTime::now(), self.limit, state.claimed(&self.sink))
    }
}

impl Apply for Subscribe {
    fn apply(&self, database: &Database, _: &mut WriterState) -> Result<Self::Outcome, SpoolError> {
        database.lanes(&self.sink)
    }
}

impl Apply for SaveState {
    fn apply(&self, database: &Database, _: &mut WriterState) -> Result<Self::Outcome, SpoolError> {
        database.save_state(&self.component, self.state.as_deref())
    }
}

impl Apply for Redrive {
    fn apply(&self, database: &Database, state: &mut WriterState) -> Result<Self::Outcome, SpoolError> {
        let Some(removed) = remove(&self.origin, database, state)? else { return Ok(RedriveOutcome::Gone) };
        let inserted = self.rows.iter().map(|row| database.add_delivery(row, state.recognized()));
        Ok(RedriveOutcome::Redriven { inserted: inserted.collect::<Result<_, _>>()?, removed })
    }
}

impl Apply for OpenRequest {
    fn apply(&self, database: &Database, state: &mut WriterState) -> Result<Self::Outcome, SpoolError> {
        let mut outcome = OpenOutcome { opened: Vec::with_capacity(self.watches.len()), unwatched: 0 };
        for watch in &self.watches {
            let has_room = state.requests < state.request_limits.watched;
            let opened = has_room && database.open_request(&self.event, watch)?;
            state.requests += u64::from(opened);
            outcome.unwatched += u64::from(!has_room);
            outcome.opened.push(opened);
        }
        Ok(outcome)
    }
}

impl Apply for EndRequest {
    fn apply(&self, database: &Database, state: &mut WriterState) -> Result<Self::Outcome, SpoolError> {
        let outcome = database.end_request(&self.event, self.forget)?;
        let has_forgotten = state.count_end(&outcome);
        if has_forgotten {
            database.forget_oldest_early_end()?;
        }
        Ok((outcome, has_forgotten))
    }
}

impl Apply for FetchRequests {
    fn apply(&self, database: &Database, _: &mut WriterState) -> Result<Self::Outcome, SpoolError> {
        database.due_requests(self.kind, MonotonicTime::now(), self.limit)
    }
}

impl Apply for AdvanceRequest {
    fn apply(&self, database: &Database, state: &mut WriterState) -> Result<Self::Outcome, SpoolError> {
        let receivers: Vec<_> = self.rows.iter().map(|row| &row.delivery.sink).collect();
        if !database.advance_request(self.id, self.from, self.step, &receivers)? {
            return Ok(None);
        }
        state.count_step(self.step, self.from);
        let inserted = self.rows.iter().map(|row| database.add_delivery(row, state.recognized()));
        inserted.collect::<Result<_, _>>().map(Some)
    }
}

impl Apply for SaveAlert {
    fn apply(&self, database: &Database, state: &mut WriterState) -> Result<Self::Outcome, SpoolError> {
        database.save_alert(&self.alert, &self.subject, self.state.as_deref())?;
        self.rows.iter().map(|row| database.add_delivery(row, state.recognized())).collect()
    }
}

impl Apply for TidyRequests {
    fn apply(&self, database: &Database, state: &mut WriterState) -> Result<Self::Outcome, SpoolError> {
        let removed = database.remove_requests(&self.remove)?;
        state.count_removed_requests(&removed);
        let adopted = self.adopts && database.adopt_requests(ClockBase::now().jump())?;
        let next = if adopted { database.next_due_request()? } else { None };
        Ok((removed, adopted, next))
    }
}

fn insert(
    letter: &NewDeadLetter,
    database: &Database,
    state: &mut WriterState,
) -> Result<(InsertOutcome, Option<InsertOutcome>), SpoolError> {
    let inserted = state.record(database.add_dead_letter(&letter.row, state.recognized())?, letter.own_row());
    let copy = match (&letter.copy, inserted) {
        // An existing dead letter was copied when it was written.
        (_, InsertOutcome::Duplicate(_)) | (None, _) => None,
        (Some(copy), _) => Some(database.add_delivery(copy, state.recognized())?),
    };
    Ok((inserted, copy))
}

fn remove(origin: &RedriveOrigin, database: &Database, state: &WriterState) -> Result<Option<RemovedItem>, SpoolError> {
    Ok(match origin {
        RedriveOrigin::DeadLetter(id) => database.remove_dead_letter(*id)?.map(RemovedItem::DeadLetter),
        RedriveOrigin::Journal => Some(RemovedItem::Nothing),
        RedriveOrigin::Orphan(_, sink) if state.has_dispatcher(sink) => None,
        RedriveOrigin::Orphan(id, sink) => {
            database.remove_delivery(*id)?.map(|removed| RemovedItem::Orphan(*id, sink.clone(), removed))
        }
    })
}
