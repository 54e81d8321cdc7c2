//! The metrics. Dashboards and alerts rely on their names and labels.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use strum::VariantArray;

use super::exposition::{CONTENT_TYPE, Exposition, Kind};
use crate::delivery::{AttemptResult, DeliveryResult};
use crate::event::{AlertStatus, Reason};
use crate::relay::{Stats, StatsSnapshot};
use crate::rules::SinkName;
use crate::source::SourceState;
use crate::spool::{BlockReason, DeadLetterCount, SinkUsage};

pub(super) async fn show(State(stats): State<Arc<Stats>>) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text(&stats)).into_response()
}

pub(super) fn text(stats: &Stats) -> String {
    let mut to = Exposition::new("regards_relay_");
    let now = stats.snapshot();
    let block = stats.spool().and_then(|spool| spool.block_reason());
    sources(&mut to, (block, stats.standby().is_some()), &now);
    routes(&mut to, stats, &now);
    sinks(&mut to, &now);
    spool(&mut to, stats, &now);
    dead_letters(&mut to, stats, &now);
    journal(&mut to, stats);
    alerts(&mut to, stats);
    let (succeeded, failed, is_in_force) = stats.reloads();
    let reloads =
        [("success", succeeded), ("failure", failed)].map(|(result, count)| (vec![("result", result)], count));
    to.family("config_reloads_total", Kind::Counter, "Reloads of the configuration, by result", reloads);
    let in_force = [(vec![], u64::from(is_in_force))];
    to.family(
        "config_last_reload_successful",
        Kind::Gauge,
        "1 if the last reload of the configuration succeeded, 0 if the relay still uses an earlier one",
        in_force,
    );
    let dropped = [(vec![], crate::telemetry::dropped_lines())];
    to.family(
        "log_lines_dropped_total",
        Kind::Counter,
        "Log lines dropped because the reader of standard error was too slow",
        dropped,
    );
    let version = [(vec![("version", env!("CARGO_PKG_VERSION"))], 1_u64)];
    to.family("build_info", Kind::Gauge, "Always 1; the label `version` is the version of the relay", version);
    to.finish()
}

fn sources(to: &mut Exposition, (block, is_standby): (Option<BlockReason>, bool), stats: &StatsSnapshot) {
    let by_name = || stats.sources.iter().map(|source| (vec![("source", source.name().as_str())], source));
    to.family(
        "source_up",
        Kind::Gauge,
        "1 if the source consumes its queue",
        by_name().map(|(labels, source)| (labels, u64::from(source.is_consuming()))),
    );
    to.family(
        "source_standby",
        Kind::Gauge,
        "1 if the source stands by because another relay consumes its queue, or has the spool",
        by_name().map(|(labels, source)| (labels, u64::from(is_standby || source.state().0 == SourceState::Standby))),
    );
    let blocked = by_name().flat_map(|(labels, source)| {
        let state = source.state().0;
        let blocks = BlockReason::ALL.map(|one| (one.as_str(), source.is_blocked() && block == Some(one)));
        blocks.into_iter().chain([("paused", state == SourceState::Paused)]).map(move |(reason, is_so)| {
            let mut labels = labels.clone();
            labels.push(("reason", reason));
            (labels, u64::from(is_so))
        })
    });
    to.family("source_blocked", Kind::Gauge, "1 if the source takes no more messages, by reason", blocked);
    to.family(
        "source_last_message_timestamp_seconds",
        Kind::Gauge,
        "Unix time of the last message received; 0 if there was none",
        by_name().map(|(labels, source)| (labels, source.last_message().as_secs_f64())),
    );
    to.family(
        "source_reconnects_total",
        Kind::Counter,
        "Reconnections of the source to its broker",
        by_name().map(|(labels, source)| (labels, source.reconnects())),
    );
    to.family(
        "messages_received_total",
        Kind::Counter,
        "Messages received, including redelivered ones",
        by_name().map(|(labels, source)| (labels, source.received())),
    );
    let counts: Vec<_> =
        stats.sources.iter().map(|source| (source.name().as_str(), source.events().snapshot())).collect();
    let rows = counts.iter().flat_map(|(source, counts)| {
        counts.iter().map(|one| {
            let labels =
                vec![("source", *source), ("type", one.kind), ("tenant", &*one.tenant), ("status", one.status)];
            (labels, one.count)
        })
    });
    to.family("events_total", Kind::Counter, "Messages decoded as events, by type, tenant and status", rows);
}

