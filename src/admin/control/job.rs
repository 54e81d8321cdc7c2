//! A redrive or a purge that a client requested. The client receives its progress; if the client closes the connection, the job
//! stops, unless it is detached.

use std::time::Duration;

use super::Response;
use super::server::{Client, closed};
use crate::relay::{Handle, JobOutcome, JobRequest};
use crate::spool::OpenShards;

/// The time between two progress responses.
const PROGRESS_PAUSE: Duration = Duration::from_millis(500);

pub(super) async fn run(
    request: JobRequest,
    detach: bool,
    spool: &OpenShards,
    relay: &Handle,
    mut client: Client,
) -> std::io::Result<()> {
    let kind = request.kind();
    let job = relay.jobs().begin(kind);
    let config = relay.config();
    let work = job.run(request, config.as_deref(), spool);
    if detach {
        client.send(&Response::Started(job.id)).await?;
        log(job.id, kind, &work.await);
        return Ok(());
    }
    let mut work = std::pin::pin!(work);
    let mut progress = tokio::time::interval(PROGRESS_PAUSE);
    progress.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            ended = &mut work => return client.send(&ended.map_or_else(Response::Failed, Response::from)).await,
            closed = closed(&mut client.from) => return closed,
            _ = progress.tick() => {
                let (done, total) = (job.progress.done(), job.progress.total());
                client.send(&Response::Progress { done, total }).await?;
            }
        }
    }
}

/// Logs the end of a detached job, because no client waits for it.
pub(super) fn log(id: u64, kind: &str, ended: &Result<JobOutcome, String>) {
    match ended {
        Ok(JobOutcome::Purged(purged)) => tracing::info!("job {id} ({kind}) has ended: {purged} purged"),
        Ok(JobOutcome::Redriven(done)) => {
            let (redriven, left) = (done.redriven, done.left.values().sum::<u64>());
            tracing::info!("job {id} ({kind}) has ended: {redriven} redriven, {left} left");
        }
        Err(error) => tracing::warn!(error, "job {id} ({kind}) has stopped before its end"),
    }
}
