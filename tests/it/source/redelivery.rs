//! A lost connection of the source cancels no delivery: redelivered messages are recognized and delivered once.

use std::cell::Cell;

use regards_relay::failpoints::{Failpoint, VARIABLE};

use crate::configuration::Edit;
use crate::support::response::lives;
use crate::support::{Answer, Home, Proxy, Receiver, Regards, Response, until, with_webhook};

/// Number of events of one key that are published at once. It is much larger than the first prefetch.
const BEFORE: usize = 300;
/// Number of events that are then published a few at a time.
const MORE: usize = 20;

/// The class is 60 and the method is 30 (AMQP 0.9.1, section 1.8.3.5).
const BASIC_CANCEL: &[u8] = &[0, 60, 0, 30];

#[tokio::test]
async fn a_message_redelivered_in_flight_is_delivered_once() {
    let (regards, receiver, home) = with_webhook(configuration! {
        sinks: { hook: r#"{ webhook: { url: "${HOOK}", timeout: 60s, concurrency: 10 } }"# },
        "delivery: { spill_after: 5m }",
    })
    .await;
    let relay = home.start_ready().await;
    receiver.hold();
    let published = lives("t", "redelivered", 3);
    regards.publish_all(&published).await;
    regards.vhost.wait_for_unacknowledged(&regards.queue, 6).await;

    regards.vhost.close_connection_of(&regards.user).await;
    regards.vhost.wait_for_redelivered(&regards.queue, 6).await;
    receiver.release();

    receiver.wait_for_accepted(6).await;
    relay.stop().await;
    assert_eq!(receiver.posted().len(), 6, "each once, although each came twice");
    regards.assert_left_as_found().await;
}

const IN_FLIGHT: &str = configuration! {
    sinks: {
        hook: r#"{ webhook: { url: "${HOOK}", timeout: 60s } }"#,
    },
    "delivery: { spill_after: 5m }",
};

/// A message is delivered and acknowledged. An equal message is in flight when the connection is lost, and the broker
/// redelivers it. Returns how many messages the queue holds after the relay has recognized the redelivered message and
/// was killed.
async fn left_of_equal_messages(failpoint: Option<Failpoint>) -> u32 {
    let (regards, receiver, mut home) = with_webhook(IN_FLIGHT).await;
    if let Some(failpoint) = failpoint {
        home = home.with(VARIABLE, failpoint.name());
    }
    let relay = home.start_ready().await;
    let message = Response::new("t", "equal", "SUCCESS");
    regards.publish(&message).await;
    receiver.wait_for_accepted(1).await;
    regards.wait_until_acknowledged().await;
    receiver.hold();
    regards.publish(&message).await;
    receiver.wait_for_posted(2).await;

    regards.vhost.close_connection_of(&regards.user).await;
    regards.vhost.wait_for_redelivered(&regards.queue, 1).await;
    // The relay takes messages in order, so it has recognized the message before this one.
    regards.publish(&Response::new("t", "another", "SUCCESS")).await;
    receiver.wait_for_posted(3).await;
    assert_eq!(receiver.posted().len(), 3, "what is in flight is not handed out again");
    if failpoint.is_some() {
        regards.vhost.wait_for_acknowledged(&regards.queue, 2).await;
    }
    relay.kill();
    regards.vhost.left_in(&regards.queue).await
}

#[tokio::test]
async fn an_equal_message_that_is_in_flight_stays_unacknowledged() {
    assert_eq!(left_of_equal_messages(None).await, 2, "of two messages in flight");
}

#[tokio::test]
async fn a_relay_that_takes_an_equal_message_for_a_settled_one_is_noticed() {
    if !cfg!(debug_assertions) {
        println!("a release build has no failpoints");
        return;
    }
    assert_eq!(
        left_of_equal_messages(Some(Failpoint::RecognizeSettledFirst)).await,
        1,
        "one is acknowledged undelivered"
    );
}

/// The prefetch is lowered at once: the broker requeues all unacknowledged messages and redelivers them, a few at a
/// time.
#[tokio::test]
async fn a_large_body_behind_small_ones_in_flight_repeats_none() {
    let routes = IN_FLIGHT.edit("spill_after: 5m", "spill_after: 5m, max_in_flight_bytes: 1MiB");
    let (regards, receiver, home) = with_webhook(&routes).await;
    let relay = home.start_ready().await;
    receiver.hold();
    // This is less than half of the first prefetch. With more, the deliveries would be spooled.
    let small = lives("t", "small", 3);
    regards.publish_all(&small).await;
    receiver.wait_for_posted(3).await;
    regards.publish(&Response::new("t", "large", "SUCCESS").field("message", "x".repeat(300 << 10))).await;
    regards.vhost.wait_for_redelivered(&regards.queue, 2).await;
    receiver.release();

    receiver.wait_for_accepted(small.len() + 1).await;
    relay.stop().await;
    let count = |status: &str| receiver.posted().iter().filter(|posted| posted.json()["status"] == status).count();
    assert_eq!((count("GRANTED"), count("SUCCESS")), (3, 4), "each once");
    regards.assert_left_as_found().await;
}

/// The prefetch of a consumer is fixed when the consumer starts, so the relay replaces the consumer when the prefetch
/// grows. If the relay is killed then, the broker still counts its messages as unacknowledged until it detects the lost
/// connection, although the queue already accepts other consumers.
#[tokio::test]
async fn a_crash_while_the_prefetch_grows_keeps_the_order() {
    let regards = Regards::new().await;
    let receiver = Receiver::start().await;
    receiver.answers(|_| Answer::Never);
    let proxy = Proxy::to(regards.vhost.rabbit().services().amqp_port()).await;
    proxy.hold_after(BASIC_CANCEL);
    let home = Home::of(
        &regards,
        r#"
version: 1
sources: { regards: { amqp: { url: "${BROKER}", queue: "${QUEUE}" }, expects: lta } }
sinks: { hook: { webhook: { url: "${HOOK}", timeout: 1s } } }
routes: [{ name: all, to: hook }]
unrouted: dead_letter
"#,
    )
    .with("HOOK", &receiver.url())
    .with("BROKER", &regards.vhost.url_at(&regards.user, &regards.password, proxy.port()));
    let events = |numbers: std::ops::Range<usize>| -> Vec<Response> {
        numbers.map(|number| Response::new("t", "one", "GRANTED").field("message", number.to_string())).collect()
    };
    regards.publish_all(&events(0..BEFORE)).await;
    let relay = home.start();
    // The prefetch grows when it is used up while no attempt is in flight whose delivery is already spooled.
    let is_dead = Cell::new(false);
    let mut count = BEFORE;
    let die = async {
        proxy.wait_until_held().await;
        relay.kill();
        is_dead.set(true);
    };
    let use_up = until("the prefetch to grow", async || {
        if is_dead.get() {
            return Ok(());
        }
        regards.publish_all(&events(count..count + MORE)).await;
        count += MORE;
        Err(format!("{count} published"))
    });
    tokio::join!(die, use_up);

    receiver.answers(|_| Answer::Status(204));
    regards.publish_all(&events(count..count + MORE)).await;
    count += MORE;
    let home = home.with("BROKER", &regards.url());
    let relay = home.start_ready().await;
    receiver.wait_for_accepted(MORE).await;
    proxy.release();
    let first_copies = || {
        let mut numbers: Vec<usize> = Vec::new();
        for posted in receiver.accepted() {
            let number = posted.json()["message"].as_str().and_then(|number| number.parse().ok()).expect("a number");
            if !numbers.contains(&number) {
                numbers.push(number);
            }
        }
        numbers
    };
    until("all to arrive", async || match first_copies().len() {
        all if all == count => Ok(()),
        some => Err(some.to_string()),
    })
    .await;
    relay.stop().await;
    assert_eq!(first_copies(), (0..count).collect::<Vec<usize>>());
    regards.assert_left_as_found().await;
}
