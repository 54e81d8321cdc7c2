//! What a relay does now, as `status` shows it. All keys are relied on.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::admin::{sink_state, source_state};
use crate::delivery::SinkStats;
use crate::relay::{Handle, JobLine};
use crate::source::SourceStats;
use crate::spool::{Share, Spool};

/// All of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Of the program that runs.
    pub version: String,
    /// For how long it has run, in seconds.
    pub uptime: u64,
    /// In the order of the configuration.
    pub sources: Vec<SourceStatus>,
    /// In the order of the configuration; then those that are gone from it and have deliveries in the spool.
    pub sinks: Vec<SinkStatus>,
    /// The deliveries that wait, of all sinks.
    pub spool: SpoolStatus,
    /// What is kept for a person.
    pub dead_letters: DeadLettersStatus,
    /// Redrives and purges that run.
    pub jobs: Vec<JobLine>,
    /// Those that are raised.
    pub alerts: Vec<serde_json::Value>,
}

/// How a source is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// Its name.
    pub name: String,
    /// As in `/readyz`: `consuming`, `standby`, `blocked`, `paused` or `down`.
    pub state: String,
    /// Why it doesn't consume.
    pub reason: Option<String>,
    /// Messages that came in, in this run.
    pub received: u64,
}

/// How a sink is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SinkStatus {
    /// Its name.
    pub name: String,
    /// As in `/readyz`: `delivering`, `unavailable` (its breaker is open), `paused` or `orphaned` (it is gone from the configuration).
    pub state: String,
    /// Deliveries in the spool.
    pub spooled: u64,
    /// What they take.
    pub bytes: u64,
    /// Attempts under way.
    pub in_flight: u64,
    /// Deliveries that the destination has, in this run.
    pub delivered: u64,
}

/// The backlogs of all sinks.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpoolStatus {
    /// How many deliveries.
    pub deliveries: u64,
    /// What they take.
    pub bytes: u64,
    /// What they may take.
    pub max_bytes: u64,
    /// How many of them no sink of the configuration is for.
    pub orphans: u64,
    /// Why nothing can be stored now.
    pub problem: Option<String>,
}

/// The dead letters.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLettersStatus {
    /// How many.
    pub count: u64,
    /// What they take.
    pub bytes: u64,
    /// What they may take.
    pub max_bytes: Option<u64>,
}

impl Status {
    pub(super) fn of(spool: &Spool, relay: &Handle) -> Self {
        let (stats, now) = (relay.stats(), relay.stats().now());
        let (shares, problem, orphans) = (spool.shares(), spool.problem(), stats.orphans());
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
                spooled: share.map_or(0, Share::count),
                bytes: share.map_or(0, Share::bytes),
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
                count: spool.tallies().iter().map(|(_, _, tally)| tally.kept).sum(),
                bytes: spool.bytes(),
                max_bytes: relay.config().map(|config| config.dead_letters.max_size),
            },
            jobs: relay.jobs().list(),
            alerts: Vec::new(),
        }
    }
}
