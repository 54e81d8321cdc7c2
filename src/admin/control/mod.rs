//! The control socket: what changes something in a running relay, asked by a command on the same machine.
//!
//! One request a connection, one answer, each a line of JSON. The socket is the owner's alone (0600), in the data directory;
//! it is there once the relay has its spool, so that a relay that waits for another doesn't answer for it.

mod job;
mod status;

pub use status::{DeadLettersStatus, SinkStatus, SourceStatus, SpoolStatus, Status};

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::task::AbortOnDropHandle;

use super::ACCEPT_PAUSE;
use super::connections::{Connections, Idle};
use crate::event::sample;
use crate::relay::{Handle, JobOutcome, JobRequest, Redriven};
use crate::spool::{Spool, Subject};
use crate::tasks::{self, TaskKind};

/// So many requests of a kind are answered at once; one more hears that the relay is busy. Each kind has turns of its own: what
/// takes long never keeps a pause from being heard.
const MAX_CAPTURES: usize = 4;
const MAX_JOBS: usize = 4;
const MAX_ORDERS: usize = 8;
/// With more connections than these the oldest that has asked nothing yet is closed: more than all the turns there are.
const MAX_CONNECTIONS: usize = 32;
/// A request is at most so long, in bytes.
const MAX_REQUEST: u64 = 64 * 1024;
/// An answer is at most so long, in bytes.
const MAX_ANSWER: u64 = 4 * 1024 * 1024;
/// A line that follows an answer is at most so long, in bytes: a sample of the longest message.
const MAX_LINE: u64 = 4 * 1024 * 1024 * 1024;
/// A request has to be there within this, and its answer taken.
const LINE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a relay can be asked. Each names the spool that is meant, by where its file really lies: another relay may use the same
/// data directory.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// To do what takes long.
    Job {
        /// In this spool.
        spool: PathBuf,
        /// What.
        job: JobRequest,
        /// It goes on when who asked for it goes.
        detach: bool,
    },
    /// To send nothing more to a sink, or take nothing more from a source.
    Pause {
        /// Of the relay that has this spool.
        spool: PathBuf,
        /// Which.
        of: Subject,
    },
    /// To show so many of the messages that come in from a source: after `Done`, each as a sample, a line each.
    Capture {
        /// Of the relay that has this spool.
        spool: PathBuf,
        /// The source's name.
        source: String,
        /// How many.
        count: u64,
    },
    /// To tell what it does.
    Status {
        /// Of the relay that has this spool.
        spool: PathBuf,
    },
    /// To stop a job.
    StopJob {
        /// Of the relay that has this spool.
        spool: PathBuf,
        /// Its number.
        id: u64,
    },
    /// To let it go on.
    Resume {
        /// Of the relay that has this spool.
        spool: PathBuf,
        /// Which.
        of: Subject,
    },
}

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It was done.
    Done,
    /// A job runs, and is not waited for: its number.
    Started(u64),
    /// A job runs, and this is not its end.
    Progress {
        /// To how many it was done so far.
        done: u64,
        /// Of how many.
        total: u64,
    },
    /// So many were deleted.
    Purged(u64),
    /// What became of dead letters or orphans.
    Redriven(Redriven),
    /// What it does.
    Status(Box<Status>),
    /// Why it was not done.
    Failed(String),
}

impl From<JobOutcome> for Answer {
    fn from(outcome: JobOutcome) -> Self {
        match outcome {
            JobOutcome::Purged(purged) => Self::Purged(purged),
            JobOutcome::Redriven(done) => Self::Redriven(done),
        }
    }
}

impl Request {
    fn spool(&self) -> &Path {
        match self {
            Self::Job { spool, .. }
            | Self::Pause { spool, .. }
            | Self::Capture { spool, .. }
            | Self::Status { spool }
            | Self::StopJob { spool, .. }
            | Self::Resume { spool, .. } => spool,
        }
    }
}

/// Where the socket of a relay with that data directory is.
#[must_use]
pub fn socket(data_dir: &Path) -> PathBuf {
    crate::config::control_socket(data_dir)
}

