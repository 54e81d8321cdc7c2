//! Purges that a person asked for. Each transaction deletes only some rows, so that new ones are not delayed.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::store::Store;
use super::{DeadLetterFilter, Progress, SpoolError};
use crate::clock::AgeCutoff;
use crate::rules::SinkName;

/// How many rows are purged in one transaction.
pub(super) const BATCH: u64 = 500;
/// How many rows are purged in one transaction if the disk has little space: the transaction takes space in the log.
pub(super) const SMALL_BATCH: u64 = 50;

/// What can be purged on request.
#[derive(Debug, Clone)]
pub enum PurgeTarget {
    DeadLetters(DeadLetterFilter),
    /// The deliveries for a sink that is not in the configuration.
    Orphans(SinkName),
}

/// Which dead letters are purged.
pub(super) enum PurgeSelection<'a> {
    /// The dead letters that match the filter, in its order.
    Requested(&'a DeadLetterFilter),
    /// The dead letters of this boot that are older than the cutoff, the oldest first.
    ExpiredThisBoot(AgeCutoff),
    /// The dead letters of other boots that are older than the cutoff, the oldest first.
    ExpiredOtherBoots(AgeCutoff),
}

/// A requested purge that runs.
#[derive(Debug)]
pub(super) struct Purge {
    target: PurgeTarget,
    purged: u64,
    progress: Arc<Progress>,
    done: oneshot::Sender<Result<u64, String>>,
}

impl Purge {
    pub(super) fn new(
        target: PurgeTarget,
        progress: Arc<Progress>,
        done: oneshot::Sender<Result<u64, String>>,
    ) -> Self {
        Self { target, purged: 0, progress, done }
    }

    /// The sink whose orphans are purged.
    pub(super) fn sink(&self) -> Option<&SinkName> {
        match &self.target {
            PurgeTarget::DeadLetters(_) => None,
            PurgeTarget::Orphans(sink) => Some(sink),
        }
    }

    /// Deletes at most `most` rows. Returns whether there may be more. Deletes nothing once the caller is gone.
    pub(super) fn delete_batch(&mut self, store: &dyn Store, most: u64) -> Result<bool, SpoolError> {
        if self.done.is_closed() {
            return Ok(false);
        }
        let limit = match &self.target {
            PurgeTarget::DeadLetters(filter) => filter.limit,
            PurgeTarget::Orphans(_) => None,
        };
        let left = limit.map_or(most, |limit| limit.saturating_sub(self.purged).min(most));
        if left == 0 {
            return Ok(false);
        }
        let purged = match &self.target {
            PurgeTarget::DeadLetters(filter) => store.purge_dead_letters(&PurgeSelection::Requested(filter), left)?,
            PurgeTarget::Orphans(sink) => store.purge_deliveries(sink, left)?,
        };
        self.purged += purged;
        self.progress.add(purged);
        Ok(purged == left)
    }

    /// Answers the caller, who may be gone.
    pub(super) fn end(self, failure: Option<String>) {
        let _ = self.done.send(failure.map_or(Ok(self.purged), Err));
    }
}
