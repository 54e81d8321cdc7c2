//! One sink's share of the spool is full: its back-offs are kept, and no stop of a relay, a source or a sink makes
//! another sink receive an event twice. Failpoints show that the tests would notice.

use regards_relay::failpoints::{Failpoint, VARIABLE};

use crate::configuration::Edit;
use crate::support::response::lives;
use crate::support::{Answer, Home, Receiver, Regards, Relay, Response, lines_of};

/// The sink's share of the spool has room for about ten deliveries.
const ROUTES: &str = configuration! {
    queue: "prefetch: 100",
    sinks: {
        hook: r#"{ webhook: { url: "${HOOK}" }, retry: { initial_backoff: 1h, max_backoff: 1h } }"#,
        archive: "{ file: { path: archive.ndjson } }",
    },
    "spool: { max_size: 1MiB, max_share: 1% }",
    "delivery: { shutdown_grace: 5s }",
};
/// Together the messages fill the prefetch exactly. It starts at 16 and grows once all of these messages are settled.
const REQUESTS: usize = 8;
const MESSAGES: usize = 2 * REQUESTS;
/// During this number of attempts for another sink, the relay asks the full spool for room many times.
const OTHER_ATTEMPTS: usize = 30;

/// Configures the relay with the given failpoint, if any.
fn home(regards: &Regards, receiver: &Receiver, failpoint: Option<Failpoint>) -> Home {
    home_with(ROUTES, regards, receiver, failpoint)
}

fn home_with(routes: &str, regards: &Regards, receiver: &Receiver, failpoint: Option<Failpoint>) -> Home {
    receiver.answers(|_| Answer::Status(409));
    let home = Home::of(regards, routes).with("HOOK", &receiver.url());
    match failpoint {
        Some(failpoint) => home.with(VARIABLE, failpoint.name()),
        None => home,
    }
}

/// With messages of this size, a few deliveries fit into the share.
const SOME_FIT: usize = 512;
/// With messages of this size, no delivery fits into the share.
const NONE_FITS: usize = 16 * 1024;

/// Waits until the archive has all messages. The webhook's share has no room for all of its deliveries.
async fn fill(regards: &Regards, home: &Home, bytes: usize) {
    let large = |one: Response| one.field("message", "x".repeat(bytes));
    regards.publish_all(&lives("t", "full", REQUESTS).into_iter().map(large).collect::<Vec<_>>()).await;
    home.wait_for_lines("archive.ndjson", MESSAGES).await;
}

/// Returns the number of lines in the archive at the end: one per message, if no delivery was repeated.
async fn archived_after(regards: &Regards, home: &Home, receiver: &Receiver) -> usize {
    receiver.answers(|_| Answer::Status(204));
    let relay = home.start();
    relay.wait_for_metric("build_info", &[], 1.0).await;
    relay
        .reload(
            &ROUTES.edit("initial_backoff: 1h, max_backoff: 1h", "initial_backoff: 50ms, max_backoff: 50ms"),
            "success",
        )
        .await;
    home.does(&["resume", "--sink", "hook"]);
    receiver.wait_for_accepted(MESSAGES).await;
    regards.wait_until_acknowledged().await;
    relay.stop().await;
    lines_of(home.data("archive.ndjson")).len()
}

/// Starts a relay whose webhook has a larger backlog than its share of the spool can hold.
async fn start_full<'a>(regards: &Regards, home: &'a Home) -> Relay<'a> {
    let relay = home.start_ready().await;
    fill(regards, home, SOME_FIT).await;
    relay.wait_until_unready(&["no room for sink hook"]).await;
    relay
}

async fn attempts_within_one_back_off(failpoint: Option<Failpoint>, least: usize) -> usize {
    let regards = Regards::new().await;
    let (receiver, other) = (Receiver::start().await, Receiver::start().await);
    other.answers(|_| Answer::Status(503));
    // The other sink fails too, with short back-offs: its attempts measure how much the relay has done.
    let routes = ROUTES
        .edit(
            "  archive:",
            "  other: { webhook: { url: \"${OTHER}\" }, retry: { initial_backoff: 50ms, max_backoff: 50ms } }\n  archive:",
        )
        .edit("[hook, archive]", "[hook, archive, other]");
    let home = home_with(&routes, &regards, &receiver, failpoint).with("OTHER", &other.url());
    let relay = home.start_ready().await;
    // The relay stops its scan of the lanes at the first lane without room. That lane must not have older deliveries in
    // the spool.
    fill(&regards, &home, NONE_FITS).await;
    receiver.wait_for_posted(least).await;
    other.wait_for_posted(other.posted().len() + OTHER_ATTEMPTS).await;
    let posted = receiver.posted().len();
    relay.kill();
    posted
}