fn routes(to: &mut Exposition, stats: &Stats, now: &StatsSnapshot) {
    let routes = now.routes.iter().map(|route| (vec![("route", route.name().as_str())], route.events()));
    to.family("route_events_total", Kind::Counter, "Events that matched the route", routes);
    let failed = now.routes.iter().map(|route| (vec![("route", route.name().as_str())], route.errors()));
    to.family("route_errors_total", Kind::Counter, "Events for which the route's `if:` could not be evaluated", failed);
    let unrouted = [(vec![], stats.unrouted())];
    to.family("unrouted_events_total", Kind::Counter, "Events that matched no route", unrouted);
}

fn sinks(to: &mut Exposition, stats: &StatsSnapshot) {
    let by_name = || stats.sinks.iter().map(|sink| (vec![("sink", sink.name().as_str())], sink));
    let with = |labels: &[_], result| labels.iter().copied().chain([("result", result)]).collect::<Vec<_>>();
    let attempts = by_name().flat_map(|(labels, sink)| {
        AttemptResult::VARIANTS.iter().map(move |result| (with(&labels, result.into_str()), sink.attempts(*result)))
    });
    to.family(
        "delivery_attempts_total",
        Kind::Counter,
        "Delivery attempts, by result; one for a digest, whatever the number of its events",
        attempts,
    );
    let results = by_name().flat_map(|(labels, sink)| {
        DeliveryResult::VARIANTS.iter().map(move |result| (with(&labels, result.into_str()), sink.results(*result)))
    });
    to.family(
        "deliveries_total",
        Kind::Counter,
        "Finished deliveries, by result; each is counted once, a digest once for each of its events",
        results,
    );
    to.histograms(
        "delivery_duration_seconds",
        "Time from the receipt of a message to its delivery",
        by_name().map(|(labels, sink)| (labels, sink.duration().sum(), sink.duration().buckets())),
    );
    to.family(
        "deliveries_in_flight",
        Kind::Gauge,
        "Delivery attempts in flight",
        by_name().map(|(labels, sink)| (labels, sink.in_flight())),
    );
    to.family(
        "sink_breaker_open",
        Kind::Gauge,
        "1 if the breaker of the sink is open: the sink gets only probes",
        by_name().map(|(labels, sink)| (labels, u64::from(sink.is_breaker_open()))),
    );
    to.family(
        "sink_paused",
        Kind::Gauge,
        "1 if the sink is paused",
        by_name().map(|(labels, sink)| (labels, u64::from(sink.is_paused()))),
    );
}

fn spool(to: &mut Exposition, stats: &Stats, now: &StatsSnapshot) {
    let shares: BTreeMap<_, _> =
        stats.spool().map(|spool| spool.sink_usage()).unwrap_or_default().into_iter().collect();
    // The sinks of the configuration, then the orphaned ones.
    let mut sinks: Vec<_> = now.sinks.iter().map(|sink| sink.name()).collect();
    sinks.extend(shares.keys().filter(|name| now.sinks.iter().all(|sink| sink.name() != *name)));
    let by_name = |value: fn(&SinkUsage) -> u64| {
        let of = |name: &&SinkName| shares.get(*name).map_or(0, value);
        sinks.iter().map(move |name| (vec![("sink", name.as_str())], of(name))).collect::<Vec<_>>()
    };
    let count = by_name(SinkUsage::count);
    to.family("spool_deliveries", Kind::Gauge, "Spooled deliveries", count);
    let bytes = by_name(SinkUsage::bytes);
    to.family("spool_bytes", Kind::Gauge, "Size of the spooled deliveries in bytes", bytes);
    let limits = sinks.iter().map(|name| (vec![("sink", name.as_str())], stats.spool_limit_bytes));
    to.family("spool_limit_bytes", Kind::Gauge, "Limit of spool_bytes for each sink", limits);
    let oldest = by_name(|share| share.oldest.map_or(0, |oldest| oldest.age().as_secs()));
    to.family(
        "spool_oldest_age_seconds",
        Kind::Gauge,
        "Time since the receipt of the oldest spooled delivery; 0 if there is none",
        oldest,
    );
    let orphans = stats.orphaned_sinks();
    let orphans = sinks.iter().map(|name| {
        let count = orphans.iter().find(|orphan| orphan.name == **name).map_or(0, |orphan| orphan.deliveries);
        (vec![("sink", name.as_str())], count)
    });
    to.family(
        "spool_orphans",
        Kind::Gauge,
        "Spooled deliveries for a sink that is no longer in the configuration",
        orphans,
    );
    let most = [(vec![], stats.spool_max_bytes)];
    to.family("spool_max_bytes", Kind::Gauge, "Limit of spool_bytes for all sinks together", most);
}

