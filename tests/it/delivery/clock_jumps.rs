//! The wall clock jumps: no delivery waits longer and none becomes older because of it. A failpoint shows that wrong
//! ages would be noticed.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use regards_relay::clock::VARIABLE;
use regards_relay::failpoints::{self, Failpoint};
use rusqlite::Connection;
use serde_json::Value;

use crate::support::response::lives;
use crate::support::{Answer, Home, Receiver, Regards, Relay, Response};

/// The file that contains the error of the clock.
const CLOCK: &str = "clock";
const HOUR: i64 = 3_600;
const MONTH: i64 = 30 * 24 * HOUR;
const ROUTES: &str = configuration! {
    sinks: {
        down: r#"{ webhook: { url: "${DOWN}" }, retry: { initial_backoff: 200ms, max_backoff: 1s, give_up_after: 10h } }"#,
        picky: r#"{ webhook: { url: "${PICKY}" }, retry: { initial_backoff: 200ms, max_backoff: 1s, give_up_after: 10h } }"#,
        busy: r#"{ webhook: { url: "${BUSY}" }, retry: { initial_backoff: 200ms, max_backoff: 1s, give_up_after: 10h } }"#,
    },
    "dead_letters: { keep: 10h, max_size: 1MiB }",
    "delivery: { shutdown_grace: 1s }",
};
const REQUESTS: usize = 3;
const EVENTS: usize = 2 * REQUESTS;

/// Three receivers: one is unavailable, one refuses each delivery individually, one answers with `Retry-After`.
struct Receivers {
    down: Receiver,
    picky: Receiver,
    busy: Receiver,
}

impl Receivers {
    async fn start() -> Self {
        let all = Self { down: Receiver::start().await, picky: Receiver::start().await, busy: Receiver::start().await };
        all.down.answers(|_| Answer::Status(503));
        all.picky.answers(|_| Answer::Status(409));
        all.busy.answers(|_| Answer::StatusWith(429, "retry-after", "2".to_owned()));
        all
    }

    fn home(&self, regards: &Regards) -> Home {
        let home = Home::of(regards, ROUTES).with(VARIABLE, CLOCK);
        home.with("DOWN", &self.down.url()).with("PICKY", &self.picky.url()).with("BUSY", &self.busy.url())
    }

    fn all(&self) -> [&Receiver; 3] {
        [&self.down, &self.picky, &self.busy]
    }

    /// Starts the relay, and waits until every sink has a backlog: behind an open breaker, in back-off, or in a pause.
    async fn start_with_backlogs<'a>(&self, regards: &Regards, home: &'a Home) -> Relay<'a> {
        let relay = home.start_ready().await;
        regards.publish_all(&lives("t", "waiting", REQUESTS)).await;
        relay.wait_for_metric("sink_breaker_open", &[("sink", "down")], 1.0).await;
        relay.wait_for_metric("sink_paused", &[("sink", "busy")], 1.0).await;
        self.picky.wait_for_posted(2 * REQUESTS).await;
        for sink in ["down", "picky", "busy"] {
            home.wait_until_waiting(sink, EVENTS as u64).await;
        }
        relay
    }

    /// Waits for more attempts at each receiver, so that a wrong clock would have had its effect.
    async fn wait_for_more_attempts(&self) {
        let wanted = self.all().map(|receiver| receiver.posted().len() + 4);
        for (receiver, wanted) in self.all().into_iter().zip(wanted) {
            receiver.wait_for_posted(wanted).await;
        }
    }

    /// Makes all receivers available, and waits until they have received everything.
    async fn get_everything(&self, home: &Home) {
        for receiver in self.all() {
            receiver.answers(|_| Answer::Status(204));
        }
        for (sink, receiver) in ["down", "picky", "busy"].into_iter().zip(self.all()) {
            receiver.wait_for_accepted(EVENTS).await;
            home.wait_until_waiting(sink, 0).await;
            assert_eq!(receiver.accepted().len(), EVENTS, "each once at {sink}");
        }
    }
}

/// Sets the error of the wall clock, in seconds.
fn set_clock(home: &Home, seconds: i64) {
    home.write(CLOCK, &seconds.to_string());
}

/// Checks that `spool` reports the next attempts in the time of the wrong wall clock.
fn assert_next_attempts_are_near(home: &Home, error: i64) {
    let now = Timestamp::now() + SignedDuration::from_secs(error);
    for line in home.spool() {
        let next: Timestamp = line["nextAttempt"].as_str().expect("a time").parse().expect("RFC 3339");
        let away = next.duration_since(now).abs();
        assert!(away < SignedDuration::from_mins(30), "{line}: it is {now}");
    }
}

/// Only debug builds can simulate a wrong clock.
fn is_release() -> bool {
    !cfg!(debug_assertions)
}

