//! What the relay does at somebody's request and takes long: redrives and purges. Each is listed with its progress while it runs, and can be
//! stopped. Without a running relay a command does the same in the spool itself.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::orphans::{purge_orphans, redrive_orphans};
use super::redrive::{Redrive, Redriven, redrive};
use crate::config::Config;
use crate::spool::{Filter, Progress, Spool, Unwanted};

/// What can be done.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobRequest {
    /// Deletes dead letters.
    Purge {
        /// Which.
        filter: Filter,
        /// How many that is, as far as who asks knows.
        total: u64,
    },
    /// Gives dead letters another chance.
    Redrive(Redrive),
    /// Deletes what waits for a sink that is gone from the configuration.
    PurgeOrphans {
        /// The sink's name.
        sink: String,
    },
    /// Gives what waits for a sink that is gone from the configuration to another.
    RedriveOrphans {
        /// The sink's name.
        sink: String,
        /// The other's.
        to: String,
    },
}

/// What became of it.
#[derive(Debug)]
pub enum JobOutcome {
    /// So many were deleted.
    Purged(u64),
    /// What became of dead letters or orphans.
    Redriven(Redriven),
}

impl JobRequest {
    /// What it is called while it runs.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Purge { .. } => "purge of dead letters",
            Self::Redrive(_) => "redrive of dead letters",
            Self::PurgeOrphans { .. } => "purge of orphans",
            Self::RedriveOrphans { .. } => "redrive of orphans",
        }
    }

    /// Whether it can't be done without the configuration.
    #[must_use]
    pub fn needs_config(&self) -> bool {
        !matches!(self, Self::Purge { .. })
    }

    /// Does it; what stops it is a sentence, and what was done before stays done. Dropped, it stops.
    pub async fn run(
        self,
        config: Option<&Config>,
        spool: &Spool,
        progress: &Arc<Progress>,
    ) -> Result<JobOutcome, String> {
        let config = || config.ok_or_else(|| "the relay is starting: ask again in a moment".to_owned());
        match self {
            Self::Purge { filter, total } => {
                progress.set_total(total);
                spool.purge(Unwanted::Letters(filter), progress).await.map(JobOutcome::Purged)
            }
            Self::Redrive(asked) => redrive(config()?, spool, asked, progress).await.map(JobOutcome::Redriven),
            Self::PurgeOrphans { sink } => {
                purge_orphans(config()?, spool, &sink, progress).await.map(JobOutcome::Purged)
            }
            Self::RedriveOrphans { sink, to } => {
                redrive_orphans(config()?, spool, (&sink, &to), progress).await.map(JobOutcome::Redriven)
            }
        }
    }
}

/// Those that run. Whoever begins them bounds their number.
#[derive(Debug, Default)]
pub struct Jobs {
    last: AtomicU64,
    running: Mutex<BTreeMap<u64, Entry>>,
}

#[derive(Debug)]
struct Entry {
    kind: &'static str,
    since: Instant,
    stop: CancellationToken,
    progress: Arc<Progress>,
}

/// A job as it is shown. These keys are relied on.
#[derive(Debug, Serialize, Deserialize)]
pub struct JobLine {
    /// Its number in this run of the relay.
    pub id: u64,
    /// What is done.
    pub kind: String,
    /// `running`.
    pub state: String,
    /// To how many it was done so far.
    pub done: u64,
    /// Of how many.
    pub total: u64,
    /// For how long, in seconds.
    pub seconds: u64,
}

/// A job while it runs: it ends when this is dropped.
#[derive(Debug)]
pub struct Job {
    /// Its number.
    pub id: u64,
    jobs: Arc<Jobs>,
    /// Cancelled when somebody stops it.
    pub stop: CancellationToken,
    /// Counted by who does it.
    pub progress: Arc<Progress>,
}

impl Jobs {
    /// One more.
    #[must_use]
    pub fn begin(self: &Arc<Self>, kind: &'static str) -> Job {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let (stop, progress) = (CancellationToken::new(), Arc::new(Progress::default()));
        let entry = Entry { kind, since: Instant::now(), stop: stop.clone(), progress: Arc::clone(&progress) };
        self.running().insert(id, entry);
        Job { id, jobs: Arc::clone(self), stop, progress }
    }

    /// All that run, the oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<JobLine> {
        let line = |(id, entry): (&u64, &Entry)| JobLine {
            id: *id,
            kind: entry.kind.to_owned(),
            state: "running".to_owned(),
            done: entry.progress.done(),
            total: entry.progress.total(),
            seconds: entry.since.elapsed().as_secs(),
        };
        self.running().iter().map(line).collect()
    }

    /// Stops one; the error says that there is none.
    pub fn stop(&self, id: u64) -> Result<(), String> {
        match self.running().get(&id) {
            Some(entry) => {
                entry.stop.cancel();
                Ok(())
            }
            None => Err(format!("there is no job {id}: it has ended, or never was")),
        }
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<u64, Entry>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.jobs.running().remove(&self.id);
    }
}
