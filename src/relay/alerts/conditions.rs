//! Alerts about a part of the relay: a sink, a source, the spool, the dead letters, the configuration.
//!
//! Each is evaluated again and again by the statistics that metrics show, too. A raised alert is stored in the spool: after a restart the
//! relay goes on from there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::notice::Occurrence;
use super::{AlertTable, Alerts};
use crate::clock::WallTime;
use crate::delivery::{DeliveryResult, SinkStats};
use crate::event::{AlertStatus, SourceName};
use crate::relay::{Stats, StatsSnapshot};
use crate::rules::{Alert, AlertName, Glob, SinkName, Trigger, in_words};
use crate::source::{SourceState, SourceStats};
use crate::spool::{SinkUsage, Spool};

/// A used share has to fall so much below its limit, in percent of the whole, before the alert is resolved.
const HYSTERESIS: u64 = 5;

/// A raised alert as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct RaisedAlert {
    /// Milliseconds since 1970.
    pub(super) since: i64,
    /// The sentence of the event.
    pub(super) message: String,
    /// The key of its condition: an alert of the same name may have another one after a reload.
    condition: String,
    /// The sinks that got RAISED.
    receivers: Vec<String>,
    details: Map<String, Value>,
}

impl RaisedAlert {
    /// None: a form that only a later version knows.
    pub(super) fn parse(state: &str) -> Option<Self> {
        serde_json::from_str(state).ok()
    }
}

#[derive(Debug, Default)]
struct Finding {
    /// For how long the condition has held.
    lasted: Duration,
    /// For how long it has to hold.
    after: Duration,
    message: String,
    /// The sink that it is about, which doesn't get it.
    sink: Option<SinkName>,
    details: Map<String, Value>,
}

type Key = (AlertName, String);

pub(super) struct Conditions {
    raised: BTreeMap<Key, RaisedAlert>,
}

impl Conditions {
    /// As an earlier run left them.
    pub(super) fn restore(alerts: &Alerts) -> Self {
        let stored = alerts.spool.raised_alerts().into_iter();
        let raised = stored.filter_map(|(alert, subject, state)| Some(((alert, subject), RaisedAlert::parse(&state)?)));
        Self { raised: raised.collect() }
    }

    /// Raises the alerts whose condition holds by now, and resolves those whose condition no longer does.
    pub(super) async fn update(&mut self, alerts: &Alerts, table: &AlertTable) {
        let stats = &alerts.stats;
        let view = StatsView {
            stats,
            snapshot: stats.snapshot(),
            sources: &table.sources,
            spool: &alerts.spool,
            raised: &self.raised,
        };
        let mut found = BTreeMap::new();
        for alert in table.alerts.iter() {
            let findings = view.evaluate(alert).into_iter();
            found.extend(findings.map(|(subject, finding)| ((alert.name.clone(), subject), finding)));
        }
        let over: Vec<_> = self.raised.keys().filter(|key| !found.contains_key(key)).cloned().collect();
        for key in over {
            self.resolve(alerts, table, key).await;
        }
        for (key, finding) in found {
            if finding.lasted >= finding.after && !self.raised.contains_key(&key) {
                self.raise(alerts, table, key, finding).await;
            }
        }
    }

    async fn raise(&mut self, alerts: &Alerts, table: &AlertTable, (name, subject): Key, finding: Finding) {
        let Some(alert) = table.alert(&name) else { return };
        let Finding { lasted, message, sink, details, .. } = finding;
        let since = WallTime::now().before(lasted);
        let receivers = table.receivers(alert, sink.as_ref());
        let raised = RaisedAlert {
            since: since.0,
            message: message.clone(),
            condition: alert.trigger.as_str().to_owned(),
            receivers: receivers.iter().map(|queue| queue.sink.to_string()).collect(),
            details: details.clone(),
        };
        let occurrence = Occurrence { alert: name.clone(), subject: subject.clone(), since, request: None, details };
        let prepared = occurrence.prepare(AlertStatus::Raised, message.clone(), receivers);
        let state = serde_json::to_string(&raised).ok();
        match alerts.spool.save_alert(name.clone(), subject.clone(), state, prepared.deliveries()).await {
            Ok(()) => {
                tracing::warn!(alert = %name, "alert raised: {message}");
                prepared.on_stored(alerts);
                self.raised.insert((name, subject), raised);
            }
            Err(problem) => log_unstored(alerts, &name, &problem),
        }
    }

