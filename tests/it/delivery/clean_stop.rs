//! A clean stop under full load with healthy sinks: no event is lost and none is repeated.

use std::time::Duration;

use lapin::ExchangeKind;
use lapin::types::FieldTable;
use serde_json::Value;

use crate::configuration::Edit;
use crate::support::arrived::assert_each_once;
use crate::support::kafka::Record;
use crate::support::rabbit::AmqpMessage;
use crate::support::response::lives;
use crate::support::webhook::Posted;
use crate::support::{Answer, Home, Kafka, Rabbit, Receiver, Regards, lines_of, until, with_webhook};

const ROUTES: &str = configuration! {
    sinks: {
        pipeline: r#"{ kafka: { brokers: "${KAFKA}", topic: "${TOPIC}" } }"#,
        hook: r#"{ webhook: { url: "${HOOK}", concurrency: 16 } }"#,
        partner: r#"{ amqp: { url: "${PARTNER}", exchange: partner.products, routing_key: "{{ status }}" } }"#,
        archive: "{ file: { path: archive.ndjson } }",
    },
};

#[tokio::test]
async fn sigterm_in_full_flight_loses_and_repeats_nothing() {
    let regards = Regards::new().await;
    regards.use_cheap_queue().await;
    let partner = Rabbit::shared().new_vhost().await;
    partner.exchange("partner.products", ExchangeKind::Topic).await;
    partner.queue("products", FieldTable::default()).await;
    partner.bind("products", "partner.products", "#").await;
    let products = partner.collect("products").await;
    let receiver = Receiver::start().await;
    receiver.answers(|_| Answer::After(Duration::from_millis(5), 204));
    let mut topic = Kafka::shared().topic("stop", 3).await;
    let home = Home::of(&regards, ROUTES)
        .with_kafka()
        .with("TOPIC", topic.topic())
        .with("HOOK", &receiver.url())
        .with("PARTNER", &partner.admin_url());

    let published = lives("t", "stop", 2_000);
    regards.publish_all(&published).await;
    for least in [300, 1_500] {
        let relay = home.start_ready().await;
        receiver.wait_for_accepted(least).await;
        relay.stop().await;
        let left = u64::from(regards.vhost.left_in(&regards.queue).await) + home.waiting("hook");
        assert!(left > 0, "it was to be stopped in full flight");
    }
    let relay = home.start_ready().await;
    receiver.wait_for_accepted(published.len()).await;
    topic.wait_for(published.len()).await;
    products.wait_for(published.len()).await;
    home.wait_for_lines("archive.ndjson", published.len()).await;
    relay.stop().await;

    let in_kafka: Vec<Value> = topic.all().await.iter().map(Record::json).collect();
    assert_each_once("Kafka", &in_kafka, published.len());
    let posted: Vec<Value> = receiver.posted().iter().map(Posted::json).collect();
    assert_each_once("the webhook", &posted, published.len());
    let messages: Vec<Value> = products.all().iter().map(AmqpMessage::json).collect();
    assert_each_once("the exchange", &messages, published.len());
    assert_each_once("the file", &lines_of(home.data("archive.ndjson")), published.len());
    regards.assert_left_as_found().await;
}

