//! Frequent changes that are applied together, to share round trips.

use std::collections::{HashMap, HashSet};
use std::iter::Peekable;
use std::vec::IntoIter;

use futures_util::future::try_join_all;

use super::apply::Unapplied;
use crate::postgres::Connection;
use crate::postgres::PostgresError;
use crate::spool::change::{
    AddDelivery, AppliedChange, Change, Complete, CompleteDigest, EndRequest, MakeFullGroupsDue, OpenOutcome,
    OpenRequest,
};
use crate::spool::delivery::{DeliveryRow, RowId};
use crate::spool::outcome::{EndOutcome, InsertOutcome, RemovedDeliveries, RemovedDelivery};
use crate::spool::writer_state::WriterState;

/// Consecutive changes whose result is the same if they are applied in the order of these fields.
///
/// A row is added before it is completed, and no delivery of a key is added while an earlier one that is now completed may still be attempted
/// again. A row that is added behind a digest is the next head of its key either way, and due at the same time. Requests are in other tables,
/// and each one comes once.
#[derive(Default)]
pub(super) struct Run {
    added: Vec<AddDelivery>,
    completed: Vec<Complete>,
    digests: Vec<CompleteDigest>,
    grown: Vec<MakeFullGroupsDue>,
    opened: Vec<OpenRequest>,
    ended: Vec<EndRequest>,
    /// The hashes of the requests.
    requests: HashSet<i64>,
    watches: u64,
}

#[derive(Default)]
struct Outcomes {
    inserted: Vec<InsertOutcome>,
    removed: HashMap<RowId, RemovedDelivery>,
    digests: Vec<RemovedDeliveries>,
    grown: Vec<bool>,
    opened: Vec<bool>,
    ended: Vec<(EndOutcome, bool)>,
}

impl Run {
    /// Takes the next changes that can be applied together; `None`: the next one can't, or there is none.
    pub(super) fn take(changes: &mut Peekable<IntoIter<Change>>, state: &WriterState) -> Option<Self> {
        let mut run = Self::default();
        let mut is_empty = true;
        while let Some(change) = changes.next_if(|change| run.takes(change, state)) {
            is_empty = false;
            match change {
                Change::AddDelivery(add) => run.added.push(add),
                Change::Complete(complete) => run.completed.push(complete),
                Change::CompleteDigest(complete) => run.digests.push(complete),
                Change::MakeFullGroupsDue(grown) => run.grown.push(grown),
                Change::OpenRequest(open) => {
                    run.requests.insert(open.event.hash());
                    run.watches += watches(&open);
                    run.opened.push(open);
                }
                Change::EndRequest(end) => {
                    run.requests.insert(end.event.hash());
                    run.ended.push(end);
                }
                _ => {}
            }
        }
        (!is_empty).then_some(run)
    }

    fn takes(&self, change: &Change, state: &WriterState) -> bool {
        match change {
            Change::AddDelivery(add) => !add.row.delivery.may_be_known,
            Change::Complete(_) | Change::CompleteDigest(_) | Change::MakeFullGroupsDue(_) => true,
            Change::OpenRequest(open) => {
                let has_room = state.requests + self.watches + watches(open) <= state.request_limits.watched;
                has_room && !self.requests.contains(&open.event.hash())
            }
            Change::EndRequest(end) => !self.requests.contains(&end.event.hash()),
            _ => false,
        }
    }

    pub(super) async fn apply(
        self,
        connection: &Connection,
        state: &mut WriterState,
        applied: &mut Vec<AppliedChange>,
    ) -> Result<(), Unapplied> {
        match self.execute(connection, state).await {
            Ok(outcomes) => {
                self.applied(outcomes, applied);
                Ok(())
            }
            Err(error) => Err(Box::new((error, self.into_changes()))),
        }
    }

