//! The cases of the benchmark.

use super::receiver::Mood;
use super::store::Store;

pub const TENANTS: usize = 10;
/// The statuses of the load: how many of twenty events have each.
pub const STATUSES: [(&str, usize); 4] = [("GRANTED", 9), ("SUCCESS", 8), ("ERROR", 2), ("DENIED", 1)];

/// A way of all events into Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Case {
    /// No relay: a lapin consumer and an rdkafka producer.
    Baseline,
    /// One Kafka sink.
    One,
    /// The same without a journal.
    WithoutJournal,
    /// One Kafka sink, and an alert that watches the request of every event: each GRANTED opens one, and another event ends it.
    WithAlert,
    /// The same, and the spool, with the open requests, in PostgreSQL.
    AlertPostgres,
    /// One Kafka sink with events in Avro.
    Avro,
    /// One Kafka sink, and the spool in PostgreSQL.
    WithPostgres,
    /// Topics per tenant and status, and an AMQP sink for a fifth of the events.
    WithoutWebhook,
    /// The same, and a webhook for a tenth of the events.
    Routed,
    /// The same; nothing listens at the webhook's address.
    Dead,
    /// The same; the webhook accepts requests and never answers.
    Silent,
    /// The same; the webhook needs 1.9 s for each request.
    Slow,
    /// One sink and a hundred routes, one for each tenant.
    HundredRoutes,
    /// The same with ten thousand routes.
    TenThousandRoutes,
}

impl Case {
    pub const ALL: [Self; 14] = [
        Self::Baseline,
        Self::One,
        Self::WithoutJournal,
        Self::WithAlert,
        Self::AlertPostgres,
        Self::Avro,
        Self::WithPostgres,
        Self::WithoutWebhook,
        Self::Routed,
        Self::Dead,
        Self::Silent,
        Self::Slow,
        Self::HundredRoutes,
        Self::TenThousandRoutes,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::One => "one",
            Self::WithoutJournal => "without-journal",
            Self::WithAlert => "with-alert",
            Self::AlertPostgres => "alert-postgres",
            Self::Avro => "avro",
            Self::WithPostgres => "with-postgres",
            Self::WithoutWebhook => "without-webhook",
            Self::Routed => "routed",
            Self::Dead => "dead",
            Self::Silent => "silent",
            Self::Slow => "slow",
            Self::HundredRoutes => "100-routes",
            Self::TenThousandRoutes => "10000-routes",
        }
    }

    /// The case that it is compared with.
    pub const fn base(self) -> Self {
        match self {
            Self::Baseline | Self::One | Self::WithoutWebhook | Self::Routed => Self::Baseline,
            Self::Dead | Self::Silent | Self::Slow => Self::Routed,
            Self::AlertPostgres => Self::WithAlert,
            Self::WithoutJournal
            | Self::WithAlert
            | Self::Avro
            | Self::WithPostgres
            | Self::HundredRoutes
            | Self::TenThousandRoutes => Self::One,
        }
    }

    pub const fn mood(self) -> Mood {
        match self {
            Self::Dead => Mood::Dead,
            Self::Silent => Mood::Silent,
            Self::Slow => Mood::Slow,
            _ => Mood::Well,
        }
    }

    pub fn store(self) -> Store {
        if matches!(self, Self::WithPostgres | Self::AlertPostgres) { Store::Postgres } else { Store::Sqlite }
    }

    pub const fn is_routed(self) -> bool {
        matches!(self, Self::WithoutWebhook | Self::Routed | Self::Dead | Self::Silent | Self::Slow)
    }

    /// Whether the events come in pairs, a GRANTED and the end of its request.
    pub fn is_paired(self) -> bool {
        matches!(self, Self::WithAlert | Self::AlertPostgres)
    }

    /// The topics of the events; `stem` is the beginning of their names.
    pub fn topics(self, stem: &str) -> Vec<String> {
        if !self.is_routed() {
            return vec![stem.to_owned()];
        }
        let of = |tenant| STATUSES.map(|(status, _)| format!("{stem}.tenant-{tenant}.{status}"));
        (0..TENANTS).flat_map(of).collect()
    }

    /// The configuration of the relay.
    pub fn configuration(self) -> String {
        let routes = match self {
            Self::Baseline => unreachable!("the baseline has no configuration"),
            Self::One
            | Self::WithoutJournal
            | Self::WithAlert
            | Self::AlertPostgres
            | Self::Avro
            | Self::WithPostgres => ALL.to_owned(),
            Self::HundredRoutes => routes_of_tenants(100),
            Self::TenThousandRoutes => routes_of_tenants(10_000),
            Self::WithoutWebhook => format!("{ALL}{SOME}"),
            Self::Routed | Self::Dead | Self::Silent | Self::Slow => format!("{ALL}{SOME}{FAILURES}"),
        };
        let topic = if self.is_routed() { "${STEM}.{{ tenant }}.{{ status }}" } else { "${STEM}" };
        let format = if self == Self::Avro { ", format: { avro: {} }" } else { "" };
        let mut sinks = format!("  pipeline: {{ kafka: {{ brokers: \"${{KAFKA}}\", topic: \"{topic}\" }}{format} }}\n");
        if self.is_routed() {
            sinks.push_str(
                "  partner: { amqp: { url: \"${PARTNER}\", exchange: products, routing_key: \"{{ tenant }}\" } }\n",
            );
        }
        if routes.contains(FAILURES) {
            sinks.push_str("  on_call: { webhook: { url: \"${HOOK}\" } }\n");
        }
        let more = match self {
            Self::WithoutJournal => "journal: none\n".to_owned(),
            Self::WithAlert => ALERT.to_owned(),
            Self::WithPostgres => Store::Postgres.configuration(""),
            Self::AlertPostgres => format!("{ALERT}{}", Store::Postgres.configuration("")),
            _ => String::new(),
        };
        format!(
            "version: 1\nsources: {{ regards: {{ amqp: {{ url: \"${{REGARDS}}\", queue: \"${{QUEUE}}\" }}, expects: lta }} }}\n\
             sinks:\n{sinks}routes:\n{routes}unrouted: dead_letter\n{more}"
        )
    }
}

const ALL: &str = "  - { name: all, to: pipeline }\n";
const SOME: &str = "  - { name: partners, when: { tenant: [tenant-0, tenant-1] }, to: partner }\n";
const ALERT: &str = "alerts: [{ name: silent, overdue: { within: 24h }, to: pipeline }]\n";
const FAILURES: &str = "  - { name: failures, when: { status: ERROR }, to: on_call }\n";

fn routes_of_tenants(count: usize) -> String {
    let route =
        |number| format!("  - {{ name: tenant-{number}, when: {{ tenant: tenant-{number} }}, to: pipeline }}\n");
    (0..count).map(route).collect()
}
