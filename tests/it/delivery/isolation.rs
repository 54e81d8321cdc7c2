//! A bad sink affects only itself: its deliveries are spooled in order, and all other sinks continue.

use std::time::{Duration, Instant};

use lapin::ExchangeKind;
use lapin::types::FieldTable;
use serde_json::Value;

use crate::configuration::Edit;
use crate::support::arrived::assert_in_order;
use crate::support::rabbit::AmqpMessage;
use crate::support::response::lives;
use crate::support::webhook::Posted;
use crate::support::{Answer, Home, Kafka, Rabbit, Receiver, Regards, Response, Services, until};

const ROUTES: &str = configuration! {
    queue: "prefetch: 100",
    sinks: {
        pipeline: r#"{ kafka: { brokers: "${KAFKA}", topic: "${TOPIC}" } }"#,
        hook: r#"{ webhook: { url: "${HOOK}", timeout: 20s }, retry: { initial_backoff: 50ms, max_backoff: 500ms } }"#,
    },
    "delivery: { shutdown_grace: 1s }",
};

/// Many more messages than the prefetch: without the spool, Kafka would receive only a prefetch of them.
const REQUESTS: usize = 1_000;

fn home(regards: &Regards, receiver: &Receiver, topic: &str, routes: &str) -> Home {
    Home::of(regards, routes).with_kafka().with("TOPIC", topic).with("HOOK", &receiver.url())
}

/// The webhook answers `bad` from the first message on, and Kafka still receives everything. After its recovery the
/// webhook receives everything too: each request's GRANTED before its SUCCESS, and each event once, except for
/// `unknown` attempts without a known result.
async fn kafka_goes_on_beside(bad: Answer, unknown: usize) {
    let regards = Regards::new().await;
    regards.use_cheap_queue().await;
    let receiver = Receiver::start().await;
    let mut topic = Kafka::shared().topic("isolation", 3).await;
    let home = home(&regards, &receiver, topic.topic(), ROUTES);
    receiver.answers(move |_| bad.clone());
    let relay = home.start_ready().await;
    let published = lives("t", "isolated", REQUESTS);
    regards.publish_all(&published).await;
    topic.wait_for(published.len()).await;
    regards.wait_until_acknowledged().await;

    // The backlog survives a restart of the relay.
    relay.stop().await;
    let waited = home.waiting("hook");
    assert!(waited > 0, "the webhook was to be behind");
    receiver.answers(|_| Answer::Status(204));
    let relay = home.start_ready().await;
    until("every event at the webhook", async || {
        let different = ids(&receiver.accepted()).len();
        if different == published.len() { Ok(()) } else { Err(format!("{different}; {:?}", home.spool())) }
    })
    .await;
    relay.stop().await;

    assert_eq!(home.waiting("hook"), 0);
    assert_in_order(receiver.accepted().iter().map(Posted::json));
    let repeated = receiver.accepted().len() - published.len();
    assert!(repeated <= unknown, "{repeated} repeated, of which {unknown} may be");
    assert_eq!(topic.all().await.len(), published.len(), "each once");
    assert!(home.dead_letters().is_empty());
    regards.assert_left_as_found().await;
}

#[tokio::test]
async fn a_webhook_that_answers_503() {
    kafka_goes_on_beside(Answer::Status(503), 0).await;
}

#[tokio::test]
async fn a_webhook_that_never_answers() {
    // Eight requests are in flight when the relay stops, and it never learns their results.
    kafka_goes_on_beside(Answer::Never, 8).await;
}

#[tokio::test]
async fn a_webhook_that_takes_two_seconds_a_request() {
    kafka_goes_on_beside(Answer::After(Duration::from_millis(1_900), 204), 8).await;
}

/// The relay spools the deliveries long before the webhook answers. Spooling neither cancels nor repeats the attempts.
#[tokio::test]
async fn a_webhook_that_takes_three_seconds_gets_each_event_once() {
    let regards = Regards::new().await;
    let receiver = Receiver::start().await;
    let mut topic = Kafka::shared().topic("three-seconds", 1).await;
    let home = home(&regards, &receiver, topic.topic(), ROUTES);
    receiver.answers(|_| Answer::After(Duration::from_secs(3), 204));
    let relay = home.start_ready().await;
    let published = lives("t", "slow", 8);
    regards.publish_all(&published).await;
    topic.wait_for(published.len()).await;
    regards.wait_until_acknowledged().await;
    receiver.wait_for_accepted(published.len()).await;
    home.wait_until_waiting("hook", 0).await;
    relay.stop().await;
    assert_eq!(receiver.posted().len(), published.len(), "each once");
    assert_in_order(receiver.accepted().iter().map(Posted::json));
}

