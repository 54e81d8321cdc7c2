//! Tests with librdkafka's mock cluster, which speaks Kafka's protocol and returns the errors that a test asks for.

use std::time::Instant;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Headers, Message as _};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::*;
use crate::config::{KafkaTimestamp, OrderBy, Retry, Sasl, Secret, SinkKind};
use crate::event::{Event, EventView, Format, Message, Reason, Template};
use crate::net::Tls;
use crate::rules::SinkName;
use crate::sink::fixtures::{Attempts, event, message, outgoing};
use crate::sink::{Blame, RenderError, Verdict};

const NOWHERE: &str = "127.0.0.1:1";

fn kafka(brokers: &str, options: &[(&str, &str)]) -> KafkaConfig {
    KafkaConfig {
        brokers: brokers.to_owned(),
        topic: Template::compile("regards.{{ tenant }}").unwrap(),
        key: Template::compile("{{ correlationId }}").unwrap(),
        headers: Vec::new(),
        partitioner: "murmur2_random".to_owned(),
        timestamp: KafkaTimestamp::Event,
        options: options.iter().map(|(name, value)| ((*name).to_owned(), Secret::text(*value))).collect(),
        sasl: None,
        tls: None,
        registry: None,
    }
}

fn rendered(kafka: &KafkaConfig, event: &Event, message: &Message) -> Result<RenderedDelivery, RenderError> {
    render(&config(kafka), kafka, EventView::of(event, message))
}

fn config(kafka: &KafkaConfig) -> SinkConfig {
    SinkConfig {
        name: SinkName::new("pipeline"),
        kind: SinkKind::Kafka(Box::new(kafka.clone())),
        format: Format::Normalized,
        masks: crate::config::Masks::default(),
        files: crate::config::NamedFiles::default(),
        keep_headers: Vec::new(),
        order_by: OrderBy::CorrelationId,
        group: None,
        when_full: crate::config::WhenFull::Block,
        retry: Retry {
            initial_backoff: Duration::ZERO,
            max_backoff: Duration::ZERO,
            give_up_after: None,
            max_attempts: None,
            refuse_after: 3,
        },
    }
}

async fn open(kafka: &KafkaConfig) -> Result<KafkaSink, OpenError> {
    KafkaSink::open(&config(kafka), kafka, "urn:test").await
}

async fn refusal(kafka: &KafkaConfig) -> String {
    open(kafka).await.err().unwrap().to_string()
}

/// A cluster with the topic `t`. It creates other topics if a client asks for that.
fn cluster() -> MockCluster<'static, DefaultProducerContext> {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 1, 1).unwrap();
    cluster
}

fn record(topic: &str, body: &str) -> RenderedDelivery {
    outgoing(
        Destination::Kafka { topic: topic.to_owned(), key: Some("k".to_owned()), timestamp: None, subject: None },
        body,
    )
}

/// Reads a topic with one partition from its beginning.
fn reader(cluster: &MockCluster<'static, DefaultProducerContext>, topic: &str) -> BaseConsumer {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("group.id", "test")
        .create()
        .unwrap();
    let mut partitions = TopicPartitionList::new();
    partitions.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
    consumer.assign(&partitions).unwrap();
    consumer
}

/// The next record. A poll also returns for events that are no record.
fn next(consumer: &BaseConsumer) -> BorrowedMessage<'_> {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        match consumer.poll(Duration::from_secs(1)) {
            Some(found) => return found.unwrap(),
            None => assert!(Instant::now() < deadline, "nothing in the topic"),
        }
    }
}

/// Makes one attempt and returns its verdict.
async fn send(sink: &KafkaSink, attempts: &mut Attempts, outgoing: RenderedDelivery) -> Verdict {
    sink.attempt(&outgoing, attempts.start());
    attempts.ended().await.1
}

#[track_caller]
fn retries(verdict: &Verdict, expected: Blame, words: &str) {
    assert!(
        matches!(verdict, Verdict::Retry { blame, cause, .. } if *blame == expected && cause.contains(words)),
        "{verdict:?}"
    );
}

