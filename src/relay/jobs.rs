//! Jobs: redrives, replays and purges, which may take long. A running job is listed with its progress and can be stopped. Without a running
//! relay the command line runs the same code on the spool itself.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::orphans::{purge_orphans, redrive_orphans};
use super::redrive::{RedriveRequest, RedriveResult, redrive};
use super::replay::{ReplayRequest, replay};
use crate::config::Config;
use crate::spool::{DeadLetterFilter, OpenShards, Progress, PurgeTarget};

/// The error of a job that was stopped.
pub const STOPPED: &str = "it was stopped by `jobs stop`; its changes until then are kept";

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobRequest {
    Purge {
        filter: DeadLetterFilter,
        /// How many dead letters match, as counted by the client.
        total: u64,
    },
    Redrive(RedriveRequest),
    /// Deletes the backlog of a sink that is not in the configuration.
    PurgeOrphans {
        sink: String,
    },
    /// Delivers events of the journal again.
    Replay(ReplayRequest),
    /// Moves the backlog of a sink that is not in the configuration to the sink `to`.
    RedriveOrphans {
        sink: String,
        to: String,
    },
}

#[derive(Debug)]
pub enum JobOutcome {
    Purged(u64),
    Redriven(RedriveResult),
}

impl JobRequest {
    /// The name of such a job in lists and logs.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Purge { .. } => "purge of dead letters",
            Self::Redrive(_) => "redrive of dead letters",
            Self::Replay(_) => "replay",
            Self::PurgeOrphans { .. } => "purge of orphans",
            Self::RedriveOrphans { .. } => "redrive of orphans",
        }
    }

    #[must_use]
    pub fn needs_config(&self) -> bool {
        !matches!(self, Self::Purge { .. })
    }

    /// Runs the job until its end, or until the future is dropped. An error is a sentence; what was done before it stays done.
    /// `is_delivering`: a running relay delivers from the spool meanwhile.
    pub async fn run(
        self,
        config: Option<&Config>,
        spool: &OpenShards,
        is_delivering: bool,
        progress: &Arc<Progress>,
    ) -> Result<JobOutcome, String> {
        let config = || config.ok_or_else(|| "the relay is starting: try again in a moment".to_owned());
        match self {
            Self::Purge { filter, total } => {
                progress.set_total(total);
                spool.purge(PurgeTarget::DeadLetters(filter), progress).await.map(JobOutcome::Purged)
            }
            Self::Redrive(request) => redrive(config()?, spool, request, progress).await.map(JobOutcome::Redriven),
            Self::Replay(request) => {
                replay(config()?, spool, request, is_delivering, progress).await.map(JobOutcome::Redriven)
            }
            Self::PurgeOrphans { sink } => {
                purge_orphans(config()?, spool, &sink, progress).await.map(JobOutcome::Purged)
            }
            Self::RedriveOrphans { sink, to } => {
                redrive_orphans(config()?, spool, (&sink, &to), progress).await.map(JobOutcome::Redriven)
            }
        }
    }
}

/// The running jobs. The control socket bounds their number.
#[derive(Debug, Default)]
pub struct Jobs {
    last_id: AtomicU64,
    running: Mutex<BTreeMap<u64, RunningJob>>,
}

#[derive(Debug)]
struct RunningJob {
    kind: &'static str,
    started_at: Instant,
    stop: CancellationToken,
    progress: Arc<Progress>,
}

/// A job as `jobs` shows it. Users rely on these keys.
#[derive(Debug, Serialize, Deserialize)]
pub struct JobStatus {
    /// Unique within one run of the relay.
    pub id: u64,
    pub kind: String,
    pub state: String,
    /// How many dead letters or deliveries are processed.
    pub done: u64,
    pub total: u64,
    pub seconds: u64,
}

/// A running job, listed until this is dropped.
#[derive(Debug)]
pub struct Job {
    pub id: u64,
    jobs: Arc<Jobs>,
    pub stop: CancellationToken,
    pub progress: Arc<Progress>,
}

impl Jobs {
    #[must_use]
    pub fn begin(self: &Arc<Self>, kind: &'static str) -> Job {
        self.begin_as(self.last_id.fetch_add(1, Ordering::Relaxed) + 1, kind)
    }

    /// Begins a job that has a number already.
    #[must_use]
    pub fn begin_as(self: &Arc<Self>, id: u64, kind: &'static str) -> Job {
        let (stop, progress) = (CancellationToken::new(), Arc::new(Progress::default()));
        let entry =
            RunningJob { kind, started_at: Instant::now(), stop: stop.clone(), progress: Arc::clone(&progress) };
        self.running().insert(id, entry);
        Job { id, jobs: Arc::clone(self), stop, progress }
    }

    /// The running jobs, the oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<JobStatus> {
        let status = |(id, entry): (&u64, &RunningJob)| JobStatus {
            id: *id,
            kind: entry.kind.to_owned(),
            state: "running".to_owned(),
            done: entry.progress.done(),
            total: entry.progress.total(),
            seconds: entry.started_at.elapsed().as_secs(),
        };
        self.running().iter().map(status).collect()
    }

    /// The error says that there is no such job.
    pub fn stop(&self, id: u64) -> Result<(), String> {
        match self.running().get(&id) {
            Some(entry) => {
                entry.stop.cancel();
                Ok(())
            }
            None => Err(format!("there is no running job {id}: it has ended, or never existed")),
        }
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<u64, RunningJob>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Job {
    /// Does what is requested, until its end or until the job is stopped.
    pub async fn run(
        &self,
        request: JobRequest,
        config: Option<&Config>,
        spool: &OpenShards,
    ) -> Result<JobOutcome, String> {
        // Boxed, as it is large and few connections need it.
        let work = Box::pin(request.run(config, spool, true, &self.progress));
        self.stop.run_until_cancelled(work).await.unwrap_or_else(|| Err(STOPPED.to_owned()))
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.jobs.running().remove(&self.id);
    }
}
