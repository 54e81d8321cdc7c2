//! The control socket: what changes something in a running relay, asked by a command on the same machine.
//!
//! One request a connection, one answer, each a line of JSON. The socket is the owner's alone (0600), in the data directory;
//! it is there once the relay has its spool, so that a relay that waits for another doesn't answer for it.

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
use crate::config::Config;
use crate::delivery::SinkStats;
use crate::event::sample;
use crate::helper::{self, Helper};
use crate::relay::{self, Handle, JobLine, Redrive, Redriven};
use crate::source::SourceStats;
use crate::spool::{Filter, Share, Spool, Subject, Unwanted};

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
    /// To delete these dead letters.
    Purge {
        /// Of this spool.
        spool: PathBuf,
        /// Which.
        filter: Filter,
    },
    /// To give these dead letters another chance.
    Redrive {
        /// Of this spool.
        spool: PathBuf,
        /// Which, where to, and how fast.
        redrive: Redrive,
    },
    /// To delete what waits for a sink that is gone from the rules.
    PurgeOrphans {
        /// In this spool.
        spool: PathBuf,
        /// The sink's name.
        sink: String,
    },
    /// To give what waits for a sink that is gone from the rules to another.
    RedriveOrphans {
        /// In this spool.
        spool: PathBuf,
        /// The sink's name.
        sink: String,
        /// The other's.
        to: String,
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
    /// So many were deleted.
    Purged(u64),
    /// What became of the dead letters.
    Redriven(Redriven),
    /// What it does.
    Status(Status),
    /// Why it was not done.
    Failed(String),
}

/// What a relay does. These keys are relied on.
#[derive(Debug, Serialize, Deserialize)]
pub struct Status {
    /// Each source.
    pub sources: Vec<SourceStatus>,
    /// Each sink.
    pub sinks: Vec<SinkStatus>,
    /// Redrives and purges that are under way.
    pub jobs: Vec<JobLine>,
}

/// How a source is.
#[derive(Debug, Serialize, Deserialize)]
pub struct SourceStatus {
    /// Its name.
    pub name: String,
    /// `consuming` or `down`.
    pub state: String,
    /// Why it is down.
    pub reason: Option<String>,
}

/// How a sink is.
#[derive(Debug, Serialize, Deserialize)]
pub struct SinkStatus {
    /// Its name.
    pub name: String,
    /// `delivering`, `failing` (its breaker is open) or `paused`.
    pub state: String,
    /// Deliveries in the spool.
    pub spooled: u64,
    /// What they take.
    pub bytes: u64,
}

impl Status {
    fn of(spool: &Spool, relay: &Handle) -> Self {
        let now = relay.stats().now();
        let shares = spool.shares();
        let source = |source: &Arc<SourceStats>| SourceStatus {
            name: source.name().to_string(),
            state: if source.is_up() { "consuming" } else { "down" }.to_owned(),
            reason: source.problem().filter(|_| !source.is_up()),
        };
        let sink = |sink: &Arc<SinkStats>| {
            let share = shares.iter().find(|(name, _)| name == sink.name()).map(|(_, share)| share);
            let state = match () {
                () if sink.is_paused() => "paused",
                () if sink.is_breaker_open() => "failing",
                () => "delivering",
            };
            SinkStatus {
                name: sink.name().to_string(),
                state: state.to_owned(),
                spooled: share.map_or(0, Share::count),
                bytes: share.map_or(0, Share::bytes),
            }
        };
        Self {
            sources: now.sources.iter().map(source).collect(),
            sinks: now.sinks.iter().map(sink).collect(),
            jobs: relay.jobs().list(),
        }
    }
}