#[tokio::test]
async fn a_full_spool_shortens_no_back_off() {
    let posted = attempts_within_one_back_off(None, REQUESTS).await;
    assert_eq!(posted, REQUESTS, "the first event of each request, once");
    if cfg!(debug_assertions) {
        let posted = attempts_within_one_back_off(Some(Failpoint::IgnoreBackOff), 3 * REQUESTS).await;
        assert!(posted > 2 * REQUESTS, "the failpoint must be noticed: {posted}");
    }
}

async fn archived_after_a_stop(failpoint: Option<Failpoint>) -> usize {
    let regards = Regards::new().await;
    let receiver = Receiver::start().await;
    let home = home(&regards, &receiver, failpoint);
    let relay = start_full(&regards, &home).await;
    relay.stop().await;
    archived_after(&regards, &home, &receiver).await
}

#[tokio::test]
async fn a_clean_stop_with_a_full_share_repeats_nothing() {
    assert_eq!(archived_after_a_stop(None).await, MESSAGES, "each once");
    if cfg!(debug_assertions) {
        let archived = archived_after_a_stop(Some(Failpoint::KeepLimitsAtTheEnd)).await;
        assert!(archived > MESSAGES, "the failpoint must be noticed: {archived}");
    }
}

/// Reloads these routes while the share is full, and returns once every message is acknowledged.
async fn reload_while_full<'a>(regards: &Regards, home: &'a Home, routes: &str) -> Relay<'a> {
    let relay = start_full(regards, home).await;
    relay.reload(routes, "success").await;
    regards.wait_until_acknowledged().await;
    relay
}

#[tokio::test]
async fn removing_a_sink_with_a_full_share_repeats_nothing() {
    let (regards, receiver) = (Regards::new().await, Receiver::start().await);
    let home = home(&regards, &receiver, None);
    let without = ROUTES.without_sink("hook");
    let relay = reload_while_full(&regards, &home, &without.edit("[hook, archive]", "[archive]")).await;
    relay.stop().await;
    assert_eq!(home.waiting("hook"), u64::try_from(MESSAGES).unwrap());
    assert_eq!(archived_after(&regards, &home, &receiver).await, MESSAGES, "each once");
}

#[tokio::test]
async fn a_restart_of_a_source_with_a_full_share_repeats_nothing() {
    let (regards, receiver) = (Regards::new().await, Receiver::start().await);
    let home = home(&regards, &receiver, None);
    let relay = reload_while_full(&regards, &home, &ROUTES.edit("prefetch: 100", "prefetch: 99")).await;
    home.wait_until_waiting("hook", u64::try_from(MESSAGES).unwrap()).await;
    assert_eq!(lines_of(home.data("archive.ndjson")).len(), MESSAGES, "each once");
    relay.kill();
}

/// A full share blocks only the source whose messages need room in it.
#[tokio::test]
async fn only_the_source_without_room_is_blocked() {
    let (regards, other) = (Regards::new().await, Regards::new().await);
    let receiver = Receiver::start().await;
    let routes = ROUTES
        .edit(
            "expects: lta } }\nsinks:",
            "expects: lta }, other: { amqp: { url: \"${OTHER}\", queue: \"${QUEUE}\" }, expects: lta } }\nsinks:",
        )
        .edit(
            "routes: [{ name: all, to: [hook, archive] }]",
            "routes: [{ name: all, when: { source: regards }, to: [hook, archive] }, { name: other, when: { source: other }, to: archive }]",
        );
    let home = home_with(&routes, &regards, &receiver, None).with("OTHER", &other.url());
    let relay = start_full(&regards, &home).await;
    relay.wait_for_metric("source_blocked", &[("source", "regards"), ("reason", "spool_full")], 1.0).await;
    relay.wait_until_unready(&["\"blocked\"", "\"consuming\""]).await;
    other.publish_all(&lives("t", "other", REQUESTS)).await;
    home.wait_for_lines("archive.ndjson", 2 * MESSAGES).await;
    other.wait_until_acknowledged().await;
    assert_eq!(relay.metric("source_blocked", &[("source", "other")]).await, Ok(Some(0.0)));
    let said: Vec<_> =
        home.log().lines().filter(|line| line.contains("sources are blocked")).map(str::to_owned).collect();
    assert!(said.len() == 1 && said[0].contains("blocked: regards;"), "{said:?}");
    relay.stop().await;
}
