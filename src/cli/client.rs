//! How a command reaches the relay: over its control socket, or through the database of the spool, where [`remote`] does it. If no relay
//! runs, the command opens the spool itself.

use std::collections::BTreeSet;
use std::io::Write;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};

use super::progress::Progress;
use super::target::Target;
use super::{InvalidInput, confirm, remote};
use crate::admin::control::{self, Command, Request, Response};
use crate::config::{self, Config, DeadLettersConfig, UNDIVIDED};
use crate::relay::{JobRequest, RedriveResult};
use crate::spool::{self, ShardName};

/// The time limit for closing the spool.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(20);

/// Sends a command to the running relay, and waits for the response without a time limit. `None`: no relay runs.
pub(super) fn request(target: &Target, command: Command) -> anyhow::Result<Option<Response>> {
    request_job(target, command, |_| {})
}

/// As [`request`]; it calls `progress` with the number done so far.
fn request_job(target: &Target, command: Command, mut progress: impl FnMut(u64)) -> anyhow::Result<Option<Response>> {
    send(target, command, |socket, request| control::request_job(socket, request, |done, _| progress(done)))
}

/// As [`request`], then calls `each` with every line that follows the response.
pub(super) fn request_lines(
    target: &Target,
    command: Command,
    each: impl FnMut(&str) -> std::io::Result<()>,
) -> anyhow::Result<Option<Response>> {
    send(target, command, |socket, request| control::request_lines(socket, request, each))
}