/// At a stop the relay does not wait for deliveries to an unreachable broker: they would fail only after 30 s.
#[tokio::test]
async fn a_stop_does_not_wait_for_a_kafka_that_is_away() {
    let regards = Regards::new().await;
    let routes = configuration! {
        sinks: { away: r#"{ kafka: { brokers: "127.0.0.1:1", topic: t } }"# },
        "delivery: { spill_after: 60s, shutdown_grace: 100s }",
    };
    let home = Home::of(&regards, routes);
    let relay = home.start_ready().await;
    let published = lives("t", "away", 50);
    regards.publish_all(&published).await;
    relay.wait_for_metric("deliveries_in_flight", &[("sink", "away")], 1.0).await;
    relay.stop().await;
    let left = u64::from(regards.vhost.left_in(&regards.queue).await);
    let waiting = home.spool();
    assert_eq!(home.waiting("away") + left, published.len() as u64, "{waiting:?}");
    let says_why = waiting[0].to_string().contains("cancelled before it was sent");
    assert!(says_why, "{waiting:?}");
}

/// At a stop the failed deliveries stay in the spool, and the successful ones are not repeated.
#[tokio::test]
async fn sigterm_repeats_nothing_although_some_deliveries_keep_failing() {
    let (regards, receiver, home) = with_webhook(configuration! {
        sinks: { hook: r#"{ webhook: { url: "${HOOK}" }, retry: { initial_backoff: 100ms, max_backoff: 1s } }"# },
        "delivery: { shutdown_grace: 1s }",
    })
    .await;
    let fails = |request: &Posted| request.json()["correlationId"].as_str().is_some_and(|id| id.ends_with('5'));
    receiver.answers(move |request| Answer::Status(if fails(request) { 404 } else { 204 }));
    let published = lives("t", "stop", 50);
    regards.publish_all(&published).await;
    let relay = home.start_ready().await;
    receiver.wait_for_accepted(90).await;
    relay.stop().await;
    // The backlog has each failed GRANTED and the SUCCESS behind it.
    assert_eq!(home.waiting("hook"), 10);
    assert_eq!(regards.vhost.left_in(&regards.queue).await, 0);

    receiver.answers(|_| Answer::Status(204));
    let relay = home.start_ready().await;
    receiver.wait_for_accepted(published.len()).await;
    relay.stop().await;
    let accepted: Vec<Value> = receiver.accepted().iter().map(Posted::json).collect();
    assert_each_once("the webhook", &accepted, published.len());
    regards.assert_left_as_found().await;
}

/// A sink that has started attempts its spooled deliveries while the sinks after it still start.
#[tokio::test]
async fn sigterm_during_a_start_repeats_nothing() {
    let mut routes = configuration! {
        sinks: { hook: r#"{ webhook: { url: "${HOOK}", concurrency: 2 } }"#, last: "{ file: { path: last.ndjson } }" },
    }
    .to_owned();
    for number in 0..300 {
        let sink = format!("  other-{number}: {{ file: {{ path: other-{number}.ndjson }} }}\n  last:");
        routes = routes.edit("  last:", &sink);
    }
    let (regards, receiver, home) = with_webhook(&routes).await;
    let published = lives("t", "start", 20);
    let relay = home.start_ready().await;
    home.does(&["pause", "--sink", "hook"]);
    regards.publish_all(&published).await;
    home.wait_for_lines("last.ndjson", published.len()).await;
    relay.stop().await;
    assert_eq!(home.waiting("hook"), published.len() as u64);
    home.does(&["resume", "--sink", "hook"]);

    while home.waiting("hook") > 0 {
        let posted = receiver.posted().len();
        assert!(posted < published.len(), "the last start repeated a delivery");
        receiver.hold();
        let relay = home.start();
        receiver.wait_for_posted(posted + 1).await;
        relay.signal("TERM");
        receiver.release();
        assert_eq!(relay.ended().await.code(), Some(0));
    }
    let posted: Vec<Value> = receiver.posted().iter().map(Posted::json).collect();
    assert_each_once("the webhook", &posted, published.len());
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let (regards, receiver, home) = with_webhook(configuration! {
        sinks: { hook: r#"{ webhook: { url: "${HOOK}", timeout: 50s } }"# },
        "delivery: { shutdown_grace: 50s }",
    })
    .await;
    receiver.hold();
    let mut relay = home.start_ready().await;
    regards.publish(&lives("t", "held", 1)[0]).await;
    receiver.wait_for_posted(1).await;
    relay.signal("TERM");
    until("/readyz to say that it stops", async || match relay.page("/readyz").await? {
        (503, _) => Ok(()),
        (status, text) => Err(format!("{status} {text}")),
    })
    .await;
    // Supervisors can send several signals in quick succession: the relay treats them as one.
    let status = until("the relay to end", async || {
        relay.signal("TERM");
        if relay.runs() { Err("it runs".to_owned()) } else { Ok(()) }
    });
    status.await;
    assert_eq!(relay.ended().await.code(), Some(1), "it says that it did not end as it should");
    assert_eq!(regards.vhost.left_in(&regards.queue).await, 1);
}
