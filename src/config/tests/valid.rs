//! Valid files, and their configurations.

use std::path::Path;
use std::time::Duration;

use super::{Strictness, options, routes, sink, source, valid, valid_with};
use crate::config::{
    Argument, Config, KafkaTimestamp, OnCorrupt, OrderBy, QueueKind, Responses, Sasl, SinkKind, SourceKind,
    SqliteConfig, StoreConfig, WebhookAuth, WebhookUrl,
};
use crate::event::{Format, Validation};
use crate::rules::{Field, SinkIndex, Unrouted};

#[test]
fn the_example_is_valid() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("routes.yaml");
    let (config, warnings) = Config::load(&path, &options(Strictness::Run, &[])).unwrap();
    assert_eq!(warnings.to_string(), "");
    assert_eq!(config.name, "urn:example:institute");
    assert_eq!((config.sources.len(), config.sinks.len(), config.rules.routes().len()), (1, 4, 4));
}

#[test]
fn missing_keys_have_their_defaults() {
    let config = valid(&source("amqp: { url: amqp://localhost, queue: q }"));
    assert_eq!(config.name, "urn:regards-relay:machine");
    assert_eq!(config.data_dir, Path::new("/data"));
    let file = SqliteConfig { path: "/data/spool.db".into(), on_corrupt: OnCorrupt::Stop };
    assert_eq!(config.spool.store, StoreConfig::Sqlite(file));
    assert_eq!(config.admin.listen.unwrap().to_string(), "127.0.0.1:9464");
    assert_eq!(config.delivery.shutdown_grace, Duration::from_secs(20));
    assert_eq!(config.delivery.max_in_flight_bytes, 64 << 20);
    assert_eq!((config.dead_letters.keep, config.dead_letters.max_size), (None, 2 << 30));
    let options = &config.sources[0].decode_options;
    assert_eq!(
        (options.expects.families()[0].name, options.validation, options.max_body),
        ("lta", Validation::Lenient, 1 << 20)
    );
    assert_eq!(options.tenant, None);
    let SourceKind::Amqp(amqp) = &config.sources[0].kind else { panic!() };
    assert_eq!((amqp.prefetch, amqp.exclusive, amqp.declare.is_none()), (1000, true, true));
    let sink = &config.sinks[0];
    assert_eq!(sink.order_by, OrderBy::CorrelationId);
    assert!(matches!(sink.format, Format::Normalized));
    assert_eq!((sink.retry.initial_backoff, sink.retry.max_backoff), (Duration::from_secs(5), Duration::from_mins(10)));
    assert_eq!((sink.retry.give_up_after, sink.retry.max_attempts), (None, None));
}