#[tokio::test]
async fn a_clock_set_back_by_an_hour_delays_no_retry_no_pause_and_no_probe() {
    if is_release() {
        return;
    }
    let regards = Regards::new().await;
    let receivers = Receivers::start().await;
    let home = receivers.home(&regards);
    let relay = receivers.start_with_backlogs(&regards, &home).await;
    set_clock(&home, -HOUR);
    receivers.wait_for_more_attempts().await;
    assert_next_attempts_are_near(&home, -HOUR);
    receivers.get_everything(&home).await;
    relay.stop().await;
    assert!(home.dead_letters().is_empty());
}

/// The clock is set back between two runs of the relay. The second run delivers everything.
async fn set_back_between_runs(set_back: impl FnOnce(&Home)) {
    let regards = Regards::new().await;
    let receivers = Receivers::start().await;
    let home = receivers.home(&regards);
    let relay = receivers.start_with_backlogs(&regards, &home).await;
    relay.stop().await;
    set_back(&home);
    let relay = home.start_ready().await;
    receivers.wait_for_more_attempts().await;
    receivers.get_everything(&home).await;
    relay.stop().await;
    assert!(home.dead_letters().is_empty());
}

#[tokio::test]
async fn a_clock_set_back_between_two_runs_delays_nothing() {
    if is_release() {
        return;
    }
    set_back_between_runs(|home| set_clock(home, -HOUR)).await;
}

/// Changes the spool as if the relay had written it before a reboot, with a clock that was one hour ahead.
fn make_of_another_boot(home: &Home) {
    let connection = Connection::open(home.data("spool.db")).expect("the spool");
    let later = |key: &str| {
        format!(
            "UPDATE states SET state = json_set(state, '{key}', json_extract(state, '{key}') + 3600000) \
             WHERE json_extract(state, '{key}') IS NOT NULL;"
        )
    };
    let change = "UPDATE clock SET boot = boot + 2, base = base + 3600000; \
                  UPDATE deliveries SET boot = boot + 2, received = received + 3600000; \
                  UPDATE heads SET due = due + 3600000;";
    let change = [change, &later("$.pause.until"), &later("$.open.until")].concat();
    connection.execute_batch(&change).expect("changed");
}

#[tokio::test]
async fn a_clock_set_back_by_a_reboot_delays_nothing() {
    set_back_between_runs(make_of_another_boot).await;
}

/// Fills the store of dead letters. While it is full, the relay checks repeatedly whether any of them has expired.
async fn fill_with_dead_letters(regards: &Regards, relay: &Relay<'_>) {
    let invalid: Vec<Response> =
        (0..150).map(|_| Response::with_body("t", format!("no JSON{}", "x".repeat(10_000)))).collect();
    regards.publish_all(&invalid).await;
    relay.wait_until_unready(&["dead_letters.max_size"]).await;
}

#[tokio::test]
async fn ages_by_the_wall_clock_are_noticed() {
    if is_release() {
        return;
    }
    let regards = Regards::new().await;
    let receivers = Receivers::start().await;
    let home = receivers.home(&regards).with(failpoints::VARIABLE, Failpoint::TrustTheWallClock.name());
    let relay = receivers.start_with_backlogs(&regards, &home).await;
    set_clock(&home, MONTH);
    for sink in ["down", "picky", "busy"] {
        relay.wait_for_metric("deliveries_total", &[("sink", sink), ("result", "dead_letter")], 1.0).await;
    }
    relay.kill();
}

/// Checks that no dead letter expired and that the relay gave up no delivery.
fn assert_kept(home: &Home, before: &[Value]) {
    let now = home.dead_letters();
    let ids = |letters: &[Value]| letters.iter().map(|letter| letter["id"].to_string()).collect::<BTreeSet<_>>();
    assert!(ids(&now).is_superset(&ids(before)), "{} of {} are left", now.len(), before.len());
    assert!(now.iter().all(|letter| letter["reason"] == "not_json"), "some were given up: {now:?}");
}

#[tokio::test]
async fn a_clock_set_forward_by_a_month_gives_nothing_up_and_purges_nothing() {
    if is_release() {
        return;
    }
    let regards = Regards::new().await;
    let receivers = Receivers::start().await;
    let home = receivers.home(&regards);
    let relay = receivers.start_with_backlogs(&regards, &home).await;
    fill_with_dead_letters(&regards, &relay).await;
    let kept = home.dead_letters();
    set_clock(&home, MONTH);
    receivers.wait_for_more_attempts().await;
    assert_kept(&home, &kept);
    let oldest = relay.metric("spool_oldest_age_seconds", &[("sink", "down")]).await.expect("metrics").expect("an age");
    assert!(oldest < 3_600.0, "an alert on {oldest} s would be false");
    relay.stop().await;

    // A restart does not expire any of them either.
    let relay = home.start();
    relay.wait_until_unready(&["dead_letters.max_size"]).await;
    receivers.wait_for_more_attempts().await;
    assert_kept(&home, &kept);
    receivers.get_everything(&home).await;
    relay.stop().await;
}
