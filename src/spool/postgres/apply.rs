//! The changes as statements. Each costs a few round trips; runs of the frequent ones share them.

use std::collections::HashMap;

use super::connection::Connection;
use crate::clock::{ClockBase, MonotonicTime};
use crate::postgres::PostgresError;
use crate::spool::change::{
    AddDeadLetters, AddDelivery, AdvanceRequest, AppliedChange, Change, Complete, CompleteDigest, DeadLetterOrigin,
    DeadLetterOutcome, EndRequest, FetchDue, FetchRequests, GiveBack, MakeDue, MakeFullGroupsDue, NewDeadLetter,
    OpenOutcome, OpenRequest, Redrive, RedriveOrigin, RedriveOutcome, RemovedItem, Reschedule, SaveAlert, SaveState,
    Step, Subscribe, TidyRequests, apply_step,
};
use crate::spool::delivery::{DeliveryRow, RowId};
use crate::spool::outcome::{InsertOutcome, RemovedDelivery};
use crate::spool::writer_state::WriterState;

/// Changes of which none could be applied, with the error.
type Unapplied = Box<(PostgresError, Vec<Change>)>;

/// Changes that are applied together.
enum Run {
    /// New deliveries, and completed ones. No change between them depends on their order: a row is added before it is completed, and no
    /// delivery of a key is added while an earlier one that is now completed may still be attempted again.
    Deliveries(Vec<AddDelivery>, Vec<Complete>),
    Other(Change),
}

/// Executes the statements of all changes in the current transaction. An error comes with all of the changes, in order.
pub(super) async fn apply_all(
    connection: &Connection,
    changes: Vec<Change>,
    state: &mut WriterState,
) -> Result<Vec<AppliedChange>, Unapplied> {
    let mut applied = Vec::with_capacity(changes.len());
    let mut changes = changes.into_iter().peekable();
    while let Some(run) = next_run(&mut changes) {
        let result = match run {
            Run::Deliveries(added, completed) => apply_deliveries(connection, added, completed, &mut applied).await,
            Run::Other(change) => match apply(connection, change, state).await {
                Ok(change) => {
                    applied.push(change);
                    Ok(())
                }
                Err(failed) => Err(Box::new((failed.0, vec![failed.1]))),
            },
        };
        if let Err(failed) = result {
            let (error, unapplied) = *failed;
            let applied = applied.into_iter().map(AppliedChange::into_change);
            return Err(Box::new((error, applied.chain(unapplied).chain(changes).collect())));
        }
    }
    Ok(applied)
}

fn next_run(changes: &mut std::iter::Peekable<std::vec::IntoIter<Change>>) -> Option<Run> {
    let (mut added, mut completed) = (Vec::new(), Vec::new());
    loop {
        let is_in_run = |change: &Change| match change {
            Change::AddDelivery(add) => !add.row.delivery.may_be_known,
            Change::Complete(_) => true,
            _ => false,
        };
        match changes.next_if(is_in_run) {
            Some(Change::AddDelivery(add)) => added.push(add),
            Some(Change::Complete(complete)) => completed.push(complete),
            _ if added.is_empty() && completed.is_empty() => return changes.next().map(Run::Other),
            _ => return Some(Run::Deliveries(added, completed)),
        }
    }
}

async fn apply_deliveries(
    connection: &Connection,
    added: Vec<AddDelivery>,
    completed: Vec<Complete>,
    applied: &mut Vec<AppliedChange>,
) -> Result<(), Unapplied> {
    let rows: Vec<&DeliveryRow> = added.iter().map(|add| &*add.row).collect();
    let ids: Vec<i64> = completed.iter().map(|complete| complete.id.0).collect();
    let result = async {
        let inserted = connection.add_deliveries(&rows).await?;
        Ok((inserted, connection.remove_deliveries(&ids).await?))
    };
    let (inserted, removed) = match result.await {
        Ok(outcomes) => outcomes,
        Err(error) => {
            let completed = completed.into_iter().map(Change::Complete);
            return Err(Box::new((error, added.into_iter().map(Change::AddDelivery).chain(completed).collect())));
        }
    };
    let mut removed: HashMap<RowId, RemovedDelivery> = removed.into_iter().map(|(id, _, row)| (id, row)).collect();
    applied.extend(added.into_iter().zip(inserted).map(|(add, inserted)| AppliedChange::AddDelivery(add, inserted)));
    applied.extend(completed.into_iter().map(|complete| {
        let removed = removed.remove(&complete.id);
        AppliedChange::Complete(complete, removed)
    }));
    Ok(())
}

async fn apply(
    connection: &Connection,
    change: Change,
    state: &mut WriterState,
) -> Result<AppliedChange, Box<(PostgresError, Change)>> {
    apply_step!(change, |step| step.apply(connection, state).await)
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
            let opened = has_room && connection.open_request(&self.event, watch).await?;
            state.requests += u64::from(opened);
            outcome.unwatched += u64::from(!has_room);
            outcome.opened.push(opened);
        }
        Ok(outcome)
    }
}

impl Apply for EndRequest {
    async fn apply(&self, connection: &Connection, state: &mut WriterState) -> Result<Self::Outcome, PostgresError> {
        let outcome = connection.end_request(&self.event, self.forget).await?;
        let has_forgotten = state.count_end(&outcome);
        if has_forgotten {
            connection.forget_oldest_early_end().await?;
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
