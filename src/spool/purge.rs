//! What goes for good: dead letters older than `keep`, and what a person asks for. Some at a time, so that new ones don't wait.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::store::Store;
use super::{Filter, Progress, SpoolError};
use crate::clock::AgeCutoff;
use crate::rules::SinkName;

/// So many are purged in one transaction.
pub(super) const BATCH: u64 = 500;
/// … and so many where the disk has little room, which the log takes some of.
pub(super) const SMALL_BATCH: u64 = 50;

/// Which dead letters go.
pub(super) enum Scope<'a> {
    /// These, in the order of the filter.
    Asked(&'a Filter),
    /// What died before that in this boot, the oldest first.
    ThisBoot(AgeCutoff),
    /// … and in other boots.
    OtherBoots(AgeCutoff),
}

/// What a person can ask to be purged.
#[derive(Debug)]
pub enum Unwanted {
    /// Dead letters.
    Letters(Filter),
    /// What waits for a sink that nobody delivers to.
    Orphans(SinkName),
}

/// What a person asked to be purged, under way.
#[derive(Debug)]
pub(super) struct Purge {
    which: Unwanted,
    purged: u64,
    progress: Arc<Progress>,
    done: oneshot::Sender<Result<u64, String>>,
}

impl Purge {
    pub(super) fn new(which: Unwanted, progress: Arc<Progress>, done: oneshot::Sender<Result<u64, String>>) -> Self {
        Self { which, purged: 0, progress, done }
    }

    /// The sink whose deliveries are to go.
    pub(super) fn sink(&self) -> Option<&SinkName> {
        match &self.which {
            Unwanted::Letters(_) => None,
            Unwanted::Orphans(sink) => Some(sink),
        }
    }

    /// Deletes some; says whether there may be more. Nothing more is deleted once who asked for it has gone.
    pub(super) fn go_on(&mut self, store: &impl Store, most: u64) -> Result<bool, SpoolError> {
        if self.done.is_closed() {
            return Ok(false);
        }
        let limit = match &self.which {
            Unwanted::Letters(filter) => filter.limit,
            Unwanted::Orphans(_) => None,
        };
        let left = limit.map_or(most, |limit| limit.saturating_sub(self.purged).min(most));
        if left == 0 {
            return Ok(false);
        }
        let purged = match &self.which {
            Unwanted::Letters(filter) => store.purge(&Scope::Asked(filter), left)?,
            Unwanted::Orphans(sink) => store.purge_deliveries(sink, left)?,
        };
        self.purged += purged;
        self.progress.add(purged);
        Ok(purged == left)
    }

    /// Tells who asked. Nobody may be there to hear it.
    pub(super) fn end(self, failure: Option<String>) {
        let _ = self.done.send(failure.map_or(Ok(self.purged), Err));
    }
}
