//! A job that a command asks for: its progress is told while it runs, and it stops when its client goes, unless that detached it.

use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncBufReadExt};
use tokio::net::unix::OwnedWriteHalf;

use super::{Answer, send};
use crate::relay::{Handle, JobOutcome, JobRequest};
use crate::spool::Spool;

/// Between two signs of its progress.
const PROGRESS_PAUSE: Duration = Duration::from_millis(500);
/// Why a job ends that somebody stopped.
const STOPPED: &str = "it was stopped by `jobs stop`; what was done before stays so";

/// Who asked for a job.
pub(super) struct Client<'c, R> {
    /// Says nothing more: the end of the connection is all that can come.
    pub(super) from: &'c mut R,
    pub(super) to: &'c mut OwnedWriteHalf,
    /// Doesn't wait for its end.
    pub(super) detaches: bool,
}

/// Does it, and answers.
pub(super) async fn run(
    request: JobRequest,
    spool: &Spool,
    relay: &Handle,
    client: Client<'_, impl AsyncBufRead + Unpin>,
) -> std::io::Result<()> {
    let kind = request.kind();
    let job = relay.jobs().begin(kind);
    let config = relay.config();
    // It is large: few connections ask for one.
    let work = Box::pin(request.run(config.as_deref(), spool, &job.progress));
    let work = async {
        let stopped = job.stop.run_until_cancelled(work).await;
        stopped.unwrap_or_else(|| Err(STOPPED.to_owned()))
    };
    if client.detaches {
        send(client.to, &Answer::Started(job.id)).await?;
        log(job.id, kind, work.await);
        return Ok(());
    }
    let mut work = std::pin::pin!(work);
    let (mut nothing, mut signs) = (String::new(), tokio::time::interval(PROGRESS_PAUSE));
    signs.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            ended = &mut work => return send(client.to, &ended.map_or_else(Answer::Failed, Answer::from)).await,
            gone = client.from.read_line(&mut nothing) => return gone.map(drop),
            _ = signs.tick() => {
                let (done, total) = (job.progress.done(), job.progress.total());
                send(client.to, &Answer::Progress { done, total }).await?;
            }
        }
    }
}

/// Nobody waits for the end of a job that was detached: the log has it.
fn log(id: u64, kind: &str, ended: Result<JobOutcome, String>) {
    match ended {
        Ok(JobOutcome::Purged(purged)) => tracing::info!(job = id, kind, purged, "a job has ended"),
        Ok(JobOutcome::Redriven(done)) => {
            let (redriven, left) = (done.redriven, done.left.values().sum::<u64>());
            tracing::info!(job = id, kind, redriven, left, "a job has ended");
        }
        Err(error) => tracing::warn!(job = id, kind, error, "a job has stopped before its end"),
    }
}
