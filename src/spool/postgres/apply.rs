//! The changes as statements. Each costs a few round trips; runs of the frequent ones share them (`run`).

use super::run::Run;
use crate::clock::{ClockBase, MonotonicTime};
use crate::postgres::Connection;
use crate::postgres::PostgresError;
use crate::spool::change::{
    AddDeadLetters, AddDelivery, AdvanceRequest, AppliedChange, Change, Complete, CompleteDigest, DeadLetterOrigin,
    DeadLetterOutcome, EndRequest, FetchDue, FetchRequests, GiveBack, MakeDue, MakeFullGroupsDue, NewDeadLetter,
    OpenOutcome, OpenRequest, Redrive, RedriveOrigin, RedriveOutcome, RemovedItem, Reschedule, SaveAlert, SaveState,
    Step, Subscribe, TidyRequests, apply_step,
};
use crate::spool::delivery::{DeliveryRow, RowId};
use crate::spool::outcome::{EndOutcome, InsertOutcome};
use crate::spool::writer_state::WriterState;

/// Changes of which none could be applied, with the error.
pub(super) type Unapplied = Box<(PostgresError, Vec<Change>)>;

/// Executes the statements of all changes in the current transaction. An error comes with all of the changes, in order.
pub(super) async fn apply_all(
    connection: &Connection,
    changes: Vec<Change>,
    state: &mut WriterState,
) -> Result<Vec<AppliedChange>, Unapplied> {
    let mut applied = Vec::with_capacity(changes.len());
    let mut changes = changes.into_iter().peekable();
    loop {
        let result = match Run::take(&mut changes, state) {
            Some(run) => run.apply(connection, state, &mut applied).await,
            None => match changes.next() {
                Some(change) => apply(connection, change, state).await.map(|change| applied.push(change)),
                None => return Ok(applied),
            },
        };
        if let Err(failed) = result {
            let (error, unapplied) = *failed;
            let applied = applied.into_iter().map(AppliedChange::into_change);
            return Err(Box::new((error, applied.chain(unapplied).chain(changes).collect())));
        }
    }
}

async fn apply(connection: &Connection, change: Change, state: &mut WriterState) -> Result<AppliedChange, Unapplied> {
    apply_step!(change, |step| step.apply(connection, state).await)
        .map_err(|failed| Box::new((failed.0, vec![failed.1])))
}

trait Apply: Step {
    /// Executes the statements in the current transaction. They may be repeated after a transaction with an unknown outcome.
    async fn apply(&self, connection: &Connection, state: &mut WriterState) -> Result<Self::Outcome, PostgresError>;
}

impl Apply for AddDeadLetters {
    async fn apply(&self, connection: &Connection, state: &mut WriterState) -> Result<Self::Outcome, PostgresError> {
        let removed = match &self.origin {
            DeadLetterOrigin::Message(_) => Vec::new(),
            DeadLetterOrigin::Deliveries(ids, _, None) => {
                let rows: Vec<i64> = ids.iter().map(|id| id.0).collect();
                let gone = connection.remove_deliveries(&rows).await?;
                let of = |id: &RowId| gone.iter().find(|(gone, ..)| gone == id).map(|(.., removed)| *removed);
                ids.iter().map(|id| (*id, of(id))).collect()
            }
            DeadLetterOrigin::Deliveries(ids, _, Some(next)) => connection.remove_digest(ids, *next).await?,
        };
        let mut inserted = Vec::with_capacity(self.letters.len());
        for letter in &self.letters {
            inserted.push(insert(letter, connection, state).await?);
        }
        Ok(DeadLetterOutcome { inserted, removed })
    }
}

async fn insert(
    letter: &NewDeadLetter,
    connection: &Connection,
    state: &mut WriterState,
) -> Result<(InsertOutcome, Option<InsertOutcome>), PostgresError> {
    let inserted = state.record(connection.add_dead_letter(&letter.row, state.recognized()).await?, letter.own_row());
    let copy = match (&letter.copy, inserted) {
        // An existing dead letter was copied when it was written.
        (_, InsertOutcome::Duplicate(_)) | (None, _) => None,
        (Some(copy), _) => Some(connection.add_delivery(copy, state.recognized()).await?),
    };
    Ok((inserted, copy))
}

/// Adds deliveries, each behind those of its key.
async fn add_rows(
    rows: &[DeliveryRow],
    connection: &Connection,
    state: &WriterState,
) -> Result<Vec<InsertOutcome>, PostgresError> {
    let mut inserted = Vec::with_capacity(rows.len());
    for row in rows {
        inserted.push(connection.add_delivery(row, state.recognized()).await?);
    }
    Ok(inserted)
}

impl Apply for AddDelivery {
    async fn apply(&self, connection: &Connection, state: &mut WriterState) -> Result<Self::Outcome, PostgresError> {
        Ok(state.record(connection.add_delivery(&self.row, state.recognized()).await?, self.own_row()))
    }
}

impl Apply for Complete {
    async fn apply(&self, connection: &Connection, _: &mut WriterState) -> Result<Self::Outcome, PostgresError> {
        Ok(connection.remove_deliveries(&[self.id.0]).await?.pop().map(|(.., removed)| removed))
    }
}

impl Apply for CompleteDigest {
    async fn apply(&self, connection: &Connection, _: &mut WriterState) -> Result<Self::Outcome, PostgresError> {
        connection.remove_digest(&self.ids, self.next).await
    }
}

impl Apply for MakeFullGroupsDue {
    async fn apply(&self, connection: &Connection, _: &mut WriterState) -> Result<Self::Outcome, PostgresError> {
        connection.make_full_groups_due(&self.sink, &self.groups, self.limit).await
    }
}

