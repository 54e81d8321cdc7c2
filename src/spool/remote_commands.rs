//! Commands of operators to the relays that share a spool, whatever machine they are given on. A command has a step for each shard that it is
//! about; the owners of the shards do the steps one after the other. Requests and answers are JSON, of which the spool knows nothing.

use super::SpoolError;
use super::instances::Instances;
use super::postgres::{PostgresCommandClient, PostgresCommandQueue};
use crate::config::StoreConfig;

/// A command, as its client gives it.
#[derive(Debug)]
pub struct NewCommand {
    /// The kind of the job, as lists show it; none: it is no job.
    pub job: Option<&'static str>,
    /// Nobody waits for its answers. Otherwise it is stopped when its client is gone.
    pub is_detached: bool,
    /// Each is done after the one before.
    pub steps: Vec<NewStep>,
}

#[derive(Debug)]
pub struct NewStep {
    pub shard: i16,
    pub request: String,
    /// How many dead letters or deliveries it is about.
    pub total: u64,
}

/// A step, as its client sees it.
#[derive(Debug)]
pub struct StepState {
    /// The name of the shard.
    pub source: String,
    /// A relay that has the shard does it now.
    pub is_running: bool,
    pub done: u64,
    pub answer: Option<String>,
}

/// A command that has not ended and is a job.
#[derive(Debug)]
pub struct RemoteJob {
    pub id: i64,
    pub kind: String,
    pub done: u64,
    pub total: u64,
    pub seconds: u64,
}

/// A step that this relay has to do.
#[derive(Debug)]
pub struct TakenStep {
    pub command: i64,
    pub step: i32,
    /// The name of the shard.
    pub source: String,
    pub request: String,
}

/// Which steps a relay takes.
#[derive(Debug)]
pub struct WantedSteps<'a> {
    /// Those for these shards, which it has.
    pub shards: &'a [String],
    /// Of jobs at most so many.
    pub most_jobs: usize,
    /// Those that it has taken: others that it has by the database are taken again, because the answer was lost.
    pub taken: &'a [(i64, i32)],
    pub interrupted: &'a str,
}

#[derive(Debug)]
pub struct StepEnd {
    pub command: i64,
    pub step: i32,
    pub answer: String,
    /// The steps after it are not done, and have the same answer.
    pub is_last: bool,
}

/// The side of the command line. Its functions block.
pub struct CommandClient(PostgresCommandClient);

impl CommandClient {
    /// None: no other machine can reach the spool.
    pub fn connect(store: &StoreConfig) -> Result<Option<Self>, SpoolError> {
        match store {
            StoreConfig::Sqlite(_) => Ok(None),
            StoreConfig::Postgres(config) => Ok(Some(Self(PostgresCommandClient::connect(config)?))),
        }
    }

    /// Returns its number; none if too many have not ended yet.
    pub fn send(&self, command: &NewCommand) -> Result<Option<i64>, SpoolError> {
        self.0.send(command)
    }

    /// The steps of a command in their order. Shows that its client is there.
    pub fn steps(&self, command: i64) -> Result<Vec<StepState>, SpoolError> {
        self.0.steps(command)
    }

    /// Ends a command; what is done of it stays done. False: it has ended, or there is none. `answer` is that of the steps not begun.
    pub fn stop(&self, command: i64, answer: &str) -> Result<bool, SpoolError> {
        self.0.stop(command, answer)
    }

    pub fn jobs(&self) -> Result<Vec<RemoteJob>, SpoolError> {
        self.0.jobs()
    }
}

/// The side of a relay. After an error it connects anew.
pub struct CommandQueue(PostgresCommandQueue);

impl CommandQueue {
    /// None: nothing can be asked through a file.
    #[must_use]
    pub fn new(store: &StoreConfig) -> Option<Self> {
        match store {
            StoreConfig::Sqlite(_) => None,
            StoreConfig::Postgres(config) => Some(Self(PostgresCommandQueue::new((**config).clone()))),
        }
    }

    /// Waits until there may be something new. It may be dropped.
    pub async fn wait(&mut self) {
        self.0.wait().await;
    }

    /// Takes the steps that are to be done now. Those that an owner before had begun get the answer `interrupted`.
    pub async fn take(
        &mut self,
        instances: &Instances,
        wanted: &WantedSteps<'_>,
    ) -> Result<Vec<TakenStep>, SpoolError> {
        self.0.take(instances, wanted).await
    }

    /// Notes how many are done of a step. Returns whether it goes on: its client is there, and nobody has stopped it.
    pub async fn report(&mut self, step: (i64, i32), done: u64) -> Result<bool, SpoolError> {
        self.0.report(step, done).await
    }

    pub async fn end(&mut self, end: &StepEnd) -> Result<(), SpoolError> {
        self.0.end(end).await
    }
}
