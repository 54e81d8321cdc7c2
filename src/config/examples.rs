//! One example for each key, shown when its value has the wrong type.

/// Examples by key. If the meaning of a key depends on the key above it, that one is written before it: `routes.name`.
const EXAMPLES: [(&str, &str); 156] = [
    ("version", "version: 1"),
    ("name", "name: urn:example:institute"),
    ("routes.name", "name: everything"),
    ("sources", "sources: { regards: { amqp: { url: \"amqps://HOST\", queue: QUEUE } } }"),
    ("sinks", "sinks: { screen: { stdout: {} } }"),
    ("routes", "routes: [{ name: everything, to: pipeline }]"),
    ("unrouted", "unrouted: dead_letter"),
    ("dead_letters", "dead_letters: { keep: 30d, max_size: 2GiB }"),
    ("alerts", "alerts: [{ name: silent, overdue: { within: 24h }, to: on_call }]"),
    ("alerts.name", "name: granted-and-silent"),
    ("overdue", "overdue: { when: { outcome: accepted }, within: 24h }"),
    ("within", "within: 24h"),
    ("sink_failing", "sink_failing: { for: 5m }"),
    ("source_down", "source_down: { for: 5m }"),
    ("spool_filling", "spool_filling: { above: 80% }"),
    ("alerts.dead_letters", "dead_letters: {}"),
    ("reload_failed", "reload_failed: {}"),
    ("for", "for: 5m"),
    ("more_than", "more_than: 0"),
    ("sink", "sink: [on_call, pipeline]"),
    ("above", "above: 80%"),
    ("spool", "spool: { max_size: 10GiB }"),
    ("postgres", "postgres: { url: postgresql://USER@HOST/DATABASE, password: \"${file:/run/secrets/NAME}\" }"),
    ("postgres.url", "url: postgresql://USER@HOST/DATABASE"),
    ("postgres.schema", "schema: regards_relay"),
    ("lease", "lease: 10s"),
    ("journal", "journal: { keep: 7d }"),
    ("delivery", "delivery: { shutdown_grace: 20s }"),
    ("admin", "admin: { listen: \"127.0.0.1:9464\" }"),
    ("sources.amqp", "amqp: { url: \"amqps://HOST\", queue: QUEUE }"),
    ("amqp", "amqp: { url: \"amqps://HOST\", exchange: EXCHANGE }"),
    ("recording", "recording: { path: samples.ndjson }"),
    ("expects", "expects: lta"),
    ("validation", "validation: lenient"),
    ("sources.tenant", "tenant: esa"),
    ("max_body", "max_body: 1MiB"),
    ("tenants", "tenants: [cnes, esa]"),
    ("url", "url: https://HOST/PATH"),
    ("registry", "registry: { url: https://HOST/apis/ccompat/v7 }"),
    ("registry.url", "url: https://HOST/apis/ccompat/v7"),
    ("subject", "subject: \"{{ topic }}-value\""),
    ("register", "register: false"),
    ("amqp.url", "url: [\"amqps://HOST-1\", \"amqps://HOST-2\"]"),
    ("username", "username: partner"),
    ("password", "password: \"${file:/run/secrets/NAME}\""),
    ("vhost", "vhost: regards.multitenant.manager"),
    ("tls", "tls: { ca: ca.pem }"),
    ("queue", "queue: partner.lta.responses"),
    ("declare.queue", "queue: { type: classic }"),
    ("declare", "declare: { type: topic }"),
    ("sources.declare", "declare: { queue: { type: classic } }"),
    ("prefetch", "prefetch: 1000"),
    ("exclusive", "exclusive: true"),
    ("ca", "ca: ca.pem"),
    ("cert", "cert: client.pem"),
    ("tls.key", "key: client.key"),
    ("server_name", "server_name: broker.example.org"),
    ("shards", "shards: 4"),
    ("bindings", "bindings: [{ exchange: EXCHANGE }]"),
    ("queue.type", "type: classic"),
    ("declare.type", "type: topic"),
    ("arguments", "arguments: { x-single-active-consumer: true }"),
    ("exchange", "exchange: partner.products"),
    ("routing_key", "routing_key: \"{{ tenant }}.{{ status }}\""),
    ("path", "path: \"archive/{{ tenant }}.ndjson\""),
    ("spool.path", "path: spool.db"),
    ("journal.keep", "keep: 7d"),
    ("journal.max_size", "max_size: 1GiB"),
    ("bodies", "bodies: true"),
    ("recording.path", "path: samples.ndjson"),
    ("repeat", "repeat: 1"),
    ("kafka", "kafka: { brokers: \"HOST:9092\", topic: \"regards.{{ tenant }}\" }"),
    ("webhook", "webhook: { url: https://HOST/PATH }"),
    ("file", "file: { path: \"archive/{{ tenant }}.ndjson\" }"),
    ("stdout", "stdout: {}"),
    ("format", "format: normalized"),
    ("avro", "avro: {}"),
    ("json_schema", "json_schema: {}"),
    ("protobuf", "protobuf: {}"),
    ("schema", "schema: event"),
    ("message", "message: demo.Product"),
    ("body", "body: '{\"text\": {{ message | tojson }}}'"),
    ("keep_headers", "keep_headers: [\"regards.*\"]"),
    ("order_by", "order_by: correlationId"),
    ("retry", "retry: { initial_backoff: 5s, max_backoff: 10m }"),
    ("when_full", "when_full: block"),
    ("group", "group: { by: [tenant, status], wait: 30s, max: 100 }"),
    ("by", "by: [tenant, status]"),
    ("wait", "wait: 30s"),
    ("max", "max: 100"),
    ("initial_backoff", "initial_backoff: 5s"),
    ("max_backoff", "max_backoff: 10m"),
    ("give_up_after", "give_up_after: 7d"),
    ("max_attempts", "max_attempts: unlimited"),
    ("refuse_after", "refuse_after: 3"),
    ("brokers", "brokers: [\"HOST-1:9092\", \"HOST-2:9092\"]"),
    ("topic", "topic: \"regards.{{ tenant }}\""),
    ("key", "key: \"{{ correlationId }}\""),
    ("partitioner", "partitioner: murmur2_random"),
    ("timestamp", "timestamp: sent"),
    ("options", "options: { compression.type: zstd }"),
    ("sasl", "sasl: { mechanism: SCRAM-SHA-512, username: partner, password: \"${file:/run/secrets/NAME}\" }"),
    ("mechanism", "mechanism: SCRAM-SHA-512"),
    ("extensions", "extensions: { logicalCluster: lkc-1234 }"),
    ("principal", "principal: relay@EXAMPLE.ORG"),
    ("keytab", "keytab: /etc/regards-relay/relay.keytab"),
    ("service", "service: kafka"),
    ("secret", "secret: \"${file:/run/secrets/NAME}\""),
    ("headers", "headers: { X-Team: ground-segment }"),
    ("amqp.auth", "auth: external"),
    ("auth", "auth: { bearer: \"${file:/run/secrets/NAME}\" }"),
    ("proxy", "proxy: http://HOST:3128"),
    ("timeout", "timeout: 10s"),
    ("concurrency", "concurrency: 8"),
    ("rate", "rate: 50/s"),
    ("responses", "responses: { retry: [422] }"),
    ("deny", "deny: [10.0.0.0/8]"),
    ("refuse", "refuse: [409]"),
    ("responses.retry", "retry: [422]"),
    ("pause", "pause: [410]"),
    ("bearer", "bearer: \"${file:/run/secrets/NAME}\""),
    (
        "oauth2",
        "oauth2: { token_url: https://HOST/PATH, client_id: relay, client_secret: \"${file:/run/secrets/NAME}\" }",
    ),
    ("token_url", "token_url: https://HOST/PATH"),
    ("client_id", "client_id: relay"),
    ("client_secret", "client_secret: \"${file:/run/secrets/NAME}\""),
    ("private_key", "private_key: client.key"),
    ("key_id", "key_id: relay-1"),
    ("scope", "scope: events.write"),
    ("audience", "audience: https://HOST"),
    ("basic", "basic: { username: partner, password: \"${file:/run/secrets/NAME}\" }"),
    ("when", "when: { tenant: esa, outcome: [failed, rejected] }"),
    ("to", "to: pipeline"),
    ("routes.to", "to: [pipeline, archive]"),
    ("final", "final: true"),
    ("transform", "transform: [{ set: { team: storage } }, { remove: session }]"),
    ("set", "set: { team: storage }"),
    ("remove", "remove: [session, expires]"),
    ("rename", "rename: { productId: granuleId }"),
    ("tenant", "tenant: [\"cnes-*\", esa]"),
    ("status", "status: [ERROR, DENIED]"),
    ("outcome", "outcome: [failed, rejected]"),
    ("type", "type: \"fr.cnes.regards.lta.*\""),
    ("source", "source: regards"),
    ("session", "session: \"test-*\""),
    ("productId", "productId: \"S1A*\""),
    ("correlationId", "correlationId: \"batch-*\""),
    ("not", "not: { session: \"test-*\" }"),
    ("if", "if: \"message != null && message.contains('quota')\""),
    ("keep", "keep: forever"),
    ("max_size", "max_size: 10GiB"),
    ("max_share", "max_share: 50%"),
    ("on_corrupt", "on_corrupt: stop"),
    ("spill_after", "spill_after: 2s"),
    ("shutdown_grace", "shutdown_grace: 20s"),
    ("max_in_flight_bytes", "max_in_flight_bytes: 64MiB"),
    ("listen", "listen: \"127.0.0.1:9464\""),
];

