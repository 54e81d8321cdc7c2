//! `replay`: delivers events of the journal again, to one sink. If no relay runs, they are spooled for its next start.

use std::io::{BufWriter, Write};
use std::process::ExitCode;

use anyhow::anyhow;

use super::client::{Job, JobPart, RedeliveryArguments, missing_config};
use super::dead_letters::since;
use super::target::Target;
use super::{Global, InvalidInput, plural};
use crate::clock::WallTime;
use crate::config;
use crate::journal::EventFilter;
use crate::relay::{JobRequest, RedriveResult, ReplayRequest, count_events};
use crate::spool::{Component, ShardName};

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
    let (count, without_message) =
        count_events(&config::journal(&target.data_dir), &filter).map_err(|error| anyhow!(error))?;
    if count > 0 && without_message == count {
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
        let request = ReplayRequest { filter, sink: arguments.sink.clone(), rate: *rate, total: count };
        let part = JobPart { shard: ShardName::default(), request: JobRequest::Replay(request), total: count };
        let job = Job { parts: vec![part], unit: UNIT };
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
