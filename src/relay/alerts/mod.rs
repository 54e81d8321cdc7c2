//! Alerts: what the relay itself reports to sinks.
//!
//! Two kinds, with one promise each. An *overdue request* is a row of the spool from before the message that opens it is acknowledged until
//! its end is on disk (`requests`). Every other alert is about a part of the relay, and is evaluated each second (`conditions`). In both cases
//! one transaction stores that the alert is raised or resolved, and its deliveries: a crash neither loses nor repeats an alert.

mod conditions;
mod notice;
mod requests;
mod sources;
mod summary;

pub use summary::{AlertSummary, RaisedSummary};

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;

use super::Stats;
use crate::config::Config;
use crate::delivery::{LogLimiter, SinkQueue};
use crate::event::{AlertStatus, SourceName};
use crate::journal::Journal;
use crate::rules::{Alert, AlertName, Overdue, SinkName};
use crate::spool::Spool;

use conditions::Conditions;

/// How often the relay looks whether an alert is to be raised or resolved.
const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Alerts {
    /// By the current configuration.
    table: ArcSwap<AlertTable>,
    spool: Arc<Spool>,
    journal: Journal,
    stats: Arc<Stats>,
    expression_log: LogLimiter,
    limit_log: LogLimiter,
    blocked_log: LogLimiter,
}

/// The alerts of one configuration, and the sinks that they name.
#[derive(Debug, Default)]
struct AlertTable {
    alerts: Arc<[Alert]>,
    /// Indexed by [`SinkIndex`](crate::rules::SinkIndex).
    sinks: Vec<SinkQueue>,
    watches_requests: bool,
    /// The time limit of each alert in words, in the order of the alerts.
    limits: Vec<Arc<str>>,
    /// The sources of this relay's shard.
    sources: Vec<SourceName>,
}

impl AlertTable {
    fn of(config: &Config, shard: &str) -> Self {
        let own = config.sources.iter().filter(|source| source.shard() == shard);
        let limit = |alert: &Alert| alert.overdue().map(Overdue::limit).unwrap_or_default().into();
        Self {
            limits: config.alerts.iter().map(limit).collect(),
            alerts: Arc::clone(&config.alerts),
            sinks: config.sinks.iter().map(SinkQueue::of).collect(),
            sources: own.map(|source| source.name.clone()).collect(),
            watches_requests: config.alerts.iter().any(|alert| alert.overdue().is_some()),
        }
    }

    /// The alerts that watch requests, each with its time limit in words.
    fn overdue(&self) -> impl Iterator<Item = (&Alert, &Overdue, &Arc<str>)> {
        self.alerts.iter().zip(&self.limits).filter_map(|(alert, limit)| Some((alert, alert.overdue()?, limit)))
    }

    fn alert(&self, name: &AlertName) -> Option<&Alert> {
        self.alerts.iter().find(|alert| alert.name == *name)
    }

    /// The sinks that get RAISED: never the one that it is about.
    fn receivers(&self, alert: &Alert, about: Option<&SinkName>) -> Vec<SinkQueue> {
        let sinks = alert.to.iter().filter_map(|sink| self.sinks.get(sink.0));
        sinks.filter(|queue| Some(&queue.sink) != about).cloned().collect()
    }

    /// The sinks that get RESOLVED: those that got RAISED and are still in the configuration.
    fn remaining(&self, receivers: &[SinkName]) -> Vec<SinkQueue> {
        self.sinks.iter().filter(|queue| receivers.contains(&queue.sink)).cloned().collect()
    }
}

impl Alerts {
    pub(super) fn new(config: &Config, spool: Arc<Spool>, journal: Journal, stats: Arc<Stats>) -> Self {
        Self {
            table: ArcSwap::from_pointee(AlertTable::of(config, spool.shard())),
            spool,
            journal,
            stats,
            expression_log: LogLimiter::default(),
            limit_log: LogLimiter::default(),
            blocked_log: LogLimiter::default(),
        }
    }

    /// Takes effect with the next message.
    pub(super) fn swap(&self, config: &Config) {
        self.table.store(Arc::new(AlertTable::of(config, self.spool.shard())));
    }

    /// Raises and resolves alerts until `stop`, or until the spool is closed.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        stop.run_until_cancelled(self.watch()).await;
    }

    async fn watch(&self) {
        let mut conditions = Conditions::restore(self);
        let mut requests = requests::Watcher::default();
        let mut tick = tokio::time::interval(INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let table = self.table.load_full();
            requests.update(self, &table).await;
            conditions.update(self, &table).await;
        }
    }
}

/// How often each alert was raised and resolved since the start.
#[derive(Debug, Default)]
pub struct AlertCounts(Mutex<BTreeMap<(AlertName, AlertStatus), u64>>);

impl AlertCounts {
    fn count(&self, alert: &AlertName, status: AlertStatus) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry((alert.clone(), status)).or_default() += 1;
    }

    #[must_use]
    pub fn get(&self, alert: &AlertName, status: AlertStatus) -> u64 {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(&(alert.clone(), status)).copied().unwrap_or(0)
    }
}
