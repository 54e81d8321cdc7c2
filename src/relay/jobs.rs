//! What the relay does at somebody's request and takes long: redrives and purges. Each is listed while it runs, and can be stopped.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

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
}

/// A job as it is shown.
#[derive(Debug, Serialize, Deserialize)]
pub struct JobLine {
    /// Its number in this run of the relay.
    pub id: u64,
    /// What is done.
    pub kind: String,
    /// For how long, in seconds.
    pub seconds: u64,
}

/// A job while it runs: it ends when this is dropped.
#[derive(Debug)]
pub struct Job {
    id: u64,
    jobs: Arc<Jobs>,
    /// Cancelled when somebody stops it.
    pub stop: CancellationToken,
}

impl Jobs {
    /// One more.
    #[must_use]
    pub fn begin(self: &Arc<Self>, kind: &'static str) -> Job {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let stop = CancellationToken::new();
        self.running().insert(id, Entry { kind, since: Instant::now(), stop: stop.clone() });
        Job { id, jobs: Arc::clone(self), stop }
    }

    /// All that run, the oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<JobLine> {
        let line = |(id, entry): (&u64, &Entry)| JobLine {
            id: *id,
            kind: entry.kind.to_owned(),
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
