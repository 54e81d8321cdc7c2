//! Losing the source's connection cancels nothing that was taken: what comes again is recognized, and delivered once.

use crate::support::response::lives;
use crate::support::{Answer, Home, Proxy, Receiver, Regards, Response, until};

/// Events of one key: many more than the first prefetch, and some that come after the crash.
const COUNT: usize = 320;
const BEFORE: usize = 300;

/// Class 60, method 30: AMQP 0.9.1, 1.8.3.5.
const BASIC_CANCEL: &[u8] = &[0, 60, 0, 30];

#[tokio::test]
async fn what_is_redelivered_while_it_is_under_way_is_delivered_once() {
    let regards = Regards::new().await;
    let receiver = Receiver::start().await;
    let home = Home::of(
        &regards,
        r#"
version: 1
sources: { regards: { amqp: { url: "${REGARDS}", queue: "${QUEUE}" }, expects: lta } }
sinks: { hook: { webhook: { url: "${HOOK}", timeout: 60s, concurrency: 10 } } }
routes: [{ name: all, to: hook }]
unrouted: dead_letter
delivery: { spill_after: 5m }
"#,
    )
    .with("HOOK", &receiver.url());
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

/// A consumer's prefetch is what it began with, so another one takes over as it grows. A relay that dies then has messages that the
/// broker takes for its own until it notices, while nobody is refused any more.
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
sinks: { hook: { webhook: { url: "${HOOK}", timeout: 60s } } }
routes: [{ name: all, to: hook }]
unrouted: dead_letter
"#,
    )
    .with("HOOK", &receiver.url())
    .with("BROKER", &regards.vhost.url_at(&regards.user, &regards.password, proxy.port()));
    let event = |number: usize| Response::new("t", "one", "GRANTED").field("message", number.to_string());
    let events: Vec<Response> = (0..COUNT).map(event).collect();
    let (before, after) = events.split_at(BEFORE);
    regards.publish_all(before).await;
    let relay = home.start();
    proxy.wait_until_held().await;
    relay.kill();

    receiver.answers(|_| Answer::Status(204));
    regards.publish_all(after).await;
    let home = home.with("BROKER", &regards.url());
    let relay = home.start_ready().await;
    receiver.wait_for_accepted(COUNT - BEFORE).await;
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
        COUNT => Ok(()),
        some => Err(some.to_string()),
    })
    .await;
    relay.stop().await;
    assert_eq!(first_copies(), (0..COUNT).collect::<Vec<usize>>());
    regards.assert_left_as_found().await;
}