/// The relay applies `Retry-After` to the whole sink, and also after a restart.
#[tokio::test]
async fn a_webhook_with_retry_after() {
    let regards = Regards::new().await;
    let receiver = Receiver::start().await;
    let mut topic = Kafka::shared().topic("retry-after", 1).await;
    let home = home(&regards, &receiver, topic.topic(), ROUTES);
    receiver.answers(|_| Answer::StatusWith(429, "retry-after", "5".to_owned()));
    let relay = home.start_ready().await;
    regards.publish(&Response::new("t", "first", "GRANTED")).await;
    receiver.wait_for_posted(1).await;
    let told = Instant::now();
    relay.wait_for_metric("sink_paused", &[("sink", "hook")], 1.0).await;
    receiver.answers(|_| Answer::Status(204));
    let published = lives("t", "later", 20);
    regards.publish_all(&published).await;
    topic.wait_for(published.len() + 1).await;
    relay.kill();
    let relay = home.start_ready().await;
    let while_paused = receiver.posted().len();
    receiver.wait_for_accepted(published.len() + 1).await;
    assert!(told.elapsed() >= Duration::from_secs(4), "sooner than it was told: {:?}", told.elapsed());
    assert_eq!(while_paused, 1, "all of the sink's deliveries wait");
    relay.stop().await;
}

/// After a 410 the relay sends nothing more to the sink, and keeps all deliveries.
#[tokio::test]
async fn a_webhook_that_answers_410_is_paused() {
    let regards = Regards::new().await;
    let receiver = Receiver::start().await;
    let mut topic = Kafka::shared().topic("gone", 1).await;
    let home = home(&regards, &receiver, topic.topic(), ROUTES);
    receiver.answers(|_| Answer::Status(410));
    let relay = home.start_ready().await;
    regards.publish(&Response::new("t", "first", "GRANTED")).await;
    relay.wait_for_metric("sink_paused", &[("sink", "hook")], 1.0).await;
    let published = lives("t", "later", 20);
    regards.publish_all(&published).await;
    topic.wait_for(published.len() + 1).await;
    relay.stop().await;
    let relay = home.start_ready().await;
    relay.wait_for_metric("sink_paused", &[("sink", "hook")], 1.0).await;
    assert_eq!(receiver.posted().len(), 1);
    assert_eq!(home.waiting("hook"), 41);
    let shown = home.spool();
    let hook = shown.iter().find(|line| line["sink"] == "hook").expect("the sink");
    assert!(hook["lastError"].as_str().is_some_and(|error| error.contains("410")), "{hook}");
    assert_eq!(hook["nextAttempt"], Value::Null, "nobody but a person can say");
    relay.stop().await;
}

/// While the spool is full, the relay blocks the source. Once there is room, the source continues, and nothing is lost.
#[tokio::test]
async fn a_full_spool_blocks_its_source_until_there_is_room() {
    let regards = Regards::new().await;
    regards.use_cheap_queue().await;
    let receiver = Receiver::start().await;
    let routes = ROUTES.edit("to: [pipeline, hook]", "to: hook") + "spool: { max_size: 1MiB, max_share: 60% }\n";
    let home = home(&regards, &receiver, "none", &routes);
    receiver.answers(|_| Answer::Status(503));
    let relay = home.start_ready().await;
    let published = lives("t", "full", 1_000);
    regards.publish_all(&published).await;
    relay.wait_until_unready(&["no room for sink hook"]).await;
    let (ready, _) = regards.vhost.depth(&regards.queue).await;
    assert!(ready > 0, "all others wait in the queue");
    receiver.answers(|_| Answer::Status(204));
    receiver.wait_for_accepted(published.len()).await;
    relay.wait_until_ready().await;
    relay.stop().await;
    assert_eq!(ids(&receiver.accepted()).len(), published.len());
    assert_eq!(receiver.accepted().len(), published.len(), "each once");
    assert_in_order(receiver.accepted().iter().map(Posted::json));
}