#[test]
fn every_setting_of_an_amqp_source_is_decoded() {
    let config = valid(&source(
        "amqp:
  url: [amqp://one.example.org, \"amqp://two.example.org:5673\"]
  vhost: v
  queue: q
  declare:
    queue: { type: classic, arguments: { x-max-priority: 10, x-a: true, x-b: text, x-c: \"5\" } }
    bindings: [{ exchange: e, routing_key: k }, { exchange: f }]
  prefetch: 7
validation: strict
tenant: esa
max_body: 64KiB",
    ));
    let SourceKind::Amqp(amqp) = &config.sources[0].kind else { panic!() };
    let declare = amqp.declare.as_ref().unwrap();
    let queue = declare.queue.as_ref().unwrap();
    assert_eq!(queue.kind, QueueKind::Classic);
    assert_eq!(
        queue.arguments,
        [
            ("x-max-priority".to_owned(), Argument::Integer(10)),
            ("x-a".to_owned(), Argument::Bool(true)),
            ("x-b".to_owned(), Argument::Text("text".to_owned())),
            ("x-c".to_owned(), Argument::Text("5".to_owned())),
        ]
    );
    let bindings: Vec<_> = declare.bindings.iter().map(|to| (to.exchange.as_str(), to.routing_key.as_str())).collect();
    assert_eq!(bindings, [("e", "k"), ("f", "")]);
    assert_eq!((amqp.prefetch, amqp.connection.urls.len()), (7, 2));
    assert_eq!(amqp.connection.vhost.as_deref(), Some("v"));
    let options = &config.sources[0].decode_options;
    assert_eq!((options.validation, options.max_body), (Validation::Strict, 64 << 10));
    assert_eq!(options.tenant.as_deref(), Some("esa"));
}

#[test]
fn a_queue_with_many_priorities_is_a_warning() {
    let text = source(
        "amqp:
  url: amqp://localhost
  queue: q
  declare: { queue: { type: classic, arguments: { x-max-priority: 11 } } }",
    );
    let (_, warnings) = super::parse(&text, Strictness::Run, &[]).unwrap();
    assert!(warnings.to_string().contains("many-priorities"), "{warnings}");
}

#[test]
fn a_quorum_queue_with_a_single_active_consumer_is_not_exclusive() {
    let config = valid(&source(
        "amqp:
  url: amqp://localhost
  queue: q
  declare: { queue: { type: quorum, arguments: { x-single-active-consumer: true } } }",
    ));
    let SourceKind::Amqp(amqp) = &config.sources[0].kind else { panic!() };
    assert!(!amqp.exclusive);
}

#[test]
fn every_setting_of_a_kafka_sink_is_decoded() {
    let config = valid_with(
        &sink(
            "kafka:
  brokers: [one:9092, \"[::1]:9093\", \"two, three:1\"]
  topic: \"regards.{{ tenant }}\"
  key: \"{{ session }}\"
  partitioner: murmur2
  timestamp: event
  options: { compression.type: zstd, linger.ms: 5, batch.size: \"${B}\" }
  sasl: { mechanism: SCRAM-SHA-512, username: me, password: \"${P}\" }
  tls: {}
order_by: session
keep_headers: [\"regards.*\", x]
format: cloudevents
retry: { initial_backoff: 250ms, max_backoff: 1h, give_up_after: 7d, max_attempts: 5, refuse_after: 1 }",
        ),
        &[("P", "p"), ("B", "1000")],
    );
    let sink = &config.sinks[0];
    let SinkKind::Kafka(kafka) = &sink.kind else { panic!() };
    assert_eq!(kafka.brokers, "one:9092,[::1]:9093,two,three:1");
    assert_eq!((kafka.partitioner.as_str(), kafka.timestamp), ("murmur2", KafkaTimestamp::Event));
    let options: Vec<_> = kafka.options.iter().map(|(name, value)| (name.as_str(), value.reveal().unwrap())).collect();
    let expected = [("compression.type", "zstd"), ("linger.ms", "5"), ("batch.size", "1000")];
    assert_eq!(options, expected.map(|(name, value)| (name, value.to_owned())));
    let Some(Sasl::Password { mechanism, password, .. }) = &kafka.sasl else { panic!("no login by password") };
    assert_eq!((*mechanism, password.reveal().unwrap().as_str()), ("SCRAM-SHA-512", "p"));
    assert!(kafka.tls.is_some());
    assert!(matches!(&sink.format, Format::CloudEvents { name } if name == "urn:regards-relay:machine"));
    assert_eq!(sink.order_by, OrderBy::Session);
    assert_eq!(sink.keep_headers.len(), 2);
    assert_eq!((sink.retry.initial_backoff, sink.retry.max_attempts), (Duration::from_millis(250), Some(5)));
    assert_eq!(sink.retry.refuse_after, 1);
}

#[test]
fn every_setting_of_a_webhook_is_decoded() {
    let config = valid_with(
        &sink(
            "webhook:
  url: https://example.org/hooks/{{ tenant }}?a=b
  secret: [\"${S}\", \"whsec_${S}\"]
  headers: { X-Team: \"{{ tenant }}\", Content-Type: text/plain }
  auth: { basic: { username: me, password: \"${P}\" } }
  proxy: http://proxy.example.org:3128
  timeout: 1500ms
  concurrency: 2
  rate: 30/m
  responses: { refuse: 409, retry: [400, 413], pause: [] }
body: \"{{ status }}\"",
        ),
        &[("P", "p"), ("S", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz")],
    );
    let SinkKind::Webhook(webhook) = &config.sinks[0].kind else { panic!() };
    let WebhookUrl::Templated { origin, path } = &webhook.url else { panic!() };
    assert_eq!((origin.as_str(), path.source()), ("https://example.org", "/hooks/{{ tenant }}?a=b"));
    assert_eq!(webhook.secrets.len(), 2);
    let headers: Vec<_> = webhook.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(headers, ["x-team", "content-type"]);
    assert!(matches!(&webhook.auth, Some(WebhookAuth::Basic { .. })));
    assert_eq!((webhook.timeout, webhook.concurrency), (Duration::from_millis(1500), 2));
    let Responses { refuse, retry, pause } = &webhook.responses;
    assert_eq!((&refuse[..], &retry[..], &pause[..]), (&[409][..], &[400, 413][..], &[][..]));
    assert_eq!(config.sinks[0].retry.refuse_after, 3);
    assert!(webhook.rate.is_some_and(|rate| (rate - 0.5).abs() < 1e-9));
    assert!(matches!(&config.sinks[0].format, Format::Body(body) if body.source() == "{{ status }}"));
    assert_eq!(config.sinks[0].retry.give_up_after, Some(Duration::from_hours(7 * 24)));
}

#[test]
fn every_setting_of_the_other_sinks_is_decoded() {
    let config = valid(
        "version: 1
sources: { regards: { amqp: { url: amqp://localhost, queue: q } } }
sinks:
  partner: { amqp: { url: amqp://broker.example.org, exchange: e, declare: { type: topic } } }
  default: { amqp: { url: amqp://broker.example.org, exchange: \"\", routing_key: other }, format: original }
  archive: { file: { path: \"a/{{ tenant }}.ndjson\" } }
  screen: { stdout: {}, order_by: none }
routes: []
unrouted: [partner, default, archive, screen]
admin: { listen: none }
",
    );
    let SinkKind::Amqp(amqp) = &config.sinks[0].kind else { panic!() };
    assert_eq!((amqp.exchange.as_str(), amqp.declare.as_deref()), ("e", Some("topic")));
    assert_eq!(amqp.routing_key.fixed(), Some(""));
    let SinkKind::File(file) = &config.sinks[2].kind else { panic!() };
    assert_eq!((file.dir.as_path(), file.path.source()), (Path::new("/data"), "a/{{ tenant }}.ndjson"));
    assert_eq!(*config.rules.unrouted(), Unrouted::Sinks((0..4).map(SinkIndex).collect()));
    assert_eq!(config.admin.listen, None);
}

#[test]
fn every_setting_of_routes_is_decoded() {
    let config = valid(&routes(
        "- name: one
  when: { tenant: [\"a*\", b], status: ERROR, outcome: failed, type: \"*.lta.*\", source: regards, session: s, productId: p, correlationId: c, not: [{ session: x }, { tenant: aa, not: { status: ERROR } }] }
  to: [b, a]
  final: true
- { name: nobody, when: { tenant: c }, to: [] }",
    ));
    let route = &config.rules.routes()[0];
    assert_eq!((route.name.as_str(), route.is_final), ("one", true));
    assert_eq!(route.to, [SinkIndex(1), SinkIndex(0)]);
    let fields: Vec<_> = route.when.fields.iter().map(|(field, globs)| (*field, globs.len())).collect();
    assert_eq!(
        fields,
        [
            (Field::Tenant, 2),
            (Field::Status, 1),
            (Field::Outcome, 1),
            (Field::Type, 1),
            (Field::Source, 1),
            (Field::Session, 1),
            (Field::ProductId, 1),
            (Field::CorrelationId, 1),
        ]
    );
    assert_eq!((route.when.not.len(), route.when.not[1].not.len()), (2, 1));
    assert_eq!(*config.rules.unrouted(), Unrouted::Drop);
    assert!(config.rules.routes()[1].to.is_empty());
}

#[test]
fn the_schema_has_every_top_level_key_and_no_later_ones() {
    let schema = serde_json::to_value(crate::config::schema()).unwrap();
    let root = schema["properties"].as_object().unwrap();
    for key in ["version", "sources", "sinks", "routes", "unrouted", "spool", "delivery", "admin"] {
        assert!(root.contains_key(key), "{key}");
    }
    assert_eq!(schema["required"], serde_json::json!(["version", "sources", "sinks", "routes", "unrouted"]));
    assert_eq!(schema["additionalProperties"], false);
    assert!(schema["$defs"]["When"]["properties"].get("if").is_some());
}

#[test]
fn the_schema_accepts_null_for_the_same_keys_as_the_check() {
    fn with_null(schema: &serde_json::Value, found: &mut Vec<String>) {
        if let Some(properties) = schema["properties"].as_object() {
            let takes = |value: &serde_json::Value| value.to_string().contains("\"null\"");
            found.extend(properties.iter().filter(|(_, value)| takes(value)).map(|(key, _)| key.clone()));
        }
    }
    let schema = serde_json::to_value(crate::config::schema()).unwrap();
    let mut found = Vec::new();
    with_null(&schema, &mut found);
    schema["$defs"].as_object().unwrap().values().for_each(|schema| with_null(schema, &mut found));
    found.sort_unstable();
    found.dedup();
    // As in `raw.rs`, marked `| null`.
    let nullable =
        ["admin", "alerts", "body", "dead_letters", "delivery", "journal", "options", "retry", "spool", "tenant", "to"]
            .map(str::to_owned);
    assert_eq!(found, nullable);
    let when = &schema["$defs"]["When"]["properties"]["tenant"];
    assert!(!when.to_string().contains("null"), "{when}");
}

#[test]
fn references_are_replaced_in_blocks_and_in_quotes_inside_braces() {
    let config = valid_with(
        &sink(
            "kafka:
  brokers: ${KAFKA_BROKERS:-127.0.0.1:9092}
  topic: \"regards.{{ tenant }}\"
  options: { compression.type: ${C} }
  sasl: { mechanism: SCRAM-SHA-512, username: ${U:-me}, password: ${KAFKA_PASSWORD} }",
        ),
        &[("C", "zstd"), ("KAFKA_PASSWORD", "{p}")],
    );
    let SinkKind::Kafka(kafka) = &config.sinks[0].kind else { panic!() };
    let Some(Sasl::Password { username, password, .. }) = &kafka.sasl else { panic!("no login by password") };
    assert_eq!((username.reveal().unwrap(), password.reveal().unwrap()), ("me".to_owned(), "{p}".to_owned()));
}