    async fn resolve(&mut self, alerts: &Alerts, table: &AlertTable, key: Key) {
        let Some(raised) = self.raised.get(&key).cloned() else { return };
        let (name, subject) = key.clone();
        let RaisedAlert { since, condition, receivers, details, .. } = raised;
        let receivers: Vec<_> = receivers.iter().map(|sink| SinkName::new(sink)).collect();
        let receivers = table.remaining(&receivers);
        let alert = table.alert(&name).filter(|alert| alert.trigger.as_str() == condition);
        let message = match alert {
            Some(alert) => over(alert, &subject),
            None => format!("the alert {name} is no longer in the configuration"),
        };
        let occurrence = Occurrence { alert: name.clone(), subject, since: WallTime(since), request: None, details };
        let prepared = occurrence.prepare(AlertStatus::Resolved, message.clone(), receivers);
        match alerts.spool.save_alert(name.clone(), key.1.clone(), None, prepared.deliveries()).await {
            Ok(()) => {
                tracing::info!(alert = %name, "alert resolved: {message}");
                prepared.on_stored(alerts);
                self.raised.remove(&key);
            }
            Err(problem) => log_unstored(alerts, &name, &problem),
        }
    }
}

fn log_unstored(alerts: &Alerts, alert: &AlertName, error: &str) {
    if let Some(suppressed) = alerts.blocked_log.allow() {
        tracing::warn!(%alert, error, suppressed, "an alert could not be stored; the relay tries again each second");
    }
}

/// That the condition no longer holds, in a sentence.
fn over(alert: &Alert, subject: &str) -> String {
    match &alert.trigger {
        Trigger::SinkFailing { .. } => format!("{subject} delivers again, or the alert no longer watches it"),
        Trigger::SourceDown { .. } => format!("{subject} consumes again, or the alert no longer watches it"),
        Trigger::SpoolFilling { above } => format!("{subject} uses less than {above}% of its share of the spool"),
        Trigger::DeadLetters { more_than: 0 } => "no dead letters are stored any more".to_owned(),
        Trigger::DeadLetters { more_than } => format!("no more than {more_than} dead letters are stored any more"),
        Trigger::ReloadFailed | Trigger::Overdue(_) => "the configuration was reloaded".to_owned(),
    }
}

struct StatsView<'a> {
    stats: &'a Stats,
    snapshot: Arc<StatsSnapshot>,
    /// Those of the shard.
    sources: &'a [SourceName],
    spool: &'a Spool,
    raised: &'a BTreeMap<Key, RaisedAlert>,
}

