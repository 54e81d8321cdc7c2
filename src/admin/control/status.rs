//! The response to `status`. Users rely on all keys of its JSON.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::admin::{sink_state, source_state};
use crate::clock::WallTime;
use crate::delivery::{PersistedState, SinkStats};
use crate::relay::{AlertSummary, Handle, JobStatus, OrphanedSink};
use crate::rules::SinkName;
use crate::source::SourceStats;
use crate::spool::{Component, Instance, Instances, LeaseOfInstance, OpenShards, SinkUsage};

/// Longer errors of sinks are cut, in characters; `spool` has all of them.
const MAX_ERROR: usize = 500;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The version of the running relay.
    pub version: String,
    /// In seconds since the start.
    pub uptime: u64,
    /// In the order of the configuration.
    pub sources: Vec<SourceStatus>,
    /// In the order of the configuration, then the orphaned ones.
    pub sinks: Vec<SinkStatus>,
    pub spool: SpoolStatus,
    pub dead_letters: DeadLettersStatus,
    /// The redrives and purges that run now.
    pub jobs: Vec<JobStatus>,
    /// In the order of the configuration.
    pub alerts: Vec<AlertSummary>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    pub name: String,
    /// As in `/readyz`: `consuming`, `standby`, `blocked`, `paused` or `down`.
    pub state: String,
    /// Why the source does not consume.
    pub reason: Option<String>,
    /// Messages received since the start.
    pub received: u64,
    /// When the last message was received, RFC 3339; null if there was none since the start.
    pub last_message: Option<String>,
    /// Reconnections to the broker since the start.
    pub reconnects: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SinkStatus {
    pub name: String,
    /// As in `/readyz`: `delivering`, `unavailable` (the breaker is open), `paused` or `orphaned` (no longer in
    /// the configuration).
    pub state: String,
    /// Why the sink is not `delivering`.
    pub reason: Option<String>,
    /// When the next attempt may begin, RFC 3339, if the sink is not `delivering`; null if somebody has to resume it.
    pub next_attempt: Option<String>,
    pub spooled: u64,
    pub bytes: u64,
    /// When the message of the oldest spooled delivery was received, RFC 3339.
    pub oldest: Option<String>,
    pub in_flight: u64,
    /// Deliveries that succeeded since the start.
    pub delivered: u64,
    /// Why the last attempt that failed since the start failed; `lastErrorAt` is its time, RFC 3339.
    pub last_error: Option<String>,
    pub last_error_at: Option<String>,
}

/// The backlogs of all sinks together.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpoolStatus {
    pub deliveries: u64,
    pub bytes: u64,
    pub max_bytes: u64,
    /// The part of it that one sink may take.
    pub max_sink_bytes: u64,
    /// How many of the deliveries are orphaned.
    pub orphans: u64,
    /// Why the spool can store nothing, if it can't.
    pub problem: Option<String>,
    /// The relays that share it; empty if no other machine can reach it.
    pub instances: Vec<InstanceStatus>,
}

/// A relay that uses the spool or stands by for it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceStatus {
    /// Its machine and its process, as in `relay-1 (process 4711)`.
    pub name: String,
    /// `working`, or `standby` if another one works.
    pub state: String,
    /// The shards that it has; empty if it stands by.
    pub shards: Vec<ShardStatus>,
    /// Whether its configuration file is the same as that of the relay that was asked.
    pub same_configuration: bool,
}

/// A shard of the spool that a relay has.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShardStatus {
    /// The source whose queue it is about; null: all sources that have one queue.
    pub source: Option<String>,
    /// Higher than that of each relay that had it before.
    pub epoch: i64,
    /// How long the lease lasts if it is not renewed, in milliseconds.
    pub lease: u64,
}

impl ShardStatus {
    fn of(lease: LeaseOfInstance) -> Self {
        let LeaseOfInstance { source, epoch, remaining } = lease;
        Self { source, epoch, lease: u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX) }
    }
}