/// Answers at `path` once the relay has its spool, until the handle is dropped.
pub fn serve(path: PathBuf, relay: Handle) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tasks::spawn(TaskKind::ControlSocket, async move {
        let spool = relay.stats().spool_opened().await;
        match bind(&path) {
            Ok(listener) => accept(&listener, &spool, &relay).await,
            // The relay does its work all the same.
            Err(cause) => {
                tracing::warn!("commands that change something can't reach this relay: {}: {cause}", path.display());
            }
        }
    }))
}

fn bind(path: &Path) -> std::io::Result<UnixListener> {
    // What a relay left that is gone; a living one would have the spool.
    match std::fs::remove_file(path) {
        Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => return Err(cause),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// What is answered at once, at most.
#[derive(Debug)]
struct Turns {
    captures: Semaphore,
    jobs: Semaphore,
    orders: Semaphore,
}

impl Turns {
    fn new() -> Self {
        Self {
            captures: Semaphore::new(MAX_CAPTURES),
            jobs: Semaphore::new(MAX_JOBS),
            orders: Semaphore::new(MAX_ORDERS),
        }
    }

    /// The right to answer that request; the error says that there is none now.
    fn take(&self, request: &Request) -> Result<SemaphorePermit<'_>, String> {
        let (turns, most, what) = match request {
            Request::Capture { .. } => (&self.captures, MAX_CAPTURES, "captures"),
            Request::Job { .. } => (&self.jobs, MAX_JOBS, "redrives and purges"),
            _ => (&self.orders, MAX_ORDERS, "requests"),
        };
        let busy = |_| format!("the relay is busy with {most} {what}: try again when one of them has ended");
        turns.try_acquire().map_err(busy)
    }
}

async fn accept(listener: &UnixListener, spool: &Arc<Spool>, relay: &Handle) {
    let turns = Arc::new(Turns::new());
    let mut connections = Connections::new(MAX_CONNECTIONS);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (spool, relay, turns, idle) = (Arc::clone(spool), relay.clone(), Arc::clone(&turns), Idle::new());
                let asked = idle.clone();
                // Goes on when the relay stops: the spool then answers that it does.
                let task = tasks::spawn(TaskKind::ControlRequest, async move {
                    if let Err(cause) = answer(stream, &spool, &relay, &turns, &asked).await {
                        tracing::debug!("a request to the control socket ended early: {cause}");
                    }
                });
                connections.add(idle, task.abort_handle());
            }
            Err(cause) => {
                tracing::debug!("the control socket can't accept a connection: {cause}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer(stream: UnixStream, spool: &Spool, relay: &Handle, turns: &Turns, idle: &Idle) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut read = tokio::io::BufReader::new(read.take(MAX_REQUEST));
    tokio::time::timeout(LINE_TIMEOUT, read.read_line(&mut line)).await??;
    idle.has_asked();
    let request = serde_json::from_str::<Request>(&line)
        .map_err(|cause| format!("this relay does not understand it, is it of another version? {cause}"));
    let request = request.and_then(|request| Ok((turns.take(&request)?, request)));
    // Held until the answer is taken.
    let (_turn, request) = match request {
        Ok((turn, request)) => (Some(turn), Ok(request)),
        Err(why) => (None, Err(why)),
    };
    let is_ours = |request: Request| {
        if request.spool() == spool.path() {
            return Ok(request);
        }
        Err(format!("the relay that answers has the spool {}, not this one", spool.path().display()))
    };
    let mut seen = None;
    // Who asked says nothing more: the end of the connection is all that can come.
    let mut nothing = String::new();
    let answer = match request.and_then(is_ours) {
        Ok(Request::Job { job, detach, .. }) => {
            let client = job::Client { from: &mut read, to: &mut write, detaches: detach };
            return job::run(job, spool, relay, client).await;
        }
        Ok(Request::Capture { source, count, .. }) => match relay.look_on(&source) {
            Ok(messages) => {
                seen = Some((messages, count));
                Answer::Done
            }
            Err(why) => Answer::Failed(why),
        },
        Ok(request) => tokio::select! {
            answer = answer_to(request, spool, relay) => answer.unwrap_or_else(Answer::Failed),
            gone = read.read_line(&mut nothing) => return gone.map(drop),
        },
        Err(why) => Answer::Failed(why),
    };
    send(&mut write, &answer).await?;
    let Some((mut messages, count)) = seen else { return Ok(()) };
    let show = async {
        for _ in 0..count {
            let Some(seen) = messages.recv().await else { break };
            say(&mut write, sample::print(&seen.message)).await?;
        }
        Ok(())
    };
    // Who asked may have seen enough.
    tokio::select! {
        shown = show => shown,
        gone = read.read_line(&mut nothing) => gone.map(drop),
    }
}

async fn send(to: &mut OwnedWriteHalf, answer: &Answer) -> std::io::Result<()> {
    say(to, serde_json::to_string(answer)?).await
}

async fn say(to: &mut OwnedWriteHalf, mut line: String) -> std::io::Result<()> {
    line.push('\n');
    tokio::time::timeout(LINE_TIMEOUT, to.write_all(line.as_bytes())).await?
}

async fn answer_to(request: Request, spool: &Spool, relay: &Handle) -> Result<Answer, String> {
    match request {
        Request::Pause { of, .. } => relay.pause(of).await.map(|()| Answer::Done),
        Request::Resume { of, .. } => relay.resume(of).await.map(|()| Answer::Done),
        Request::Status { .. } => Ok(Answer::Status(Box::new(Status::of(spool, relay)))),
        Request::StopJob { id, .. } => relay.jobs().stop(id).map(|()| Answer::Done),
        // These have more than one answer, and are answered before.
        Request::Capture { .. } | Request::Job { .. } => Err("it is answered elsewhere".to_owned()),
    }
}

/// Asks the relay whose socket is at `path`, for as long as it takes; `None`: there is none.
pub fn ask(path: &Path, request: &Request) -> std::io::Result<Option<Answer>> {
    ask_for_job(path, request, |_, _| {})
}

/// The same; `progress` hears how many are done, of how many, until the answer comes.
pub fn ask_for_job(
    path: &Path,
    request: &Request,
    mut progress: impl FnMut(u64, u64),
) -> std::io::Result<Option<Answer>> {
    let Some((mut answer, mut from)) = begin(path, request)? else { return Ok(None) };
    while let Answer::Progress { done, total } = answer {
        progress(done, total);
        answer = read_answer(&mut from)?;
    }
    Ok(Some(answer))
}

/// The same, and each line that follows the answer, until the relay has said all, or `each` has seen enough.
pub fn ask_for_lines(
    path: &Path,
    request: &Request,
    mut each: impl FnMut(&str) -> std::io::Result<()>,
) -> std::io::Result<Option<Answer>> {
    let Some((answer, mut from)) = begin(path, request)? else { return Ok(None) };
    let mut line = String::new();
    loop {
        line.clear();
        if from.by_ref().take(MAX_LINE).read_line(&mut line)? == 0 {
            return Ok(Some(answer));
        }
        each(&line)?;
    }
}

fn begin(
    path: &Path,
    request: &Request,
) -> std::io::Result<Option<(Answer, BufReader<std::os::unix::net::UnixStream>)>> {
    // The last one says that the path is too long for a socket: no relay can have one there.
    use std::io::ErrorKind::{ConnectionRefused, InvalidInput, NotFound};
    let mut stream = match std::os::unix::net::UnixStream::connect(path) {
        Err(cause) if matches!(cause.kind(), ConnectionRefused | NotFound | InvalidInput) => return Ok(None),
        connected => connected?,
    };
    stream.write_all(format!("{}\n", serde_json::to_string(request)?).as_bytes())?;
    let mut from = BufReader::new(stream);
    Ok(Some((read_answer(&mut from)?, from)))
}

fn read_answer(from: &mut impl BufRead) -> std::io::Result<Answer> {
    let mut answer = String::new();
    from.take(MAX_ANSWER).read_line(&mut answer)?;
    if answer.is_empty() {
        return Err(std::io::Error::other("the relay ended before it answered"));
    }
    Ok(serde_json::from_str(&answer)?)
}
