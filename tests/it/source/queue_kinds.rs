//! The kinds of queues that administrators create: quorum queues, single active consumers, streams.

use lapin::types::AMQPValue;
use regards_relay::timer::DIVISOR;

use crate::support::response::lives;
use crate::support::{Answer, Home, Receiver, Regards, Relay, Response};

const ROUTES: &str = configuration! {
    sinks: {
        hook: r#"{ webhook: { url: "${HOOK}" } }"#,
    },
};

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

async fn one_after_the_other(arguments: &[(&str, AMQPValue)]) {
    let regards = Regards::new().await;
    regards.use_queue_with(arguments).await;
    let receiver = Receiver::start().await;
    let home = || Home::of(&regards, ROUTES).with("HOOK", &receiver.url());
    let (first_home, second_home) = (home(), home());
    let first = first_home.start_ready().await;
    let second = second_home.start();
    second.wait_for_metric("source_reconnects_total", &[], 2.0).await;
    assert!(second_home.log().contains("standing by"), "it says that it waits");
    assert!(!second_home.log().contains("\"consuming\""), "it leaves the queue alone");
    let events = lives("t", "life", 100);
    regards.publish_all(&events[..100]).await;
    receiver.wait_for_accepted(100).await;
    first.stop().await;
    regards.publish_all(&events[100..]).await;
    receiver.wait_for_accepted(200).await;
    second.stop().await;
    assert_eq!(receiver.posted().len(), 200, "each once");
    regards.assert_left_as_found().await;
}

#[tokio::test]
async fn a_classic_queue_with_a_single_active_consumer_is_consumed_by_one_relay_after_the_other() {
    one_after_the_other(&[("x-single-active-consumer", AMQPValue::Boolean(true))]).await;
}

#[tokio::test]
async fn a_quorum_queue_is_consumed_by_one_relay_after_the_other() {
    one_after_the_other(&[("x-queue-type", text("quorum"))]).await;
}

#[tokio::test]
async fn a_quorum_queue_with_a_single_active_consumer_is_consumed_by_one_relay_after_the_other() {
    let single = ("x-single-active-consumer", AMQPValue::Boolean(true));
    one_after_the_other(&[("x-queue-type", text("quorum")), single]).await;
}

#[tokio::test]
async fn a_quorum_queue_with_another_consumer_is_an_error() {
    let regards = Regards::new().await;
    regards.use_queue_with(&[("x-queue-type", text("quorum"))]).await;
    let receiver = Receiver::start().await;
    let home = Home::of(&regards, ROUTES).with("HOOK", &receiver.url());
    let relay = home.start_ready().await;
    let _other = regards.vhost.collect(&regards.queue).await;
    home.wait_for_warning(&["ERROR", &regards.queue, "x-single-active-consumer"]).await;
    relay.wait_for_metric("source_reconnects_total", &[], 2.0).await;
    assert_eq!(relay.metric("source_up", &[]).await, Ok(Some(0.0)));
    relay.stop().await;
}

#[tokio::test]
async fn a_stream_is_refused_by_name() {
    let regards = Regards::new().await;
    regards.use_queue_with(&[("x-queue-type", text("stream"))]).await;
    let receiver = Receiver::start().await;
    let home = Home::of(&regards, ROUTES).with("HOOK", &receiver.url());
    let checked = home.run(&["check", "--connect"]);
    let said = String::from_utf8_lossy(&checked.stdout).into_owned() + &String::from_utf8_lossy(&checked.stderr);
    assert!(!checked.status.success() && said.contains("is a stream"), "{said}");
    let relay = home.start();
    relay.wait_until_unready(&[&regards.queue, "is a stream"]).await;
    relay.stop().await;
}

/// The sink's share of the spool holds about ten deliveries.
const FULL: &str = configuration! {
    sinks: {
        hook: r#"{ webhook: { url: "${HOOK}" }, retry: { initial_backoff: 1h, max_backoff: 1h } }"#,
    },
    "spool: { max_size: 1MiB, max_share: 1% }",
};

/// The delivery limit of this queue. Since RabbitMQ 4, the default is 20.
const DELIVERY_LIMIT: i32 = 8;
const SPENT: u32 = 5;

/// Sets up REGARDS with a quorum queue that has this delivery limit.
async fn with_a_quorum_queue() -> Regards {
    let regards = Regards::new().await;
    regards
        .use_queue_with(&[
            ("x-queue-type", text("quorum")),
            ("x-delivery-limit", AMQPValue::LongInt(DELIVERY_LIMIT)),
            ("x-dead-letter-exchange", text("regards.DLX")),
            ("x-dead-letter-routing-key", text("regards.DLQ")),
        ])
        .await;
    regards
}

/// Each lost connection counts towards the delivery limit.
async fn lose_connections(regards: &Regards, relay: &Relay<'_>) {
    for losses in 1..=SPENT {
        regards.vhost.close_connection_of(&regards.user).await;
        relay.wait_for_metric("source_reconnects_total", &[], f64::from(losses)).await;
        relay.wait_for_metric("source_up", &[], 1.0).await;
        regards.vhost.wait_for_redelivered(&regards.queue, losses.into()).await;
    }
}

