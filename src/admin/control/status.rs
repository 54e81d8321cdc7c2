//! The response to `status`. Users rely on all keys of its JSON.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::admin::{sink_state, source_state};
use crate::delivery::SinkStats;
use crate::relay::{Handle, JobStatus};
use crate::source::SourceStats;
use crate::spool::{SinkUsage, Spool};

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
    /// Always empty: alerts are a later feature.
    pub alerts: Vec<serde_json::Value>,
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
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SinkStatus {
    pub name: String,
    /// As in `/readyz`: `delivering`, `unavailable` (the breaker is open), `paused` or `orphaned` (no longer in
    /// the configuration).
    pub state: String,
    pub spooled: u64,
    pub bytes: u64,
    pub in_flight: u64,
    /// Deliveries that succeeded since the start.
    pub delivered: u64,
}

/// The backlogs of all sinks together.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpoolStatus {
    pub deliveries: u64,
    pub bytes: u64,
    pub max_bytes: u64,
    /// How many of the deliveries are orphaned.
    pub orphans: u64,
    /// Why the spool can store nothing, if it can't.
    pub problem: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLettersStatus {
    pub count: u64,
    pub bytes: u64,
    pub max_bytes: Option<u64>,
}

impl Status {
    pub(super) fn of(spool: &Spool, relay: &Handle) -> Self {
        let (stats, now) = (relay.stats(), relay.stats().snapshot());
        let (shares, problem, orphans) = (spool.sink_usage(), spool.problem(), stats.orphaned_sinks());
        let source = |source: &Arc<SourceStats>| {
            let (state, reason) = source_state(source, problem.as_deref());
            let (name, state) = (source.name().to_string(), state.to_owned());
            SourceStatus { name, state, reason, received: source.received() }
        };
        let sink = |sink: &Arc<SinkStats>| {
            let share = shares.iter().find(|(name, _)| name == sink.name()).map(|(_, share)| share);
            SinkStatus {
                name: sink.name().to_string(),
                state: sink_state(sink).to_owned(),
                spooled: share.map_or(0, SinkUsage::count),
                bytes: share.map_or(0, SinkUsage::bytes),
                in_flight: sink.in_flight(),
                delivered: sink.results(crate::delivery::DeliveryResult::Delivered),
            }
        };
        let orphaned = orphans.iter().map(|sink| SinkStatus {
            name: sink.name.to_string(),
            state: "orphaned".to_owned(),
            spooled: sink.deliveries,
            bytes: sink.bytes,
            in_flight: 0,
            delivered: 0,
        });
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime: relay.uptime().as_secs(),
            sources: now.sources.iter().map(source).collect(),
            sinks: now.sinks.iter().map(sink).chain(orphaned).collect(),
            spool: SpoolStatus {
                deliveries: shares.iter().map(|(_, share)| share.count()).sum(),
                bytes: shares.iter().map(|(_, share)| share.bytes()).sum(),
                max_bytes: stats.spool_max_bytes,
                orphans: orphans.iter().map(|sink| sink.deliveries).sum(),
                problem: problem.clone(),
            },
            dead_letters: DeadLettersStatus {
                count: spool.dead_letter_counts().iter().map(|(_, _, tally)| tally.stored).sum(),
                bytes: spool.dead_letter_bytes(),
                max_bytes: relay.config().map(|config| config.dead_letters.max_size),
            },
            jobs: relay.jobs().list(),
            alerts: Vec::new(),
        }
    }
}
