//! `replay`: delivers events of the journal again, to one sink. If no relay runs, they are spooled for its next start.

use std::io::{BufWriter, Write};
use std::process::ExitCode;

use anyhow::anyhow;

use super::client::{Job, JobPart, RedeliveryArguments, missing_config};
use super::dead_letters::since;
use super::target::Target;
use super::{Global, InvalidInput, plural};
use crate::clock::WallTime;
use crate::journal::EventFilter;
use crate::relay::{EventCount, JobRequest, RedriveResult, ReplayRequest, count_events};
use crate::spool::Component;

const UNIT: &str = "event";

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The sink that gets the events, also one that never got them
    #[arg(long)]
    sink: String,
    /// Only events received since this time (2025-05-01, 2025-05-01T12:00:00Z), or so long ago (90m, 24h, 7d)
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<i64>,
    /// Only events received until this time
    #[arg(long, value_name = "TIME", value_parser = since)]
    until: Option<i64>,
    /// Only events of this tenant
    #[arg(long)]
    tenant: Option<String>,
    /// Only events with this status
    #[arg(long)]
    status: Option<String>,
    /// Only events of the request with this correlation id
    #[arg(long, value_name = "ID")]
    correlation_id: Option<String>,
    #[command(flatten)]
    redelivery: RedeliveryArguments,
}

pub fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let target = Target::find(global)?;
    target.require_spool()?;
    target.require(&Component::Sink(arguments.sink.clone()))?;
    let config = target.config.as_ref().ok_or_else(missing_config)?;
    if config.journal.is_none() {
        return Err(
            InvalidInput("there is no journal to replay: the configuration says `journal: none`".to_owned()).into()
        );
    }
    // Events that are received from now on are not replayed: nobody has seen their number.
    let until = arguments.until.unwrap_or(i64::MAX).min(WallTime::now().0);
    let filter = EventFilter {
        since: arguments.since,
        until: Some(until),
        tenant: arguments.tenant.clone(),
        status: arguments.status.clone(),
        correlation_id: arguments.correlation_id.clone(),
    };
    let found = count_events(config, &target.journal(), &filter).map_err(|error| anyhow!(error))?;
    let count = found.total();
    if count > 0 && found.without_message == count {
        return Err(anyhow!(
            "the messages of these {} were not recorded: the configuration says `journal: {{ bodies: false }}`",
            plural(count, UNIT)
        ));
    }
    let mut out = BufWriter::new(std::io::stdout().lock());
    let RedeliveryArguments { rate, dry_run, job: job_arguments, .. } = &arguments.redelivery;
    let done = if *dry_run {
        RedriveResult { redriven: count, ..RedriveResult::default() }
    } else if count == 0 {
        RedriveResult::default()
    } else {
        let what = || format!("replay {} to sink {}", plural(count, UNIT), arguments.sink);
        arguments.redelivery.confirm(what, "nothing was replayed")?;
        let request = |shard: &str, total| {
            let (filter, sink) = (filter.clone(), arguments.sink.clone());
            JobRequest::Replay(ReplayRequest { filter, shard: shard.to_owned(), sink, rate: *rate, total })
        };
        let job = Job { parts: parts(&target, &found, request)?, unit: UNIT };
        let Some(done) = job.redrive(&target, job_arguments, &mut out)? else {
            out.flush()?;
            return Ok(ExitCode::SUCCESS);
        };
        done
    };
    arguments.print(&done, &mut out)?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// The replay of each shard that has some of the events.
fn parts(
    target: &Target,
    found: &EventCount,
    request: impl Fn(&str, u64) -> JobRequest,
) -> anyhow::Result<Vec<JobPart>> {
    let shards = target.spool.shards()?;
    let part = |(name, total): (&String, &u64)| {
        let shard = shards.iter().find(|shard| shard.source == *name).cloned();
        let shard = shard.ok_or_else(|| {
            let spool = &target.spool;
            anyhow!("the spool {spool} has no shard for source {name} yet: start a relay with this configuration first")
        })?;
        Ok(JobPart { shard, request: request(name, *total), total: *total })
    };
    found.of_shards.iter().map(part).collect()
}

impl Arguments {
    fn print(&self, done: &RedriveResult, out: &mut impl Write) -> anyhow::Result<()> {
        if self.redelivery.job.json {
            let json = serde_json::json!({ "replayed": done.redriven, "left": done.left });
            super::write_json(&json, out)?;
            return Ok(());
        }
        let word = if self.redelivery.dry_run { "would be replayed" } else { "spooled for delivery" };
        writeln!(out, "{} {word} to sink {}", plural(done.redriven, UNIT), self.sink)?;
        for (error, count) in &done.left {
            writeln!(out, "{} left: {error}", plural(*count, UNIT))?;
        }
        Ok(())
    }
}