fn dead_letters(to: &mut Exposition, stats: &Stats, now: &StatsSnapshot) {
    let mut tallies: BTreeMap<_, _> = configured(now).map(|key| (key, DeadLetterCount::default())).collect();
    if let Some(spool) = stats.spool() {
        tallies.extend(spool.dead_letter_counts().into_iter().map(|(reason, sink, tally)| ((reason, sink), tally)));
    }
    let labelled = || {
        tallies.iter().map(|((reason, sink), tally)| {
            // For Prometheus an empty label is the same as none.
            let sink = sink.as_ref().map_or("", SinkName::as_str);
            (vec![("reason", reason.as_str()), ("sink", sink)], tally)
        })
    };
    to.family(
        "dead_letters_total",
        Kind::Counter,
        "Dead letters stored since the start of the relay, by reason and sink",
        labelled().map(|(labels, tally)| (labels, tally.total)),
    );
    to.family(
        "dead_letters_stored",
        Kind::Gauge,
        "Dead letters stored now, by reason and sink",
        labelled().map(|(labels, tally)| (labels, tally.stored)),
    );
    let bytes = [(vec![], stats.spool().map_or(0, |spool| spool.dead_letter_bytes()))];
    to.family("dead_letters_bytes", Kind::Gauge, "Size of the stored dead letters in bytes", bytes);
    let most = [(vec![], stats.dead_letters_max_bytes)];
    to.family("dead_letters_max_bytes", Kind::Gauge, "Limit of dead_letters_bytes", most);
}

fn journal(to: &mut Exposition, stats: &Stats) {
    let Some(journal) = stats.journal() else { return };
    let mut one = |name, kind, help, value| to.family(name, kind, help, [(vec![], value)]);
    one("journal_records", Kind::Gauge, "Records in the journal: events, and ends of deliveries", journal.records());
    one("journal_bytes", Kind::Gauge, "Size of the journal and its log in bytes", journal.bytes());
    let oldest = journal.oldest().map_or(0, |oldest| u64::try_from(oldest / 1_000).unwrap_or(0));
    one(
        "journal_oldest_timestamp_seconds",
        Kind::Gauge,
        "When the oldest record was written, in seconds since 1970; 0: there is none",
        oldest,
    );
    one(
        "journal_skipped_total",
        Kind::Counter,
        "Records left out, because there was no room for them or the journal could not be written",
        journal.skipped(),
    );
}

fn alerts(to: &mut Exposition, stats: &Stats) {
    let alerts = stats.alerts();
    let by_name = || alerts.iter().map(|alert| (vec![("alert", alert.name.as_str())], alert));
    to.family(
        "alerts_active",
        Kind::Gauge,
        "For how many requests, sinks or sources the alert is raised now",
        by_name().map(|(labels, alert)| (labels, alert.active)),
    );
    let totals = by_name().flat_map(|(labels, alert)| {
        let totals = [(AlertStatus::Raised, alert.raised_total), (AlertStatus::Resolved, alert.resolved_total)];
        totals.map(|(status, total)| {
            (labels.iter().copied().chain([("status", status.as_str())]).collect::<Vec<_>>(), total)
        })
    });
    to.family("alerts_total", Kind::Counter, "Events of the alert since the start of the relay, by status", totals);
    let open = by_name().filter_map(|(labels, alert)| Some((labels, alert.open?)));
    to.family("requests_open", Kind::Gauge, "Requests that the alert watches and that are not overdue", open);
    let losses = stats.spool().map(|spool| spool.request_losses()).unwrap_or_default();
    to.family(
        "requests_unwatched_total",
        Kind::Counter,
        "Requests that no alert watches because the spool has as many as it can watch",
        [(vec![], losses.unwatched)],
    );
    to.family(
        "early_ends_forgotten_total",
        Kind::Counter,
        "Ends of requests that no alert watched, forgotten before 24 h because the spool remembers as many as it can",
        [(vec![], losses.early_ends)],
    );
}

/// Every pair of reason and sink that a dead letter can have with this configuration.
fn configured(stats: &StatsSnapshot) -> impl Iterator<Item = (Reason, Option<SinkName>)> + '_ {
    let sinks = || stats.sinks.iter().map(|sink| Some(sink.name().clone()));
    Reason::ALL.iter().flat_map(move |&reason| {
        let of_sinks = matches!(reason, Reason::Loop | Reason::RenderFailed | Reason::Refused | Reason::GaveUp);
        let without = (!of_sinks).then_some(None);
        let with = of_sinks.then(sinks).into_iter().flatten();
        without.into_iter().chain(with).map(move |sink| (reason, sink))
    })
}