impl Request {
    /// What it is called while it runs; none: it is no job.
    fn job(&self) -> Option<&'static str> {
        match self {
            Self::Purge { .. } => Some("purge of dead letters"),
            Self::Redrive { .. } => Some("redrive of dead letters"),
            Self::PurgeOrphans { .. } => Some("purge of orphans"),
            Self::RedriveOrphans { .. } => Some("redrive of orphans"),
            _ => None,
        }
    }

    fn spool(&self) -> &Path {
        match self {
            Self::Purge { spool, .. }
            | Self::Redrive { spool, .. }
            | Self::PurgeOrphans { spool, .. }
            | Self::RedriveOrphans { spool, .. }
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
    AbortOnDropHandle::new(helper::task(Helper::Control, async move {
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
            _ if request.job().is_none() => (&self.orders, MAX_ORDERS, "requests"),
            _ => (&self.jobs, MAX_JOBS, "redrives and purges"),
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
                let task = helper::task(Helper::ControlRequest, async move {
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
    let mut seen = None;
    // Who asked says nothing more: the end of the connection is all that can come.
    let mut nothing = String::new();
    let answer = match request {
        Ok(Request::Capture { spool: asked, source, count }) if asked == spool.path() => match relay.look_on(&source) {
            Ok(messages) => {
                seen = Some((messages, count));
                Answer::Done
            }
            Err(why) => Answer::Failed(why),
        },
        // What is asked for stops when who asked for it goes, as by Ctrl-C.
        Ok(request) => {
            let job = request.job().map(|kind| relay.jobs().begin(kind));
            let stopped = async {
                match &job {
                    Some(job) => job.stop.cancelled().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
            answer = answer_to(request, spool, relay) => answer.unwrap_or_else(Answer::Failed),
            () = stopped => Answer::Failed("it was stopped by `jobs stop`; what was done before stays so".to_owned()),
            gone = read.read_line(&mut nothing) => return gone.map(drop),
            }
        }
        Err(why) => Answer::Failed(why),
    };
    say(&mut write, serde_json::to_string(&answer)?).await?;
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

async fn say(to: &mut OwnedWriteHalf, mut line: String) -> std::io::Result<()> {
    line.push('\n');
    tokio::time::timeout(LINE_TIMEOUT, to.write_all(line.as_bytes())).await?
}

async fn answer_to(request: Request, spool: &Spool, relay: &Handle) -> Result<Answer, String> {
    if request.spool() != spool.path() {
        return Err(format!("the relay that answers has the spool {}, not this one", spool.path().display()));
    }
    match request {
        Request::Purge { filter, .. } => spool.purge(Unwanted::Letters(filter)).await.map(Answer::Purged),
        Request::Redrive { redrive, .. } => relay::redrive(&*rules(relay)?, spool, redrive).await.map(Answer::Redriven),
        Request::PurgeOrphans { sink, .. } => {
            relay::purge_orphans(&*rules(relay)?, spool, &sink).await.map(Answer::Purged)
        }
        Request::RedriveOrphans { sink, to, .. } => {
            relay::redrive_orphans(&*rules(relay)?, spool, &sink, &to).await.map(Answer::Redriven)
        }
        Request::Pause { of, .. } => relay.pause(of).await.map(|()| Answer::Done),
        Request::Resume { of, .. } => relay.resume(of).await.map(|()| Answer::Done),
        Request::Status { .. } => Ok(Answer::Status(Status::of(spool, relay))),
        Request::StopJob { id, .. } => relay.jobs().stop(id).map(|()| Answer::Done),
        // What is captured comes after the answer: it is answered before.
        Request::Capture { .. } => Err("the spool is another relay's".to_owned()),
    }
}

fn rules(relay: &Handle) -> Result<Arc<Config>, String> {
    relay.config().ok_or_else(|| "the relay is starting: ask again in a moment".to_owned())
}

/// Asks the relay whose socket is at `path`, for as long as it takes; `None`: there is none.
pub fn ask(path: &Path, request: &Request) -> std::io::Result<Option<Answer>> {
    Ok(begin(path, request)?.map(|(answer, _)| answer))
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
    let mut answer = String::new();
    from.by_ref().take(MAX_ANSWER).read_line(&mut answer)?;
    if answer.is_empty() {
        return Err(std::io::Error::other("the relay ended before it answered"));
    }
    Ok(Some((serde_json::from_str(&answer)?, from)))
}