#[tokio::test]
async fn a_delivered_record_is_in_the_topic_as_rendered() {
    let cluster = cluster();
    let kafka = kafka(&cluster.bootstrap_servers(), &[]);
    let sink = open(&kafka).await.unwrap();
    cluster.create_topic("regards.cnes-a", 1, 1).unwrap();
    let mut received = message();
    received.properties.headers = vec![("traceparent".to_owned(), HeaderValue::Text("00-1-2-01".to_owned()))];
    let outgoing = rendered(&kafka, &event(), &received).unwrap();
    assert_eq!(
        outgoing.destination,
        Destination::Kafka {
            topic: "regards.cnes-a".to_owned(),
            key: Some("c-1".to_owned()),
            timestamp: Some(1_681_461_977_000),
            subject: None,
        }
    );
    assert!(send(&sink, &mut Attempts::new(), outgoing.clone()).await.is_delivered());

    let consumer = reader(&cluster, "regards.cnes-a");
    let found = next(&consumer);
    assert_eq!(found.key(), Some(&b"c-1"[..]));
    assert_eq!(found.payload(), Some(&*outgoing.body));
    assert_eq!(found.timestamp().to_millis(), Some(1_681_461_977_000));
    let headers: Vec<_> =
        found.headers().unwrap().iter().map(|header| (header.key, header.value.unwrap().to_owned())).collect();
    let id = event().id.to_string();
    let expected = [
        ("regards-relay-id", &*id),
        ("regards-relay-type", "fr.cnes.regards.lta.submission.response"),
        ("regards-relay-tenant", "cnes-a"),
        ("regards-relay-status", "ERROR"),
        ("traceparent", "00-1-2-01"),
    ];
    assert_eq!(headers, expected.map(|(name, value)| (name, value.as_bytes().to_owned())));
    sink.close(Duration::ZERO).await;
}

#[tokio::test]
async fn a_null_key_is_null_and_cloudevents_have_their_content_type() {
    let kafka = KafkaConfig {
        key: Template::compile("{{ productId }}").unwrap(),
        timestamp: KafkaTimestamp::Sent,
        ..kafka(NOWHERE, &[])
    };
    let mut config = config(&kafka);
    config.format = Format::CloudEvents { name: "urn:test".to_owned() };
    let outgoing = render(&config, &kafka, EventView::of(&event(), &message())).unwrap();
    assert_eq!(
        outgoing.destination,
        Destination::Kafka { topic: "regards.cnes-a".to_owned(), key: None, timestamp: None, subject: None }
    );
    let header = |name: &str| outgoing.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    assert_eq!(header("content-type"), Some(HeaderValue::Text("application/json".to_owned())));
    assert_eq!(header("ce_id"), Some(HeaderValue::Text(event().id.to_string())));
}

#[test]
fn configured_headers_replace_those_of_the_format_and_received_ones() {
    let template = |name: &str, text: &str| (name.to_owned(), Template::compile(text).unwrap());
    let kafka = KafkaConfig {
        headers: vec![
            template("team", "{{ tenant }}/storage"),
            template("content-type", "application/x-partner"),
            template("ce_source", "urn:partner"),
            template("traceparent", "00-9-9-00"),
        ],
        ..kafka(NOWHERE, &[])
    };
    let mut config = config(&kafka);
    config.format = Format::CloudEvents { name: "urn:test".to_owned() };
    let mut message = message();
    message.properties.headers = vec![("traceparent".to_owned(), HeaderValue::Text("00-1-2-01".to_owned()))];
    let outgoing = render(&config, &kafka, EventView::of(&event(), &message)).unwrap();
    for (name, value) in [
        ("team", "cnes-a/storage"),
        ("content-type", "application/x-partner"),
        ("ce_source", "urn:partner"),
        ("traceparent", "00-9-9-00"),
    ] {
        let found: Vec<_> =
            outgoing.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value).collect();
        assert_eq!(found, [&HeaderValue::Text(value.to_owned())], "{name}");
    }
}

#[test]
fn an_illegal_topic_is_a_render_error() {
    let kafka = KafkaConfig { topic: Template::compile("{{ tenant }}").unwrap(), ..kafka(NOWHERE, &[]) };
    let mut event = event();
    event.tenant = "cnes/a".into();
    let refused = rendered(&kafka, &event, &message()).unwrap_err();
    assert_eq!(refused.reason, Reason::RenderFailed);
    assert!(refused.detail.contains("'/'"), "{refused}");
}