/// All relays of the spool that were seen lately.
fn instances(instances: &Instances) -> Vec<InstanceStatus> {
    let status = |instance: Instance| InstanceStatus {
        state: if instance.leases.is_empty() { "standby" } else { "working" }.to_owned(),
        same_configuration: !instances.differs(&instance),
        shards: instance.leases.into_iter().map(ShardStatus::of).collect(),
        name: instance.name,
    };
    instances.all().into_iter().map(status).collect()
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLettersStatus {
    pub count: u64,
    pub bytes: u64,
    pub max_bytes: Option<u64>,
}

impl Status {
    pub(super) fn of(spool: &OpenShards, relay: &Handle, alerts: Vec<AlertSummary>) -> Self {
        let (stats, now) = (relay.stats(), relay.stats().snapshot());
        let (shares, problem, orphans) = (spool.sink_usage(), spool.problem(), stats.orphaned_sinks());
        let source = |source: &Arc<SourceStats>| {
            let (state, reason) = source_state(source, problem.as_deref());
            SourceStatus {
                name: source.name().to_string(),
                state: state.to_owned(),
                reason,
                received: source.received(),
                last_message: last_message(source),
                reconnects: source.reconnects(),
            }
        };
        let sink = |sink: &Arc<SinkStats>| {
            let share = shares.iter().find(|(name, _)| name == sink.name()).map(|(_, share)| share);
            sink_status(sink, share, spool)
        };
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime: relay.uptime().as_secs(),
            sources: now.sources.iter().map(source).collect(),
            sinks: now.sinks.iter().map(sink).chain(orphans.iter().map(|sink| orphaned(sink, &shares))).collect(),
            spool: SpoolStatus {
                deliveries: shares.iter().map(|(_, share)| share.count()).sum(),
                bytes: shares.iter().map(|(_, share)| share.bytes()).sum(),
                max_bytes: stats.spool_max_bytes,
                max_sink_bytes: stats.spool_limit_bytes,
                orphans: orphans.iter().map(|sink| sink.deliveries).sum(),
                problem: problem.clone(),
                instances: instances(stats.instances()),
            },
            dead_letters: DeadLettersStatus {
                count: spool.dead_letter_counts().iter().map(|(_, _, tally)| tally.stored).sum(),
                bytes: spool.dead_letter_bytes(),
                max_bytes: relay.config().map(|config| config.dead_letters.max_size),
            },
            jobs: relay.jobs().list(),
            alerts,
        }
    }
}

/// None: no message was received yet.
fn last_message(source: &SourceStats) -> Option<String> {
    let at = source.last_message();
    let at = (!at.is_zero()).then(|| WallTime(i64::try_from(at.as_millis()).unwrap_or(i64::MAX)));
    at.map(WallTime::to_rfc3339)
}

fn sink_status(sink: &SinkStats, share: Option<&SinkUsage>, spool: &OpenShards) -> SinkStatus {
    let name = sink.name().to_string();
    let saved = PersistedState::parse(spool.saved_state(&Component::Sink(name.clone())).as_deref());
    // The state is saved a moment before the statistics change, or after it.
    let is_held = sink.is_paused() || sink.is_breaker_open();
    let next = saved.not_before().filter(|_| is_held);
    let failure = sink.last_failure();
    SinkStatus {
        name,
        state: sink_state(sink).to_owned(),
        reason: saved.trouble().filter(|_| is_held).map(short),
        next_attempt: next.map(|at| at.to_wall().to_rfc3339()),
        spooled: share.map_or(0, SinkUsage::count),
        bytes: share.map_or(0, SinkUsage::bytes),
        oldest: share.and_then(oldest),
        in_flight: sink.in_flight(),
        delivered: sink.results(crate::delivery::DeliveryResult::Delivered),
        last_error_at: failure.as_ref().map(|failure| failure.at.wall.to_rfc3339()),
        last_error: failure.map(|failure| short(failure.error)),
    }
}

fn orphaned(sink: &OrphanedSink, shares: &[(SinkName, SinkUsage)]) -> SinkStatus {
    let share = shares.iter().find(|(name, _)| *name == sink.name).map(|(_, share)| share);
    SinkStatus {
        name: sink.name.to_string(),
        state: "orphaned".to_owned(),
        reason: Some(sink.advice()),
        next_attempt: None,
        spooled: sink.deliveries,
        bytes: sink.bytes,
        oldest: share.and_then(oldest),
        in_flight: 0,
        delivered: 0,
        last_error: None,
        last_error_at: None,
    }
}

fn oldest(share: &SinkUsage) -> Option<String> {
    share.oldest.map(|oldest| oldest.wall.to_rfc3339())
}

/// With a thousand sinks, the response stays within its bound.
fn short(mut error: String) -> String {
    if let Some((end, _)) = error.char_indices().nth(MAX_ERROR) {
        error.truncate(end);
        error.push('…');
    }
    error
}