#[tokio::test]
async fn near_the_delivery_limit_a_message_is_stored_in_a_full_spool() {
    let regards = with_a_quorum_queue().await;
    let receiver = Receiver::start().await;
    receiver.answers(|_| Answer::Status(409));
    let home = Home::of(&regards, FULL).with("HOOK", &receiver.url());
    let relay = home.start_ready().await;
    let events: Vec<_> = (0..16).map(|number| Response::new("t", &format!("one-{number}"), "SUCCESS")).collect();
    regards.publish_all(&events).await;
    relay.wait_until_unready(&["no room for sink hook"]).await;
    lose_connections(&regards, &relay).await;
    home.wait_until_waiting("hook", 16).await;
    regards.wait_until_acknowledged().await;
    relay.stop().await;
    regards.assert_left_as_found().await;
}

const FULL_OF_LETTERS: &str = configuration! {
    sinks: {
        hook: r#"{ webhook: { url: "${HOOK}" } }"#,
    },
    "dead_letters: { max_size: 1MiB }",
};

fn unreadable(kibibytes: usize) -> Response {
    let mut unreadable = Response::new("t", "unreadable", "GRANTED");
    unreadable.body = vec![b'x'; kibibytes << 10];
    unreadable
}

#[tokio::test]
async fn near_the_delivery_limit_a_message_becomes_a_dead_letter_beyond_their_bound() {
    let regards = with_a_quorum_queue().await;
    let receiver = Receiver::start().await;
    let home = Home::of(&regards, FULL_OF_LETTERS).with("HOOK", &receiver.url());
    let relay = home.start_ready().await;
    regards.publish(&unreadable(900)).await;
    relay.wait_for_metric("dead_letters_stored", &[], 1.0).await;
    regards.publish_all(&[(); 8].map(|()| unreadable(200))).await;
    relay.wait_until_unready(&["dead_letters.max_size", "8 dead letters"]).await;
    lose_connections(&regards, &relay).await;
    relay.wait_for_metric("dead_letters_stored", &[], 9.0).await;
    regards.wait_until_acknowledged().await;
    relay.stop().await;
    assert_eq!(home.dead_letters().len(), 9, "each once");
    regards.assert_left_as_found().await;
}

/// Like [`FULL`], with one classic and one quorum queue.
const BLOCKED: &str = r#"
version: 1
sources:
  classic: { amqp: { url: "${REGARDS}", queue: "${QUEUE}" }, expects: lta }
  quorum: { amqp: { url: "${QUORUM}", queue: "${QUEUE}" }, expects: lta }
sinks: { hook: { webhook: { url: "${HOOK}" }, retry: { initial_backoff: 100ms, max_backoff: 1s } } }
routes: [{ name: all, to: hook }]
unrouted: dead_letter
spool: { max_size: 1MiB, max_share: 1% }
"#;

/// A source that is blocked for ten minutes requeues its messages. This divisor shortens the time to one second.
const TEN_MINUTES_IN_SECONDS: &str = "600";

#[tokio::test]
async fn a_blocked_source_gives_messages_back_to_a_classic_queue_and_never_to_a_quorum_queue() {
    if !cfg!(debug_assertions) {
        println!("a release build is never in a hurry");
        return;
    }
    let (classic, quorum) = (Regards::new().await, with_a_quorum_queue().await);
    let receiver = Receiver::start().await;
    receiver.answers(|_| Answer::Status(503));
    let home = Home::of(&classic, BLOCKED)
        .with("QUORUM", &quorum.url())
        .with("HOOK", &receiver.url())
        .with(DIVISOR, TEN_MINUTES_IN_SECONDS);
    let relay = home.start_ready().await;
    // Each queue gets more messages than the spool has room for.
    let events = |of: &str| -> Vec<_> {
        (0..16).map(|number| Response::new("t", &format!("{of}-{number}"), "SUCCESS")).collect()
    };
    classic.publish_all(&events("classic")).await;
    quorum.publish_all(&events("quorum")).await;
    relay.wait_until_unready(&["no room for sink hook"]).await;
    // Each requeue redelivers about six messages.
    classic.vhost.wait_for_redelivered(&classic.queue, 30).await;
    let statistics = quorum.vhost.statistics(&quorum.queue).await.expect("statistics");
    assert_eq!(statistics["message_stats"]["redeliver"].as_u64().unwrap_or(0), 0, "{statistics}");
    let consumed = |line: &&str| line.contains("\"consuming\"") && line.contains("\"quorum\"");
    assert_eq!(home.log().lines().filter(consumed).count(), 1, "the same consumer");
    receiver.answers(|_| Answer::Status(204));
    receiver.wait_for_accepted(32).await;
    classic.wait_until_acknowledged().await;
    quorum.wait_until_acknowledged().await;
    relay.stop().await;
    assert_eq!(receiver.posted().iter().filter(|posted| posted.answered == Some(204)).count(), 32, "each once");
    classic.assert_left_as_found().await;
    quorum.assert_left_as_found().await;
}