#[tokio::test]
async fn an_unknown_or_forbidden_topic_is_a_failure_of_the_delivery_only() {
    let cluster = cluster();
    cluster.create_topic("good", 1, 1).unwrap();
    cluster.topic_error("unknown", RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
    cluster.topic_error("forbidden", RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED).unwrap();
    let options = [("topic.metadata.propagation.max.ms", "0")];
    let sink = open(&kafka(&cluster.bootstrap_servers(), &options)).await.unwrap();
    let mut attempts = Attempts::new();
    retries(&send(&sink, &mut attempts, record("unknown", "x")).await, Blame::Delivery, "doesn't exist");
    retries(&send(&sink, &mut attempts, record("forbidden", "x")).await, Blame::Delivery, "may not write");
    assert!(send(&sink, &mut attempts, record("good", "x")).await.is_delivered());
    sink.close(Duration::ZERO).await;
}

#[tokio::test]
async fn a_topic_is_created_by_the_cluster_only_where_the_options_ask_for_it() {
    let cluster = cluster();
    let at_once = ("topic.metadata.propagation.max.ms", "0");
    let sink = open(&kafka(&cluster.bootstrap_servers(), &[at_once])).await.unwrap();
    let verdict = send(&sink, &mut Attempts::new(), record("mistyped", "x")).await;
    retries(&verdict, Blame::Delivery, "topic mistyped doesn't exist; create it");
    retries(&verdict, Blame::Delivery, "`options: { allow.auto.create.topics: true }`");
    sink.close(Duration::ZERO).await;

    let sink = open(&kafka(&cluster.bootstrap_servers(), &[("allow.auto.create.topics", "true")])).await.unwrap();
    assert!(send(&sink, &mut Attempts::new(), record("mistyped", "x")).await.is_delivered());
    sink.close(Duration::ZERO).await;
}

#[tokio::test]
async fn a_record_larger_than_the_producers_limit_is_refused() {
    let sink = open(&kafka(NOWHERE, &[("message.max.bytes", "1000")])).await.unwrap();
    let verdict = send(&sink, &mut Attempts::new(), record("t", &"x".repeat(2000))).await;
    assert!(matches!(&verdict, Verdict::Refused { cause } if cause.contains("larger")), "{verdict:?}");
}

#[tokio::test]
async fn a_record_of_a_refused_batch_is_refused_only_if_it_fails_alone() {
    let cluster = cluster();
    let sink = open(&kafka(&cluster.bootstrap_servers(), &[])).await.unwrap();
    let mut attempts = Attempts::new();
    for error in [
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_RECORD,
    ] {
        cluster.request_errors(RDKafkaApiKey::Produce, &[error]);
        assert!(send(&sink, &mut attempts, record("t", "x")).await.is_delivered(), "{error:?}");
        cluster.request_errors(RDKafkaApiKey::Produce, &[error, error]);
        let verdict = send(&sink, &mut attempts, record("t", "x")).await;
        assert!(matches!(verdict, Verdict::Refused { .. }), "{error:?}: {verdict:?}");
    }
    sink.close(Duration::ZERO).await;
}

#[tokio::test]
async fn a_record_that_is_sent_again_keeps_its_timestamp() {
    let cluster = cluster();
    let sink = open(&kafka(&cluster.bootstrap_servers(), &[])).await.unwrap();
    let mut attempts = Attempts::new();
    let time = Some(1_681_461_977_000);
    cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    let destination = Destination::Kafka { topic: "t".to_owned(), key: None, timestamp: time, subject: None };
    assert!(send(&sink, &mut attempts, outgoing(destination, "x")).await.is_delivered());
    assert_eq!(next(&reader(&cluster, "t")).timestamp().to_millis(), time);
    sink.close(Duration::ZERO).await;
}

#[tokio::test]
async fn a_producer_with_a_fatal_error_is_rebuilt() {
    let cluster = cluster();
    let sink = open(&kafka(&cluster.bootstrap_servers(), &[])).await.unwrap();
    let mut attempts = Attempts::new();
    assert!(send(&sink, &mut attempts, record("t", "1")).await.is_delivered());
    // The next record in order is refused as out of order: a fatal error for librdkafka.
    cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER]);
    let verdict = send(&sink, &mut attempts, record("t", "2")).await;
    assert!(matches!(verdict, Verdict::Retry { .. }), "{verdict:?}");
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        match send(&sink, &mut attempts, record("t", "3")).await {
            Verdict::Delivered(_) => break,
            Verdict::Retry { .. } => assert!(Instant::now() < deadline, "it never works again"),
            Verdict::Refused { cause } | Verdict::Unfit { detail: cause } => panic!("{cause}"),
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(attempts.ended_already(), None, "an attempt ended twice");
    sink.close(Duration::ZERO).await;
}

#[tokio::test]
async fn closing_delivers_the_records_in_flight() {
    let cluster = cluster();
    let sink = open(&kafka(&cluster.bootstrap_servers(), &[("linger.ms", "100")])).await.unwrap();
    let mut attempts = Attempts::new();
    // A sink that is not connected by then would cancel its records.
    sink.attempt(&record("t", "connects"), attempts.start());
    assert!(attempts.ended().await.1.is_delivered());
    for _ in 0..1000 {
        sink.attempt(&record("t", "x"), attempts.start());
    }
    sink.close(Duration::from_mins(1)).await;
    for _ in 0..1000 {
        assert!(attempts.ended_already().unwrap().1.is_delivered());
    }
    assert_eq!(attempts.ended_already(), None);
}