    async fn execute(&self, connection: &Connection, state: &mut WriterState) -> Result<Outcomes, PostgresError> {
        let rows: Vec<&DeliveryRow> = self.added.iter().map(|add| &*add.row).collect();
        let inserted = connection.add_deliveries(&rows).await?;
        let ids: Vec<i64> = self.completed.iter().map(|complete| complete.id.0).collect();
        let removed = connection.remove_deliveries(&ids).await?;
        // Of each key at most one digest is in flight.
        let digests = self.digests.iter().map(|digest| connection.remove_digest(&digest.ids, digest.next));
        let digests = try_join_all(digests).await?;
        let grown =
            self.grown.iter().map(|grown| connection.make_full_groups_due(&grown.sink, &grown.groups, grown.limit));
        Ok(Outcomes {
            inserted,
            removed: removed.into_iter().map(|(id, _, row)| (id, row)).collect(),
            digests,
            grown: try_join_all(grown).await?,
            opened: self.open_requests(connection, state).await?,
            ended: self.end_requests(connection, state).await?,
        })
    }

    async fn open_requests(
        &self,
        connection: &Connection,
        state: &mut WriterState,
    ) -> Result<Vec<bool>, PostgresError> {
        let watches = self.opened.iter().flat_map(|open| open.watches.iter().map(|watch| (&*open.event, watch)));
        let opened = connection.open_requests(&watches.collect::<Vec<_>>()).await?;
        state.requests += opened.iter().map(|opened| u64::from(*opened)).sum::<u64>();
        Ok(opened)
    }

    async fn end_requests(
        &self,
        connection: &Connection,
        state: &mut WriterState,
    ) -> Result<Vec<(EndOutcome, bool)>, PostgresError> {
        if self.ended.is_empty() {
            return Ok(Vec::new());
        }
        let ends: Vec<_> = self.ended.iter().map(|end| (&*end.event, end.forget)).collect();
        let outcomes = connection.end_requests(&ends).await?;
        let counted = outcomes.into_iter().map(|outcome| {
            let has_forgotten = state.count_end(&outcome);
            (outcome, has_forgotten)
        });
        let counted: Vec<_> = counted.collect();
        let forgotten = counted.iter().map(|(_, has_forgotten)| u64::from(*has_forgotten)).sum();
        if forgotten > 0 {
            connection.forget_oldest_early_ends(forgotten).await?;
        }
        Ok(counted)
    }

    fn applied(self, outcomes: Outcomes, applied: &mut Vec<AppliedChange>) {
        let Outcomes { inserted, mut removed, digests, grown, opened, ended } = outcomes;
        applied.extend(self.added.into_iter().zip(inserted).map(|(add, one)| AppliedChange::AddDelivery(add, one)));
        applied.extend(self.completed.into_iter().map(|complete| {
            let removed = removed.remove(&complete.id);
            AppliedChange::Complete(complete, removed)
        }));
        applied.extend(self.digests.into_iter().zip(digests).map(|(one, all)| AppliedChange::CompleteDigest(one, all)));
        applied.extend(self.grown.into_iter().zip(grown).map(|(one, due)| AppliedChange::MakeFullGroupsDue(one, due)));
        let mut opened = opened.into_iter();
        applied.extend(self.opened.into_iter().map(|open| {
            let opened = opened.by_ref().take(open.watches.len()).collect();
            AppliedChange::OpenRequest(open, OpenOutcome { opened, unwatched: 0 })
        }));
        applied.extend(self.ended.into_iter().zip(ended).map(|(end, outcome)| AppliedChange::EndRequest(end, outcome)));
    }

    fn into_changes(self) -> Vec<Change> {
        let Self { added, completed, digests, grown, opened, ended, .. } = self;
        let deliveries = added.into_iter().map(Change::AddDelivery).chain(completed.into_iter().map(Change::Complete));
        let digests = digests.into_iter().map(Change::CompleteDigest);
        let grown = grown.into_iter().map(Change::MakeFullGroupsDue);
        let requests = opened.into_iter().map(Change::OpenRequest).chain(ended.into_iter().map(Change::EndRequest));
        deliveries.chain(digests).chain(grown).chain(requests).collect()
    }
}

fn watches(open: &OpenRequest) -> u64 {
    u64::try_from(open.watches.len()).unwrap_or(u64::MAX)
}
