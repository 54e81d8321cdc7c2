//! The control socket: commands on the same machine use it to change or to query a running relay.
//!
//! A connection has one request and its response, each a line of JSON. The socket lies in the data directory, and only the
//! relay's user can connect to it (mode 0600). It exists once the relay has its spool: a relay that waits until another one releases
//! the spool must not answer in its place.

mod client;
mod job;
mod remote;
mod server;
mod status;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use client::{request, request_job, request_lines};
pub use remote::serve_remote;
pub use server::serve;
pub use status::{DeadLettersStatus, ShardStatus, SinkStatus, SourceStatus, SpoolStatus, Status};

use crate::relay::{JobOutcome, JobRequest, RedriveResult};
use crate::spool::Component;

#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// The name of the spool of the relay that the command is for: another relay may use the same data directory.
    pub spool: String,
    pub command: Command,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Runs a redrive or a purge.
    Job {
        job: JobRequest,
        /// The job continues when the client closes the connection.
        detach: bool,
    },
    StopJob(u64),
    /// Stops sending to a sink, or taking from a source.
    Pause(Component),
    Resume(Component),
    /// Shows the next `count` messages that a source receives: after [`Response::Done`], each as a sample on a line.
    Capture {
        source: String,
        count: u64,
    },
    Status,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    Done,
    /// The number of the detached job that was started.
    Started(u64),
    /// The state of a job that runs; more responses follow.
    Progress {
        done: u64,
        total: u64,
    },
    /// How many dead letters or deliveries were deleted.
    Purged(u64),
    Redriven(RedriveResult),
    Status {
        status: Box<Status>,
        /// The configuration is an earlier one, because the last reload failed.
        last_reload_failed: bool,
    },
    /// With the error that the user sees.
    Failed(String),
}

impl From<JobOutcome> for Response {
    fn from(outcome: JobOutcome) -> Self {
        match outcome {
            JobOutcome::Purged(purged) => Self::Purged(purged),
            JobOutcome::Redriven(redriven) => Self::Redriven(redriven),
        }
    }
}

/// The path of the socket for a data directory.
#[must_use]
pub fn socket(data_dir: &Path) -> PathBuf {
    crate::config::control_socket(data_dir)
}