/// The example for the last of these nested keys.
pub(super) fn of(keys: &[&str]) -> Option<&'static str> {
    let (key, above) = keys.split_last()?;
    let above = above.iter().rev().map(|above| format!("{above}.{key}"));
    let find = |name: &str| EXAMPLES.iter().find(|(known, _)| *known == name).map(|(_, example)| *example);
    above.into_iter().find_map(|name| find(&name)).or_else(|| find(key))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::text::{tree::Kind, yaml};

    fn keys(schema: &serde_json::Value, found: &mut BTreeSet<String>) {
        match schema {
            serde_json::Value::Object(members) => {
                if let Some(serde_json::Value::Object(properties)) = members.get("properties") {
                    found.extend(properties.keys().cloned());
                }
                members.values().for_each(|value| keys(value, found));
            }
            serde_json::Value::Array(items) => items.iter().for_each(|item| keys(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_key_has_an_example_in_yaml() {
        let mut all = BTreeSet::new();
        keys(crate::config::schema().as_value(), &mut all);
        assert!(all.len() > 80, "{all:?}");
        let without: Vec<_> = all.iter().filter(|key| of(&[key.as_str()]).is_none()).collect();
        assert!(without.is_empty(), "{without:?}");
        for (name, example) in EXAMPLES {
            let key = name.rsplit('.').next().unwrap();
            assert!(all.contains(key), "{name}");
            let tree = yaml::read(example, "").unwrap();
            let Kind::Mapping(entries) = &tree.kind else { panic!("{example}") };
            assert_eq!(entries.iter().map(|(key, _)| key.text.as_str()).collect::<Vec<_>>(), [key], "{example}");
        }
    }
}
