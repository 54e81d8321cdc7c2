//! What is kept on disk, in one SQLite file: dead letters, and later the deliveries that wait.
//!
//! One relay owns the file (`lock`), one thread writes to it (`writer`), and anyone who may read it can do so beside
//! them ([`DeadLetters`]). What is stored is on the disk, fsynced, before its [`Receipt`] settles.
//!
//! Memory is bounded by the sources: a letter that can't be stored yet holds its message unacknowledged, so there are
//! never more of them than all sources' prefetch together.
//!
//! This module knows nothing of why a delivery failed or what is tried next.

mod damage;
mod database;
mod filter;
mod letter;
mod lock;
mod network;
mod purge;
mod reader;
mod tally;
mod writer;

pub use database::SpoolError;
pub use filter::Filter;
pub use letter::DeadLetter;
pub use reader::{DeadLetters, Listed, Shown};
pub use tally::{Tally, TallyRow};

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::config::{DeadLettersConfig, SpoolConfig};
use crate::source::Receipt;

use purge::Purge;
use tally::Tallies;
use writer::{Command, Waiting, Writer};

/// How often [`Spool::open_when_free`] looks whether the other relay has gone.
const LOCK_RETRY: Duration = Duration::from_secs(1);

/// What [`Spool::problem`] says at the end.
const CLOSED: &str = "the spool is closed: nothing more can be stored by this run of the relay";

/// The spool of a running relay: the only writer of the file.
#[derive(Debug)]
pub struct Spool {
    path: PathBuf,
    to: Sender<Command>,
    shared: Arc<Shared>,
    writer: JoinHandle<()>,
}

/// What the writer tells of itself.
#[derive(Debug)]
struct Shared {
    tallies: Mutex<Tallies>,
    problem: Mutex<Option<String>>,
}

impl Shared {
    fn set_problem(&self, problem: Option<String>) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }
}

impl Spool {
    /// Opens the file, creates it and its directory if they aren't there, and starts its writer. Blocks for as long as the
    /// disk takes.
    ///
    /// Another relay that holds the file is [`SpoolError::Held`].
    pub fn open(config: &SpoolConfig, dead_letters: &DeadLettersConfig) -> Result<Self, SpoolError> {
        let (to, from) = mpsc::channel();
        let shared = Arc::new(Shared { tallies: Mutex::default(), problem: Mutex::default() });
        let writer = Writer::open(config, dead_letters, from, Arc::clone(&shared))?;
        let path = writer.path().to_owned();
        let writer = std::thread::Builder::new()
            .name("spool".to_owned())
            .spawn(move || writer.run())
            .map_err(|cause| SpoolError::io(&config.path, "no thread can be started to write to it", cause))?;
        Ok(Self { path, to, shared, writer })
    }

    /// Like [`open`](Self::open), but waits for as long as another relay holds the file; each time that is found so, `told`
    /// hears who.
    pub async fn open_when_free(
        config: &SpoolConfig,
        dead_letters: &DeadLettersConfig,
        mut told: impl FnMut(&SpoolError),
    ) -> Result<Self, SpoolError> {
        loop {
            let (config, dead_letters) = (config.clone(), dead_letters.clone());
            let path = config.path.clone();
            let opened = tokio::task::spawn_blocking(move || Self::open(&config, &dead_letters)).await;
            match opened.map_err(|cause| SpoolError::io(&path, "it can't be opened", std::io::Error::other(cause)))? {
                Err(held @ SpoolError::Held { .. }) => told(&held),
                end => return end,
            }
            tokio::time::sleep(LOCK_RETRY).await;
        }
    }

    /// Where the file really lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Stores a dead letter. Returns at once; `receipt` settles when the letter is on disk, and is dropped only if the relay
    /// stops before that could be done.
    pub fn store(&self, letter: DeadLetter, receipt: Receipt) {
        // A writer that is gone drops the receipt: the message stays unacknowledged, and `problem` says so.
        let _ = self.to.send(Command::Store(Box::new(Waiting::new(letter, receipt))));
    }

    /// Deletes these dead letters; says how many there were. What couldn't be done is a sentence.
    pub async fn purge(&self, filter: Filter) -> Result<u64, String> {
        let (done, purged) = oneshot::channel();
        // Dropped with the writer, which is then heard of below.
        let _ = self.to.send(Command::Purge(Purge::new(filter, done)));
        purged.await.unwrap_or_else(|_| Err("the relay stopped before it was done".to_owned()))
    }

    /// Why nothing can be stored at the moment, in a sentence with what to do.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        if self.writer.is_finished() {
            // It ended without saying so: a bug.
            return Some(CLOSED.to_owned());
        }
        self.shared.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts of dead letters by reason and sink: since start, and kept.
    #[must_use]
    pub fn tallies(&self) -> Vec<TallyRow> {
        self.shared.tallies.lock().unwrap_or_else(PoisonError::into_inner).rows()
    }

    /// The size of all that is kept, in bytes, as `dead_letters.max_size` counts it.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shared.tallies.lock().unwrap_or_else(PoisonError::into_inner).bytes()
    }

    /// Stores what still waits, at most for `grace`, and closes the file. What could not be stored by then is dropped
    /// unsettled, as is everything handed in later.
    pub async fn close(&self, grace: Duration) {
        let (done, closed) = oneshot::channel();
        let until = Instant::now() + grace;
        if self.to.send(Command::Close { until, done }).is_ok() {
            // The other end is dropped only when the writer has ended, which is what we wait for.
            let _ = closed.await;
        }
    }
}

#[cfg(test)]
mod tests;
