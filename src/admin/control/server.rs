//! The relay's side of the control socket.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Take};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::task::AbortOnDropHandle;

use super::{Command, Request, Response, Status, job};
use crate::admin::ACCEPT_PAUSE;
use crate::admin::connections::{Connections, Slot};
use crate::event::sample;
use crate::relay::Handle;
use crate::spool::OpenShards;
use crate::tasks::{self, TaskKind};

/// The number of commands of each kind that can run at the same time; a further one fails. Each kind has its own limit, so that
/// long commands never block a `pause`.
const MAX_CAPTURES: usize = 4;
pub(super) const MAX_JOBS: usize = 4;
const MAX_COMMANDS: usize = 8;
/// More connections than the limits of commands together; beyond it the oldest idle connection is closed.
const MAX_CONNECTIONS: usize = 32;
/// The longest request, in bytes.
const MAX_REQUEST: u64 = 64 * 1024;
/// The time for a client to send its request, and to read each line of the response.
const LINE_TIMEOUT: Duration = Duration::from_secs(5);

/// Listens at `path` once the relay has its spool, until the handle is dropped.
pub fn serve(path: PathBuf, relay: Handle) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tasks::spawn(TaskKind::ControlSocket, async move {
        let spool = relay.stats().spool_opened().await;
        match bind(&path) {
            Ok(listener) => accept(&listener, &spool, &relay).await,
            Err(error) => tracing::warn!(
                %error,
                "can't listen on the control socket {}; the relay works without it, but `status`, `pause`, `resume`, \
                 `redrive` and `purge` can't reach it",
                path.display()
            ),
        }
    }))
}

fn bind(path: &Path) -> std::io::Result<UnixListener> {
    // A socket at this path was left by a relay that has ended: a running one would have the spool.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

#[derive(Debug)]
struct SizeLimits {
    captures: Semaphore,
    jobs: Semaphore,
    commands: Semaphore,
}

impl SizeLimits {
    fn new() -> Self {
        Self {
            captures: Semaphore::new(MAX_CAPTURES),
            jobs: Semaphore::new(MAX_JOBS),
            commands: Semaphore::new(MAX_COMMANDS),
        }
    }

    fn acquire(&self, command: &Command) -> Result<SemaphorePermit<'_>, String> {
        let (semaphore, most, what) = match command {
            Command::Capture { .. } => (&self.captures, MAX_CAPTURES, "captures"),
            Command::Job { .. } => (&self.jobs, MAX_JOBS, "redrives and purges"),
            _ => (&self.commands, MAX_COMMANDS, "commands"),
        };
        let busy = |_| format!("the relay is busy with {most} {what}: try again when one of them has ended");
        semaphore.try_acquire().map_err(busy)
    }
}

async fn accept(listener: &UnixListener, spool: &Arc<OpenShards>, relay: &Handle) {
    let limits = Arc::new(SizeLimits::new());
    let mut connections = Connections::new(MAX_CONNECTIONS);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (spool, relay, limits) = (Arc::clone(spool), relay.clone(), Arc::clone(&limits));
                let slot = connections.add();
                tasks::spawn(TaskKind::ControlRequest, async move {
                    tokio::select! {
                        answered = answer(stream, &spool, &relay, &limits, &slot) => if let Err(error) = answered {
                            tracing::debug!(%error, "a connection to the control socket ended early");
                        },
                        () = slot.closed() => {}
                    }
                });
            }
            Err(error) => {
                tracing::debug!(%error, "the control socket can't accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer(
    stream: UnixStream,
    spool: &OpenShards,
    relay: &Handle,
    limits: &SizeLimits,
    slot: &Slot,
) -> std::io::Result<()> {
    let (from, to) = stream.into_split();
    let mut client = Client { from: BufReader::new(from.take(MAX_REQUEST)), to };
    let mut line = String::new();
    tokio::time::timeout(LINE_TIMEOUT, client.from.read_line(&mut line)).await??;
    slot.set_has_request();
    let accepted = parse(&line, spool).and_then(|command| Ok((limits.acquire(&command)?, command)));
    // The permit is held until the response is written.
    let (_permit, command) = match accepted {
        Ok(accepted) => accepted,
        Err(error) => return client.send(&Response::Failed(error)).await,
    };
    let done = |()| Response::Done;
    match command {
        Command::Job { job, detach } => job::run(job, detach, spool, relay, client).await,
        Command::Capture { source, count } => capture(&source, count, relay, client).await,
        Command::StopJob(id) => client.respond(async { relay.jobs().stop(id).map(done) }).await,
        Command::Pause(subject) => client.respond(async { relay.pause(subject, None).await.map(done) }).await,
        Command::Resume(subject) => client.respond(async { relay.resume(subject, None).await.map(done) }).await,
        Command::Status => client.respond(status(spool, relay)).await,
    }
}

fn parse(line: &str, spool: &OpenShards) -> Result<Command, String> {
    let Request { spool: requested, command } = serde_json::from_str(line).map_err(|error| {
        format!("this relay does not understand the request; is the relay of another version than the command? {error}")
    })?;
    if requested == spool.name() {
        return Ok(command);
    }
    Err(format!("the relay that runs here has another spool, {}", spool.name()))
}

async fn status(spool: &OpenShards, relay: &Handle) -> Result<Response, String> {
    let alerts = relay.stats().alerts_with_requests().await?;
    let (_, _, last_reload_succeeded) = relay.stats().reloads();
    let status = Box::new(Status::of(spool, relay, alerts));
    Ok(Response::Status { status, last_reload_failed: !last_reload_succeeded })
}

async fn capture(source: &str, count: u64, relay: &Handle, mut client: Client) -> std::io::Result<()> {
    let mut messages = match relay.capture(source) {
        Ok(messages) => messages,
        Err(error) => return client.send(&Response::Failed(error)).await,
    };
    client.send(&Response::Done).await?;
    let Client { from, to } = &mut client;
    let copy = async {
        for _ in 0..count {
            let Some(seen) = messages.recv().await else { break };
            write_line(to, sample::print(&seen.message)).await?;
        }
        Ok(())
    };
    tokio::select! {
        copied = copy => copied,
        closed = closed(from) => closed,
    }
}

pub(super) struct Client {
    pub(super) from: BufReader<Take<OwnedReadHalf>>,
    to: OwnedWriteHalf,
}

impl Client {
    pub(super) async fn send(&mut self, response: &Response) -> std::io::Result<()> {
        write_line(&mut self.to, serde_json::to_string(response)?).await
    }

    /// Sends the result of `work`, or cancels it when the client closes the connection.
    async fn respond(&mut self, work: impl Future<Output = Result<Response, String>>) -> std::io::Result<()> {
        let response = tokio::select! {
            response = work => response.unwrap_or_else(Response::Failed),
            closed = closed(&mut self.from) => return closed,
        };
        self.send(&response).await
    }
}

/// Waits until the client closes the connection: after its request it sends nothing more.
pub(super) async fn closed(from: &mut BufReader<Take<OwnedReadHalf>>) -> std::io::Result<()> {
    from.read_line(&mut String::new()).await.map(drop)
}

async fn write_line(to: &mut OwnedWriteHalf, mut line: String) -> std::io::Result<()> {
    line.push('\n');
    tokio::time::timeout(LINE_TIMEOUT, to.write_all(line.as_bytes())).await?
}