impl Apply for GiveBack {
    async fn apply(&self, _: &Connection, state: &mut WriterState) -> Result<Self::Outcome, PostgresError> {
        for id in &self.ids {
            state.release(&self.sink, *id);
        }
        Ok(())
    }
}

impl Apply for Reschedule {
    async fn apply(&self, connection: &Connection, state: &mut WriterState) -> Result<Self::Outcome, PostgresError> {
        let ids: Vec<i64> = std::iter::once(&self.id).chain(&self.others).map(|id| id.0).collect();
        connection.reschedule(&ids, (self.attempts, self.refusals), self.due, &self.error).await?;
        for id in std::iter::once(&self.id).chain(&self.others) {
            // Not only in `settle`: a later change of the same transaction that fetches due deliveries must find it.
            state.release(&self.sink, *id);
        }
        Ok(())
    }
}

impl Apply for MakeDue {
    async fn apply(&self, connection: &Connection, _: &mut WriterState) -> Result<Self::Outcome, PostgresError> {
        connection.make_due(&self.sink, self.waits_for, self.at).await
    }
}

impl Apply for FetchDue {
    async fn apply(&self, connection: &Connection, state: &mut WriterState) -> Result<Self::Outcome, PostgresError> {
        connection.fetch_due(&self.sink, MonotonicTime::now(), self.limit, state.claimed(&self.sink)).await
    }
}

impl Apply for Subscribe {
    async fn apply(&self, connection: &Connection, _: &mut WriterState) -> Result<Self::Outcome, PostgresError> {
        connection.lanes(&self.sink).await
    }
}

impl Apply for SaveState {
    async fn apply(&self, connection: &Connection, _: &mut WriterState) -> Result<Self::Outcome, PostgresError> {
        connection.save_state(&self.component, self.state.as_deref()).await
    }
}

impl Apply for Redrive {
    async fn apply(&self, connection: &Connection, state: &mut WriterState) -> Result<Self::Outcome, PostgresError> {
        let Some(removed) = remove(&self.origin, connection, state).await? else { return Ok(RedriveOutcome::Gone) };
        Ok(RedriveOutcome::Redriven { inserted: add_rows(&self.rows, connection, state).await?, removed })
    }
}

async fn remove(
    origin: &RedriveOrigin,
    connection: &Connection,
    state: &WriterState,
) -> Result<Option<RemovedItem>, PostgresError> {
    Ok(match origin {
        RedriveOrigin::DeadLetter(id) => connection.remove_dead_letter(*id).await?.map(RemovedItem::DeadLetter),
        RedriveOrigin::Journal => Some(RemovedItem::Nothing),
        RedriveOrigin::Orphan(_, sink) if state.has_dispatcher(sink) => None,
        RedriveOrigin::Orphan(id, sink) => {
            let removed = connection.remove_deliveries(&[id.0]).await?.pop();
            removed.map(|(.., removed)| RemovedItem::Orphan(*id, sink.clone(), removed))
        }
    })
}

impl Apply for OpenRequest {
    async fn apply(&self, connection: &Connection, state: &mut WriterState) -> Result<Self::Outcome, PostgresError> {
        let mut outcome = OpenOutcome { opened: Vec::with_capacity(self.watches.len()), unwatched: 0 };
        for watch in &self.watches {
            let has_room = state.requests < state.request_limits.watched;
            let opened = has_room && connection.open_requests(&[(&self.event, watch)]).await?.contains(&true);
            state.requests += u64::from(opened);
            outcome.unwatched += u64::from(!has_room);
            outcome.opened.push(opened);
        }
        Ok(outcome)
    }
}

impl Apply for EndRequest {
    async fn apply(&self, connection: &Connection, state: &mut WriterState) -> Result<Self::Outcome, PostgresError> {
        let ended = connection.end_requests(&[(&self.event, self.forget)]).await?.pop();
        let outcome = ended.unwrap_or(EndOutcome::Unchanged);
        let has_forgotten = state.count_end(&outcome);
        if has_forgotten {
            connection.forget_oldest_early_ends(1).await?;
        }
        Ok((outcome, has_forgotten))
    }
}

impl Apply for FetchRequests {
    async fn apply(&self, connection: &Connection, _: &mut WriterState) -> Result<Self::Outcome, PostgresError> {
        connection.due_requests(self.kind, MonotonicTime::now(), self.limit).await
    }
}

impl Apply for AdvanceRequest {
    async fn apply(&self, connection: &Connection, state: &mut WriterState) -> Result<Self::Outcome, PostgresError> {
        let receivers: Vec<_> = self.rows.iter().map(|row| &row.delivery.sink).collect();
        if !connection.advance_request(self.id, self.from, self.step, &receivers).await? {
            return Ok(None);
        }
        state.count_step(self.step, self.from);
        add_rows(&self.rows, connection, state).await.map(Some)
    }
}

impl Apply for SaveAlert {
    async fn apply(&self, connection: &Connection, state: &mut WriterState) -> Result<Self::Outcome, PostgresError> {
        connection.save_alert(&self.alert, &self.subject, self.state.as_deref()).await?;
        add_rows(&self.rows, connection, state).await
    }
}

impl Apply for TidyRequests {
    async fn apply(&self, connection: &Connection, state: &mut WriterState) -> Result<Self::Outcome, PostgresError> {
        let removed = connection.remove_requests(&self.remove).await?;
        state.count_removed_requests(&removed);
        let adopted = self.adopts && connection.adopt_requests(ClockBase::now().jump()).await?;
        let next = if adopted { connection.next_due_request().await? } else { None };
        Ok((removed, adopted, next))
    }
}