/// The spool is full, as above, but the configuration lets the relay drop deliveries that do not fit.
#[tokio::test]
async fn a_full_spool_drops_and_counts_where_configured() {
    let regards = Regards::new().await;
    regards.use_cheap_queue().await;
    let receiver = Receiver::start().await;
    let mut topic = Kafka::shared().topic("dropped", 1).await;
    let routes =
        ROUTES.edit("retry:", "when_full: drop_newest, retry:") + "spool: { max_size: 1MiB, max_share: 60% }\n";
    let home = home(&regards, &receiver, topic.topic(), &routes);
    receiver.answers(|_| Answer::Status(503));
    let relay = home.start_ready().await;
    let published = lives("t", "dropped", 1_000);
    regards.publish_all(&published).await;
    topic.wait_for(published.len()).await;
    relay.wait_for_metric("deliveries_total", &[("sink", "hook"), ("result", "dropped")], 1.0).await;
    regards.wait_until_acknowledged().await;
    receiver.answers(|_| Answer::Status(204));
    home.wait_until_waiting("hook", 0).await;
    let labels = [("sink", "hook"), ("result", "dropped")];
    let dropped = relay.metric("deliveries_total", &labels).await.unwrap().unwrap();
    relay.stop().await;
    let accepted = u32::try_from(ids(&receiver.accepted()).len()).unwrap();
    assert!(
        (f64::from(accepted) + dropped - 2_000.0).abs() < 0.5,
        "what did not arrive was counted: {accepted}, {dropped}"
    );
}

/// `give_up_after` counts from receipt, for attempted deliveries and for those that were only queued behind them.
#[tokio::test]
async fn a_backlog_behind_an_open_breaker_is_given_up_in_time() {
    let regards = Regards::new().await;
    let receiver = Receiver::start().await;
    let routes = ROUTES
        .edit("to: [pipeline, hook]", "to: hook")
        .edit("initial_backoff: 50ms, max_backoff: 500ms", "initial_backoff: 50ms, max_backoff: 1h, give_up_after: 3s");
    let home = home(&regards, &receiver, "none", &routes);
    receiver.answers(|_| Answer::Status(503));
    let relay = home.start_ready().await;
    regards.publish_all(&lives("t", "old", 50)).await;
    relay.wait_for_metric("dead_letters_total", &[("sink", "hook"), ("reason", "gave_up")], 100.0).await;
    relay.stop().await;
    assert_eq!(home.waiting("hook"), 0);
    let letters = home.dead_letters();
    let details: Vec<&str> = letters.iter().filter_map(|letter| letter["detail"].as_str()).collect();
    assert!(details.iter().all(|detail| detail.starts_with("gave up 3 s after receipt: ")), "{details:?}");
    assert!(receiver.posted().len() < 100, "most of them were never attempted");
}

/// A RabbitMQ without memory blocks publishers. The AMQP sink waits, and the relay still consumes and acknowledges
/// messages from the same broker.
#[tokio::test]
async fn a_broker_that_blocks_publishers() {
    let broker = Services::private(&["rabbitmq"]).await;
    let rabbit = Rabbit::of(broker.services());
    let regards = Regards::in_vhost(rabbit.new_vhost().await).await;
    let partner = rabbit.new_vhost().await;
    partner.exchange("products", ExchangeKind::Topic).await;
    partner.queue("products", FieldTable::default()).await;
    partner.bind("products", "products", "#").await;
    let home = Home::of(
        &regards,
        r#"
version: 1
sources: { regards: { amqp: { url: "${REGARDS}", queue: "${QUEUE}", prefetch: 100 }, expects: lta } }
sinks:
  partner: { amqp: { url: "${PARTNER}", exchange: products }, retry: { initial_backoff: 50ms, max_backoff: 500ms } }
  archive: { file: { path: archive.ndjson } }
routes: [{ name: all, to: [partner, archive] }]
unrouted: dead_letter
"#,
    )
    .with("PARTNER", &partner.admin_url());
    let collected = partner.collect("products").await;
    let published = lives("t", "blocked", REQUESTS);
    regards.publish_all(&published).await;

    broker.alarm().await;
    let relay = home.start_ready().await;
    home.wait_for_lines("archive.ndjson", published.len()).await;
    regards.wait_until_acknowledged().await;
    assert!(collected.count() < published.len(), "the broker was to block publishers");

    broker.calm().await;
    collected.wait_for(published.len()).await;
    home.wait_until_waiting("partner", 0).await;
    relay.stop().await;
    assert_in_order(collected.all().iter().map(AmqpMessage::json));
    assert!(home.dead_letters().is_empty());
    regards.assert_left_as_found().await;
}

fn ids(posted: &[Posted]) -> std::collections::BTreeSet<String> {
    posted.iter().map(|posted| posted.json()["id"].to_string()).collect()
}