impl StatsView<'_> {
    /// What the alert found, by subject.
    fn evaluate(&self, alert: &Alert) -> Vec<(String, Finding)> {
        match &alert.trigger {
            Trigger::Overdue(_) => Vec::new(),
            Trigger::SinkFailing { .. } | Trigger::ReloadFailed if !self.stats.is_first(self.spool) => Vec::new(),
            Trigger::SinkFailing { sinks, after } => self.failing_sinks(alert, sinks, *after),
            Trigger::SourceDown { sources, after } => self.down_sources(sources, *after),
            Trigger::SpoolFilling { above } => self.full_shares(alert, (*above).into()),
            Trigger::DeadLetters { more_than } => self.dead_letters(*more_than),
            Trigger::ReloadFailed => self.failed_reload(),
        }
    }

    /// What an alert is about, of this shard.
    fn in_shard(&self, subject: String) -> String {
        let shard = self.spool.shard();
        if shard.is_empty() { subject } else { format!("{subject}, of what comes from {shard},") }
    }

    fn is_raised(&self, alert: &Alert, subject: &str) -> bool {
        self.raised.contains_key(&(alert.name.clone(), subject.to_owned()))
    }

    fn failing_sinks(&self, alert: &Alert, sinks: &[Glob], after: Duration) -> Vec<(String, Finding)> {
        let matching = self.snapshot.sinks.iter().filter(|sink| matches(sinks, sink.name().as_str()));
        let finding = |sink: &Arc<SinkStats>| {
            let (name, subject) = (sink.name(), format!("sink {}", sink.name()));
            let (lasted, error) = match sink.outage() {
                Some(outage) => (outage.since.elapsed(), outage.error),
                // An earlier run raised it, and nothing has shown yet that the sink delivers again.
                None if self.is_raised(alert, &subject) && self.is_unknown(sink) => (Duration::ZERO, String::new()),
                None => return None,
            };
            let message = format!("deliveries to sink {name} have failed for {}: {error}", in_words(after));
            let details = details([("sink", name.as_str().into()), ("error", error.into())]);
            Some((subject, Finding { lasted, after, message, sink: Some(name.clone()), details }))
        };
        matching.filter_map(finding).collect()
    }

    /// Deliveries wait for the sink, and none has succeeded since the start.
    fn is_unknown(&self, sink: &SinkStats) -> bool {
        let usage = self.spool.sink_usage();
        let waits = usage.iter().any(|(name, usage)| name == sink.name() && usage.count() > 0);
        waits && sink.results(DeliveryResult::Delivered) == 0
    }

    fn down_sources(&self, sources: &[Glob], after: Duration) -> Vec<(String, Finding)> {
        let own = self.sources.iter().filter_map(|source| self.snapshot.source(source));
        let matching = own.filter(|source| matches(sources, source.name().as_str()));
        let finding = |source: &Arc<SourceStats>| {
            let (SourceState::Down, reason) = source.state() else { return None };
            let (name, reason) = (source.name(), reason.unwrap_or_default());
            let lasted = source.down_since().map(|since| since.elapsed()).unwrap_or_default();
            let message = format!("source {name} has not consumed for {}: it {reason}", in_words(after));
            let details = details([("source", name.as_str().into()), ("error", reason.into())]);
            Some((format!("source {name}"), Finding { lasted, after, message, sink: None, details }))
        };
        matching.filter_map(finding).collect()
    }

    fn full_shares(&self, alert: &Alert, above: u64) -> Vec<(String, Finding)> {
        let usage = self.spool.sink_usage();
        let all = usage.iter().map(|(_, usage)| usage.bytes()).sum();
        let (most, most_of_sink) = self.spool.limits();
        let of_all = (self.in_shard("the spool".to_owned()), None, all, most);
        let of_sink = |(name, usage): &(SinkName, SinkUsage)| {
            (self.in_shard(format!("sink {name}")), Some(name.clone()), usage.bytes(), most_of_sink)
        };
        let shares = std::iter::once(of_all).chain(usage.iter().map(of_sink));
        let finding = |(subject, sink, bytes, limit): (String, Option<SinkName>, u64, u64)| {
            let hysteresis = if self.is_raised(alert, &subject) { HYSTERESIS } else { 0 };
            // Compared as products: a limit may be small.
            let is_above = u128::from(bytes) * 100 > u128::from(limit) * u128::from(above.saturating_sub(hysteresis));
            if !is_above {
                return None;
            }
            let percent = u128::from(bytes) * 100 / u128::from(limit.max(1));
            let whole = if sink.is_some() { "its share of the spool" } else { "what it may" };
            let message = format!("{subject} uses {percent}% of {whole}: {bytes} of {limit} bytes");
            let name = sink.as_ref().map_or(Value::Null, |sink| sink.as_str().into());
            let details = details([("sink", name), ("bytes", bytes.into()), ("maxBytes", limit.into())]);
            Some((subject, Finding { message, sink, details, ..Finding::default() }))
        };
        shares.filter_map(finding).collect()
    }

    fn dead_letters(&self, more_than: u64) -> Vec<(String, Finding)> {
        let count: u64 = self.spool.dead_letter_counts().iter().map(|(_, _, count)| count.stored).sum();
        if count <= more_than {
            return Vec::new();
        }
        let letters = if count == 1 { "1 dead letter is".to_owned() } else { format!("{count} dead letters are") };
        let message = format!("{letters} stored; `regards-relay dead-letters list` shows them");
        let finding = Finding { message, details: details([("count", count.into())]), ..Finding::default() };
        vec![(self.in_shard("dead letters".to_owned()), finding)]
    }

    fn failed_reload(&self) -> Vec<(String, Finding)> {
        let (_, _, succeeded) = self.stats.reloads();
        if succeeded {
            return Vec::new();
        }
        let message =
            "the last reload of the configuration failed, and the relay still uses the earlier one; the log says why";
        vec![("configuration".to_owned(), Finding { message: message.to_owned(), ..Finding::default() })]
    }
}

fn matches(globs: &[Glob], name: &str) -> bool {
    globs.iter().any(|glob| glob.matches(name))
}

fn details<const N: usize>(details: [(&str, Value); N]) -> Map<String, Value> {
    details.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
