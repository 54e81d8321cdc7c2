//! Commands that come through the database of the spool, because operators give them on any machine. The relay does each step for one of
//! the shards that it has.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::job::log;
use super::server::MAX_JOBS;
use super::{Command, Response};
use crate::config::StoreConfig;
use crate::delivery::LogLimiter;
use crate::relay::{Handle, Job, JobRequest};
use crate::spool::{CommandQueue, OpenShards, Progress, SpoolError, StepEnd, TakenStep, WantedSteps};
use crate::tasks::{self, TaskKind};

const INTERRUPTED: &str = "the relay that did it has stopped or was replaced; its changes until then are kept: run the command again for the rest";

/// Does what is asked of the relay, until the handle is dropped. None: nothing can be asked through a file.
#[must_use]
pub fn serve_remote(store: &StoreConfig, relay: Handle) -> Option<AbortOnDropHandle<()>> {
    let queue = CommandQueue::new(store)?;
    Some(AbortOnDropHandle::new(tasks::spawn(TaskKind::RemoteCommands, run(queue, relay))))
}

struct RunningJob {
    step: (i64, i32),
    stop: CancellationToken,
    progress: Arc<Progress>,
}

struct Remote {
    queue: CommandQueue,
    relay: Handle,
    steps: FuturesUnordered<BoxFuture<'static, StepEnd>>,
    jobs: Vec<RunningJob>,
    /// Those that were begun, until their ends are written.
    taken: Vec<(i64, i32)>,
    ended: Vec<StepEnd>,
}

async fn run(queue: CommandQueue, relay: Handle) {
    let spool = relay.stats().spool_opened().await;
    let mut remote =
        Remote { queue, relay, steps: FuturesUnordered::new(), jobs: Vec::new(), taken: Vec::new(), ended: Vec::new() };
    let trouble_log = LogLimiter::default();
    loop {
        tokio::select! {
            () = remote.queue.wait() => {}
            Some(end) = remote.steps.next() => {
                remote.jobs.retain(|job| job.step != (end.command, end.step));
                remote.ended.push(end);
            }
        }
        TaskKind::RemoteCommands.panic_if_requested();
        if let Err(error) = remote.talk(&spool).await
            && let Some(suppressed) = trouble_log.allow()
        {
            tracing::warn!(%error, suppressed, "the relay can't see what operators ask of it by commands on other machines");
        }
    }
}

impl Remote {
    /// Tells the database what was done, and begins what is to be done.
    async fn talk(&mut self, spool: &OpenShards) -> Result<(), SpoolError> {
        while let Some(end) = self.ended.last() {
            self.queue.end(end).await?;
            let step = (end.command, end.step);
            self.ended.pop();
            self.taken.retain(|taken| *taken != step);
        }
        for job in &self.jobs {
            if !self.queue.report(job.step, job.progress.done()).await? {
                job.stop.cancel();
            }
        }
        // While it starts, a relay can do nothing.
        if self.relay.config().is_none() {
            return Ok(());
        }
        let shards: Vec<_> = spool.all().iter().map(|shard| shard.shard().to_owned()).collect();
        if shards.is_empty() {
            return Ok(());
        }
        let most_jobs = MAX_JOBS.saturating_sub(self.jobs.len());
        let instances = Arc::clone(self.relay.stats().instances());
        let interrupted = answer(&Response::Failed(INTERRUPTED.to_owned()));
        let wanted = WantedSteps { shards: &shards, most_jobs, taken: &self.taken, interrupted: &interrupted };
        for step in self.queue.take(&instances, &wanted).await? {
            self.begin(step, spool);
        }
        Ok(())
    }

    fn begin(&mut self, step: TakenStep, spool: &OpenShards) {
        let shard = spool.named(&step.source);
        let TakenStep { command, step, request, source } = step;
        self.taken.push((command, step));
        let relay = self.relay.clone();
        let work: BoxFuture<'static, Result<Response, String>> = match (parse(&request), shard) {
            (Ok(Command::Job { job: request, detach }), Some(shard)) => {
                let job = relay.jobs().begin_as(command.unsigned_abs(), request.kind());
                self.jobs.push(RunningJob {
                    step: (command, step),
                    stop: job.stop.clone(),
                    progress: Arc::clone(&job.progress),
                });
                Box::pin(run_job(job, request, detach, relay, shard))
            }
            (Ok(Command::Pause(subject)), Some(_)) => {
                Box::pin(async move { relay.pause(subject, Some(source)).await.map(|()| Response::Done) })
            }
            (Ok(Command::Resume(subject)), Some(_)) => {
                Box::pin(async move { relay.resume(subject, Some(source)).await.map(|()| Response::Done) })
            }
            (Ok(_), Some(_)) => failed("only the relay on the same machine does this command".to_owned()),
            (Ok(_), None) => failed(INTERRUPTED.to_owned()),
            (Err(error), _) => failed(error),
        };
        self.steps.push(Box::pin(async move {
            let response = work.await.unwrap_or_else(Response::Failed);
            let is_last = matches!(response, Response::Failed(_));
            StepEnd { command, step, answer: answer(&response), is_last }
        }));
    }
}

async fn run_job(
    job: Job,
    request: JobRequest,
    is_detached: bool,
    relay: Handle,
    shard: OpenShards,
) -> Result<Response, String> {
    let kind = request.kind();
    let config = relay.config();
    let ended = job.run(request, config.as_deref(), &shard).await;
    if is_detached {
        log(job.id, kind, &ended);
    }
    ended.map(Response::from)
}

fn failed(error: String) -> BoxFuture<'static, Result<Response, String>> {
    Box::pin(async { Err(error) })
}

fn parse(request: &str) -> Result<Command, String> {
    serde_json::from_str(request).map_err(|error| {
        format!("the relay does not understand the request; is it of another version than the command? {error}")
    })
}

fn answer(response: &Response) -> String {
    serde_json::to_string(response).unwrap_or_default()
}