fn send(
    target: &Target,
    command: Command,
    send: impl FnOnce(&std::path::Path, &Request) -> std::io::Result<Option<Response>>,
) -> anyhow::Result<Option<Response>> {
    // If the spool does not exist, no relay can have it open.
    let Some(spool) = target.spool.name() else { return Ok(None) };
    let socket = control::socket(&target.data_dir);
    let response = send(&socket, &Request { spool, command })
        .with_context(|| format!("can't talk to the running relay over {}", socket.display()))?;
    match response {
        Some(Response::Failed(error)) => Err(anyhow!(error)),
        response => Ok(response),
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct JobArguments {
    /// Run it as a job of the running relay, without waiting for its end
    #[arg(long)]
    detach: bool,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub(super) json: bool,
}

/// What commands have in common that deliver something again.
#[derive(Debug, clap::Args)]
pub(super) struct RedeliveryArguments {
    /// Rate limit: 10/s, 100/m, 1000/h
    #[arg(long, value_name = "N/s", value_parser = rate)]
    pub(super) rate: Option<f64>,
    /// Only print what would be done
    #[arg(long, conflicts_with = "detach")]
    pub(super) dry_run: bool,
    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    pub(super) job: JobArguments,
}

impl RedeliveryArguments {
    /// Asks whether to do `what`, unless that was answered before. Fails with `nothing` if the answer is no.
    pub(super) fn confirm(&self, what: impl FnOnce() -> String, nothing: &'static str) -> anyhow::Result<()> {
        if self.yes || confirm(what)? { Ok(()) } else { Err(anyhow!(nothing)) }
    }
}

/// Parses a rate such as `10/s` into a number per second.
fn rate(text: &str) -> Result<f64, String> {
    config::rate(text).ok_or_else(|| "expected a rate: 10/s, 100/m, 1000/h".to_owned())
}

/// A redrive, replay or purge that is about to run.
pub(super) struct Job {
    pub(super) parts: Vec<JobPart>,
    /// The singular of what is counted, such as "dead letter".
    pub(super) unit: &'static str,
}

/// What is done for one shard of the spool.
pub(super) struct JobPart {
    pub(super) shard: ShardName,
    pub(super) request: JobRequest,
    pub(super) total: u64,
}

impl JobPart {
    /// The same for each shard. The `total` of all is shown with the first.
    pub(super) fn of_all_shards(target: &Target, request: &JobRequest, total: u64) -> anyhow::Result<Vec<Self>> {
        let part = |(place, shard)| Self { shard, request: request.clone(), total: if place == 0 { total } else { 0 } };
        Ok(target.spool.shards()?.into_iter().enumerate().map(part).collect())
    }
}

impl Job {
    /// `None` if it was detached; then its number was written to `out`.
    pub(super) fn redrive(
        self,
        target: &Target,
        arguments: &JobArguments,
        out: &mut impl Write,
    ) -> anyhow::Result<Option<RedriveResult>> {
        match self.run(target, arguments.detach)? {
            Response::Redriven(done) => Ok(Some(done)),
            other => detached(&other, arguments.json, out).map(|()| None),
        }
    }

    /// How many were purged; `None` as for [`Job::redrive`].
    pub(super) fn purge(
        self,
        target: &Target,
        arguments: &JobArguments,
        out: &mut impl Write,
    ) -> anyhow::Result<Option<u64>> {
        match self.run(target, arguments.detach)? {
            Response::Purged(purged) => Ok(Some(purged)),
            other => detached(&other, arguments.json, out).map(|()| None),
        }
    }

    /// Runs in the relays that have the shards, or in the spool if none runs. Shows the progress.
    fn run(self, target: &Target, detach: bool) -> anyhow::Result<Response> {
        let Self { parts, unit } = self;
        let Some(first) = parts.first().map(|part| part.request.clone()) else {
            return Err(anyhow!("the spool {} has no shards yet: start a relay first", target.spool));
        };
        let mut line = Progress::new("processed", unit, Some(parts.iter().map(|part| part.total).sum()));
        if let Some(client) = remote::connect(target)? {
            let step = |JobPart { shard, request, total }| remote::Step {
                shard,
                command: Command::Job { job: request, detach },
                total,
            };
            let steps: Vec<_> = parts.into_iter().map(step).collect();
            if detach {
                let id = remote::send(&client, Some(first.kind()), &steps, true)?;
                return Ok(Response::Started(id.unsigned_abs()));
            }
            let done = remote::request(&client, Some(first.kind()), &steps, |done| line.tick(done))?;
            return sum(done);
        }
        if let [JobPart { request, .. }] = parts.as_slice() {
            let command = Command::Job { job: request.clone(), detach };
            if let Some(response) = request_job(target, command, |done| line.tick(done))? {
                return Ok(response);
            }
        }
        if detach {
            let error = "no relay runs here, so there is nothing to detach the job to: leave out `--detach`";
            return Err(InvalidInput(error.to_owned()).into());
        }
        if first.needs_config() && target.config.is_none() {
            return Err(missing_config().into());
        }
        let (config, progress) = (target.config.as_ref(), Arc::default());
        let work = async |spool: &spool::OpenShards| {
            let mut responses = Vec::with_capacity(parts.len());
            for JobPart { shard, request, .. } in parts {
                let one = spool.named(&shard.source);
                let spool = one.as_ref().unwrap_or(spool);
                let done = line.watch(request.run(config, spool, false, &progress), &progress).await?;
                responses.push(Response::from(done));
            }
            Ok(responses)
        };
        sum(OfflineSpool::open(target)?.with(work)?)
    }
}

/// What was done for all shards.
fn sum(responses: Vec<Response>) -> anyhow::Result<Response> {
    let mut responses = responses.into_iter();
    let first = responses.next().ok_or_else(|| anyhow!("no relay has answered"))?;
    responses.try_fold(first, |sum, response| match (sum, response) {
        (Response::Purged(sum), Response::Purged(more)) => Ok(Response::Purged(sum + more)),
        (Response::Redriven(mut sum), Response::Redriven(more)) => {
            sum.add(more);
            Ok(Response::Redriven(sum))
        }
        (_, other) => Err(unexpected(&other)),
    })
}

fn detached(response: &Response, json: bool, out: &mut impl Write) -> anyhow::Result<()> {
    let Response::Started(id) = response else { return Err(unexpected(response)) };
    if json {
        super::write_json(&serde_json::json!({ "job": id }), out)?;
    } else {
        writeln!(
            out,
            "the relay runs it as job {id}: `regards-relay jobs` shows its progress, `regards-relay jobs stop {id}` stops it"
        )?;
    }
    Ok(())
}

pub(super) fn missing_config() -> InvalidInput {
    let error = "this needs the relay's configuration, which says where deliveries go: name the file with `--config`";
    InvalidInput(error.to_owned())
}

/// A relay of another version may send any response.
pub(super) fn unexpected(response: &Response) -> anyhow::Error {
    anyhow!("the relay sent an unexpected response; is it of another version than this command? {response:?}")
}

/// A spool that no relay has open.
pub(super) struct OfflineSpool {
    spool: spool::OpenShards,
    runtime: tokio::runtime::Runtime,
}

impl OfflineSpool {
    pub(super) fn open(target: &Target) -> anyhow::Result<Self> {
        // Without limits, so that opening the spool deletes nothing.
        let dead_letters = DeadLettersConfig { keep: None, max_size: u64::MAX, to: None };
        let open = |shard| spool::Spool::open(&target.spool_config.of_shard(shard), &dead_letters).map(Arc::new);
        let spool = spool::OpenShards::new(open(UNDIVIDED)?);
        // Also those that are no longer in the configuration.
        let mut shards: BTreeSet<_> = target.spool.shards()?.into_iter().map(|shard| shard.source).collect();
        shards.extend(target.config.iter().flat_map(Config::shards).map(str::to_owned));
        for shard in shards.iter().filter(|shard| *shard != UNDIVIDED) {
            spool.add(open(shard)?);
        }
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().context("can't start threads")?;
        Ok(Self { spool, runtime })
    }

    /// Closes the spool after `work`.
    pub(super) fn with<T>(self, work: impl AsyncFnOnce(&spool::OpenShards) -> Result<T, String>) -> anyhow::Result<T> {
        self.runtime.block_on(async {
            let done = work(&self.spool).await;
            self.spool.close(CLOSE_TIMEOUT).await;
            done.map_err(|error| anyhow!(error))
        })
    }

    pub(super) fn close(self) {
        self.runtime.block_on(self.spool.close(CLOSE_TIMEOUT));
    }
}

impl Deref for OfflineSpool {
    type Target = spool::OpenShards;

    fn deref(&self) -> &Self::Target {
        &self.spool
    }
}
