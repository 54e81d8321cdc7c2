//! Redrives and purges the backlog of a sink that is not in the configuration.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::config::{Config, SinkConfig};
use crate::delivery::{Payload, SpoolPlace};
use crate::rules::SinkName;
use crate::spool::{OpenShards, Progress, PurgeTarget, RedriveOrigin, Spool, SpooledDelivery};

use super::redrive::{RedriveResult, blocking, check_takes_events, no_sink, takes_copies};

/// Moves the backlog of `sink` behind that of `to`, the oldest first, each delivery as if it were received now. An error is a sentence;
/// what was redriven before it stays redriven.
pub(super) async fn redrive_orphans(
    config: &Config,
    spool: &OpenShards,
    (sink, to): (&str, &str),
    progress: &Progress,
) -> Result<RedriveResult, String> {
    check_gone(config, sink)?;
    progress.set_total(backlog_of(spool, sink));
    let to = config.sinks.iter().find(|sink| sink.name.as_str() == to).ok_or_else(|| no_sink(config, to))?;
    let mut done = RedriveResult::default();
    for shard in spool.all() {
        redrive_orphans_of(config, &shard, (sink, to), &mut done, progress).await?;
    }
    Ok(done)
}

async fn redrive_orphans_of(
    config: &Config,
    shard: &Spool,
    (sink, to): (&str, &SinkConfig),
    done: &mut RedriveResult,
    progress: &Progress,
) -> Result<(), String> {
    let (from, mut after) = (SinkName::new(sink), None);
    loop {
        let (name, sink) = (shard.shard().to_owned(), sink.to_owned());
        let batch = blocking(shard.reader(), move |spool| spool.orphans(&name, &sink, after)).await?;
        let Some((last, _)) = batch.last() else { return Ok(()) };
        after = Some(*last);
        let (mut results, mut stopped) = (Vec::with_capacity(batch.len()), None);
        for (id, row) in batch {
            match row.and_then(|row| redirected(config, to, row)) {
                Ok(row) => match shard.redrive(RedriveOrigin::Orphan(id, from.clone()), vec![row]) {
                    Ok(result) => results.push(result),
                    // The deliveries behind it must not overtake it.
                    Err(why) => {
                        stopped = Some(why);
                        break;
                    }
                },
                Err(why) => {
                    done.count_left(why);
                    progress.add(1);
                }
            }
        }
        for result in results {
            if result.await? {
                done.count([to.name.to_string()]);
            } else {
                done.count_left("it is no longer in the spool, or an attempt is in flight".to_owned());
            }
            progress.add(1);
        }
        if let Some(why) = stopped {
            return Err(format!("{why}; {} were redriven before", done.redriven));
        }
    }
}

/// Deletes the backlog of `sink`. Returns how many deliveries that were.
pub(super) async fn purge_orphans(
    config: &Config,
    spool: &OpenShards,
    sink: &str,
    progress: &Arc<Progress>,
) -> Result<u64, String> {
    check_gone(config, sink)?;
    progress.set_total(backlog_of(spool, sink));
    spool.purge(PurgeTarget::Orphans(SinkName::new(sink)), progress).await
}

pub(super) fn backlog_of(spool: &OpenShards, sink: &str) -> u64 {
    spool.sink_usage().iter().find(|(name, _)| name.as_str() == sink).map_or(0, |(_, share)| share.count())
}

fn check_gone(config: &Config, sink: &str) -> Result<(), String> {
    let is_there = config.sinks.iter().any(|there| there.name.as_str() == sink);
    if is_there { Err(format!("sink {sink} is in the configuration: its backlog is not orphaned")) } else { Ok(()) }
}

/// The same delivery, for the sink `to`.
fn redirected(config: &Config, to: &SinkConfig, row: SpooledDelivery) -> Result<SpooledDelivery, String> {
    let payload = Payload::from_spool(&row)
        .map_err(|invalid| format!("its message can no longer be decoded ({})", invalid.reason))?;
    match &payload {
        Payload::DeadLetterCopy { .. } if !takes_copies(config, to) => {
            return Err(format!("it is a copy of a dead letter, and sink {} does not take these", to.name));
        }
        Payload::DeadLetterCopy { .. } => {}
        _ => check_takes_events(config, to)?,
    }
    let SpoolPlace { key, due, group } = SpoolPlace::of(to, payload.event());
    Ok(SpooledDelivery {
        sink: to.name.clone(),
        key,
        received: Timestamp::now(),
        due,
        attempts: 0,
        refusals: 0,
        last_error: None,
        group,
        digest: None,
        // The transform of a route that was removed is unknown.
        route: row.route.filter(|route| config.rules.route(route).is_some()),
        ..row
    })
}