#[tokio::test]
async fn closing_cancels_records_that_no_broker_accepted() {
    let sink = open(&kafka(NOWHERE, &[])).await.unwrap();
    let mut attempts = Attempts::new();
    for _ in 0..10 {
        sink.attempt(&record("t", "x"), attempts.start());
    }
    sink.close(Duration::ZERO).await;
    for _ in 0..10 {
        retries(&attempts.ended_already().unwrap().1, Blame::Relay, "cancelled");
    }
    assert_eq!(attempts.ended_already(), None);
}

#[tokio::test]
async fn closing_does_not_wait_for_records_that_can_t_be_sent() {
    let sink = open(&kafka(NOWHERE, &[])).await.unwrap();
    let mut attempts = Attempts::new();
    sink.attempt(&record("t", "x"), attempts.start());
    sink.close(Duration::from_mins(1)).await;
    // It would have timed out after 30 s.
    retries(&attempts.ended_already().unwrap().1, Blame::Relay, "cancelled");
}

#[tokio::test]
async fn unsent_records_are_cancelled_before_the_sink_closes() {
    let sink = open(&kafka(NOWHERE, &[])).await.unwrap();
    let mut attempts = Attempts::new();
    sink.attempt(&record("t", "before"), attempts.start());
    sink.cancel_unsent();
    retries(&attempts.ended().await.1, Blame::Relay, "cancelled");
    sink.attempt(&record("t", "after"), attempts.start());
    retries(&attempts.ended().await.1, Blame::Relay, "cancelled");
    sink.close(Duration::ZERO).await;
}

#[tokio::test]
async fn a_sent_record_is_not_cancelled() {
    let cluster = cluster();
    let sink = open(&kafka(&cluster.bootstrap_servers(), &[])).await.unwrap();
    let mut attempts = Attempts::new();
    assert!(send(&sink, &mut attempts, record("t", "1")).await.is_delivered());
    // Longer than the grace of unsent records.
    cluster.broker_round_trip_time(1, Duration::from_secs(4)).unwrap();
    sink.attempt(&record("t", "2"), attempts.start());
    sink.cancel_unsent();
    assert!(attempts.ended().await.1.is_delivered());
    sink.close(Duration::from_mins(1)).await;
}

#[tokio::test]
async fn dropping_the_sink_cancels_records_that_no_broker_accepted() {
    let sink = open(&kafka(NOWHERE, &[])).await.unwrap();
    let mut attempts = Attempts::new();
    sink.attempt(&record("t", "x"), attempts.start());
    drop(sink);
    retries(&attempts.ended().await.1, Blame::Relay, "cancelled");
}

#[tokio::test]
async fn a_record_is_retried_later_if_the_queue_is_full() {
    let sink = open(&kafka(NOWHERE, &[("queue.buffering.max.messages", "1")])).await.unwrap();
    assert_eq!(sink.capacity(), 1);
    let mut attempts = Attempts::new();
    sink.attempt(&record("t", "x"), attempts.start());
    let verdict = send(&sink, &mut attempts, record("t", "x")).await;
    assert!(matches!(verdict, Verdict::Retry { after: Some(_), blame: Blame::Relay, .. }), "{verdict:?}");
}

#[tokio::test]
async fn producers_with_every_login_and_tls_can_be_built() {
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        for tls in [None, Some(Tls::default())] {
            let sasl = Sasl::Password { mechanism, username: Secret::text("u"), password: Secret::text("p") };
            let kafka = KafkaConfig { sasl: Some(sasl), tls, ..kafka(NOWHERE, &[]) };
            open(&kafka).await.unwrap();
        }
    }
    for codec in ["gzip", "snappy", "lz4", "zstd"] {
        open(&kafka(NOWHERE, &[("compression.type", codec)])).await.unwrap();
    }
}

#[tokio::test]
async fn the_error_of_a_bad_setting_does_not_show_its_value() {
    let refused = refusal(&kafka(NOWHERE, &[("linger.mss", "hunter2")])).await;
    assert_eq!(refused, "sink pipeline: librdkafka has no setting linger.mss: see its CONFIGURATION.md for the names");
    let refused = refusal(&kafka(NOWHERE, &[("compression.type", "hunter2")])).await;
    assert!(refused.contains("compression.type") && !refused.contains("hunter2"), "{refused}");
    let tls = Tls { ca: Some("/nowhere/ca.pem".into()), ..Tls::default() };
    let refused = refusal(&KafkaConfig { tls: Some(tls), ..kafka(NOWHERE, &[]) }).await;
    assert!(refused.contains("ssl.ca.location"), "{refused}");
}
