//! Dead letters that go: what is older than `keep`, and what a person asks for. Some at a time, so that new ones don't wait.

use tokio::sync::oneshot;

use super::delivery::Millis;
use super::store::Store;
use super::{Filter, SpoolError};

/// So many are purged in one transaction.
pub(super) const BATCH: u64 = 500;

/// Which dead letters go.
pub(super) enum Scope<'a> {
    /// The newest of these first.
    Asked(&'a Filter),
    /// What died before that, the oldest first.
    Before(Millis),
}

/// What a person asked to be purged, under way.
#[derive(Debug)]
pub(super) struct Purge {
    filter: Filter,
    purged: u64,
    done: oneshot::Sender<Result<u64, String>>,
}

impl Purge {
    pub(super) fn new(filter: Filter, done: oneshot::Sender<Result<u64, String>>) -> Self {
        Self { filter, purged: 0, done }
    }

    /// Deletes some; says whether there may be more.
    pub(super) fn go_on(&mut self, store: &impl Store) -> Result<bool, SpoolError> {
        let left = self.filter.limit.map_or(BATCH, |limit| limit.saturating_sub(self.purged).min(BATCH));
        if left == 0 {
            return Ok(false);
        }
        let purged = store.purge(&Scope::Asked(&self.filter), left)?;
        self.purged += purged;
        Ok(purged == left)
    }

    /// Tells who asked. Nobody may be there to hear it.
    pub(super) fn end(self, failure: Option<String>) {
        let _ = self.done.send(failure.map_or(Ok(self.purged), Err));
    }
}
