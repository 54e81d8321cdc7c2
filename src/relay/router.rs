//! Makes deliveries of each message: message → event → plan → one delivery for each sink of the plan.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwapOption;
use foldhash::HashMap;

use super::alerts::Alerts;
use super::captures::Captures;
use super::{Stats, StatsSnapshot};
use crate::config::{Config, SourceConfig};
use crate::delivery::{Delivery, DispatcherHandle, LogLimiter, Payload};
use crate::event::{DecodeOptions, Event, Message, Reason, SourceName};
use crate::journal::Journal;
use crate::rules::{Rules, SinkName};
use crate::source::{Intake, Receipt};
use crate::spool::{DeadLetter, Spool};

pub(super) struct Router {
    /// None: the relay stops. Messages are dropped, so that the broker redelivers them to the next run.
    table: ArcSwapOption<RoutingTable>,
    spool: Arc<Spool>,
    journal: Journal,
    alerts: Arc<Alerts>,
    stats: Arc<Stats>,
    captures: Arc<Captures>,
    dead_letter_log: LogLimiter,
}

/// Where events go by the current configuration. It is replaced as a whole, between two messages.
pub(super) struct RoutingTable {
    decode_options: HashMap<SourceName, DecodeOptions>,
    rules: Arc<Rules>,
    /// Indexed by [`SinkIndex`](crate::rules::SinkIndex).
    sinks: Vec<SinkName>,
    /// Indexed as the sinks.
    dispatchers: Vec<DispatcherHandle>,
    stats: Arc<StatsSnapshot>,
}

impl RoutingTable {
    /// `dispatchers` are those of the sinks of `config`, in its order.
    pub(super) fn new(config: &Config, dispatchers: Vec<DispatcherHandle>, stats: Arc<StatsSnapshot>) -> Self {
        let options = |source: &SourceConfig| (source.name.clone(), source.decode_options.clone());
        Self {
            decode_options: config.sources.iter().map(options).collect(),
            rules: Arc::clone(&config.rules),
            sinks: config.sinks.iter().map(|sink| sink.name.clone()).collect(),
            dispatchers,
            stats,
        }
    }
}

impl Router {
    pub(super) fn new(
        spool: Arc<Spool>,
        journal: Journal,
        alerts: Arc<Alerts>,
        stats: Arc<Stats>,
        captures: Arc<Captures>,
    ) -> Self {
        let (table, dead_letter_log) = (ArcSwapOption::empty(), LogLimiter::default());
        Self { table, spool, journal, alerts, stats, captures, dead_letter_log }
    }

    /// Takes effect with the next message.
    pub(super) fn swap(&self, table: Option<RoutingTable>) {
        self.table.store(table.map(Arc::new));
    }

    fn log_dead_letter(&self, source: &SourceName, reason: Reason, detail: &str) {
        if let Some(suppressed) = self.dead_letter_log.allow() {
            tracing::warn!(%source, %reason, detail, suppressed, "a message became a dead letter");
        }
    }
}

impl Intake for Router {
    fn accept(&self, message: Message, receipt: Receipt) {
        let table = self.table.load();
        let Some(table) = table.as_ref() else { return };
        let RoutingTable { decode_options, rules, sinks, dispatchers, stats } = &**table;
        let (Some(options), Some(source_stats)) = (decode_options.get(&message.source), stats.source(&message.source))
        else {
            return;
        };
        let received_at = Instant::now();
        source_stats.count_received();
        self.captures.copy(&message);
        let event = match Event::decode(&message, options) {
            Ok(event) => event,
            Err(invalid) => {
                self.log_dead_letter(&message.source, invalid.reason, &invalid.detail);
                self.spool.store_dead_letter(DeadLetter::unreadable(*invalid, Arc::new(message)), receipt);
                return;
            }
        };
        source_stats.count_event(event.kind, &event.tenant, event.status);
        self.alerts.on_event(&event, &message, &receipt);
        let plan = rules.plan(&event, &message);
        let matched = plan.matched.iter().filter_map(|route| rules.routes().get(*route));
        let sinks = plan.deliveries.iter().filter_map(|(sink, _)| sinks.get(sink.0));
        let (matched, sinks) = (matched.map(|route| route.name.as_str()), sinks.map(SinkName::as_str));
        self.journal.record_event(&event, &message, matched, sinks);
        for route in &plan.matched {
            stats.count_route(*route);
        }
        for (route, error) in &plan.failed {
            stats.count_route_error(*route, error);
        }
        if plan.unrouted {
            self.stats.count_unrouted();
        }
        if let Some((reason, detail)) = plan.dead_letter_reason(rules) {
            self.log_dead_letter(&message.source, reason, &detail);
            self.spool.store_dead_letter(DeadLetter::of_event(&event, Arc::new(message), reason, detail), receipt);
            return;
        }
        let payload = Arc::new(Payload::Event { event, message: Arc::new(message) });
        for (sink, route) in &plan.deliveries {
            let Some(dispatcher) = dispatchers.get(sink.0) else { continue };
            let route = route.and_then(|route| rules.routes().get(route)).map(|route| route.name.clone());
            let delivery = Delivery::new(Arc::clone(&payload), route, receipt.share(), received_at);
            // A dispatcher that has ended drops it: its message is abandoned, and the source receives it again.
            let _ = dispatcher.deliveries.send(delivery);
        }
        receipt.settle();
    }
}
