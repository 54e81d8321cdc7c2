//! The shards of a spool that this relay has, as one spool.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::counts::DeadLetterCountRow;
use super::{
    BlockReason, Component, Progress, PurgeTarget, RequestCount, RequestLosses, SinkUsage, Spool, SpoolReader,
};
use crate::event::SourceName;
use crate::rules::{AlertName, SinkName};

/// A spool that is not divided is its only shard.
#[derive(Debug)]
pub struct OpenShards {
    name: String,
    reader: SpoolReader,
    open: Mutex<Vec<Arc<Spool>>>,
}

impl OpenShards {
    #[must_use]
    pub fn new(first: Arc<Spool>) -> Self {
        Self { name: first.name().to_owned(), reader: first.reader().clone(), open: Mutex::new(vec![first]) }
    }

    pub fn add(&self, shard: Arc<Spool>) {
        self.open().push(shard);
    }

    /// To be called when a shard is given up.
    pub fn remove(&self, shard: &Arc<Spool>) {
        self.open().retain(|open| !Arc::ptr_eq(open, shard));
    }

    #[must_use]
    pub fn all(&self) -> Vec<Arc<Spool>> {
        self.open().clone()
    }

    /// Only the shard with that name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<Self> {
        self.all().into_iter().find(|shard| shard.shard() == name).map(Self::new)
    }

    fn open(&self) -> MutexGuard<'_, Vec<Arc<Spool>>> {
        // No code runs under the lock that could leave the list half changed.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is the one of several shards that looks after what all have in common.
    #[must_use]
    pub fn is_first(&self, shard: &Spool) -> bool {
        self.open().first().is_none_or(|first| std::ptr::eq(&raw const **first, shard))
    }

    /// The shard that has what comes from that source. The error is a sentence: another relay has it.
    pub fn of(&self, source: &SourceName) -> Result<Arc<Spool>, String> {
        let open = self.open();
        let own = open.iter().find(|shard| shard.shard() == source.as_str());
        let found = own.or_else(|| open.iter().find(|shard| shard.shard().is_empty()));
        found.cloned().ok_or_else(|| {
            format!(
                "another relay has the shard of source {source}: `regards-relay status` shows which; run the command there"
            )
        })
    }

    /// Its name for people. Another spool has another name; a file has its real path.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads all shards, also those of other relays.
    #[must_use]
    pub fn reader(&self) -> &SpoolReader {
        &self.reader
    }

    /// How much of the spool the deliveries of each sink use.
    #[must_use]
    pub fn sink_usage(&self) -> Vec<(SinkName, SinkUsage)> {
        let mut all = BTreeMap::<SinkName, SinkUsage>::new();
        for (sink, usage) in self.all().iter().flat_map(|shard| shard.sink_usage()) {
            all.entry(sink).or_default().add(&usage);
        }
        all.into_iter().collect()
    }

    /// Why nothing can be stored at the moment, with what to do.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.all().iter().find_map(|shard| shard.problem())
    }

    #[must_use]
    pub fn block_reason(&self) -> Option<BlockReason> {
        self.all().iter().find_map(|shard| shard.block_reason())
    }

    #[must_use]
    pub fn dead_letter_counts(&self) -> Vec<DeadLetterCountRow> {
        let mut all = BTreeMap::new();
        for (reason, sink, count) in self.all().iter().flat_map(|shard| shard.dead_letter_counts()) {
            let sum: &mut super::DeadLetterCount = all.entry((reason, sink)).or_default();
            sum.total += count.total;
            sum.stored += count.stored;
        }
        all.into_iter().map(|((reason, sink), count)| (reason, sink, count)).collect()
    }

    /// The size of all dead letters, in bytes, as `dead_letters.max_size` counts it.
    #[must_use]
    pub fn dead_letter_bytes(&self) -> u64 {
        self.all().iter().map(|shard| shard.dead_letter_bytes()).sum()
    }

    /// The raised alerts about no request: name, subject and state as JSON.
    #[must_use]
    pub fn raised_alerts(&self) -> Vec<(AlertName, String, String)> {
        self.all().iter().flat_map(|shard| shard.raised_alerts()).collect()
    }

    #[must_use]
    pub fn request_counts(&self) -> Vec<(AlertName, RequestCount)> {
        let mut all = BTreeMap::<AlertName, RequestCount>::new();
        for (alert, RequestCount { open, overdue }) in self.all().iter().flat_map(|shard| shard.request_counts()) {
            let sum = all.entry(alert).or_default();
            sum.open += open;
            sum.overdue += overdue;
        }
        all.into_iter().collect()
    }

    /// What the [`RequestLimits`](super::RequestLimits) have cost since the start.
    #[must_use]
    pub fn request_losses(&self) -> RequestLosses {
        let losses = self.all().into_iter().map(|shard| shard.request_losses());
        losses.fold(RequestLosses::default(), |sum, one| RequestLosses {
            unwatched: sum.unwatched + one.unwatched,
            early_ends: sum.early_ends + one.early_ends,
        })
    }

    /// The saved state of a component. Of a sink each shard has one: those that a person pauses are the same.
    #[must_use]
    pub fn saved_state(&self, component: &Component) -> Option<String> {
        self.with_state_of(component).iter().find_map(|shard| shard.saved_state(component))
    }

    /// Saves the state of a component that has to survive a restart, as JSON; `None` deletes it.
    pub fn save_state(&self, component: &Component, state: Option<&str>) {
        for shard in self.with_state_of(component) {
            shard.save_state(component.clone(), state.map(str::to_owned));
        }
    }

    fn with_state_of(&self, component: &Component) -> Vec<Arc<Spool>> {
        match component {
            Component::Sink(_) => self.all(),
            Component::Source(source) => self.of(&SourceName::new(source)).into_iter().collect(),
        }
    }

    /// Deletes dead letters or orphans. Returns how many, and counts them in `progress` meanwhile. Errors are texts for people.
    pub async fn purge(&self, target: PurgeTarget, progress: &Arc<Progress>) -> Result<u64, String> {
        let mut purged = 0;
        for shard in self.all() {
            purged += shard.purge(target.clone(), progress).await?;
        }
        Ok(purged)
    }

    /// Closes all shards, as [`Spool::close`].
    pub async fn close(&self, grace: Duration) {
        for shard in self.all() {
            shard.close(grace).await;
        }
    }
}
