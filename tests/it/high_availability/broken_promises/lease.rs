//! When a lease ends, by the clock of its owner, and when a taker begins.

use std::time::Duration;

use regards_relay::clock;
use regards_relay::failpoints::Failpoint;

use super::{is_without_failpoints, start};
use crate::configuration::Edit;
use crate::high_availability::{Pair, ROUTES, wait_for_standby};
use crate::support::{Answer, until};

/// How long a taker begins no attempts after the lease of an owner that ended uncleanly, in milliseconds.
const UNCLEAN_PAUSE: i128 = 2_000;
/// A taker on a busy machine may need all of that time to start.
const MOST_TAKEOVERS: usize = 10;
/// How often something is tried that lasts for a few seconds: on a busy machine, no event may come in them.
const MOST_RUNS: usize = 3;
/// How long the proxy delays a renewal, and then its answer.
const DELAY: Duration = Duration::from_secs(3);
/// The file in the home of a relay by which its wall clock is wrong.
const CLOCK: &str = "clock";
const BETWEEN_EVENTS: Duration = Duration::from_millis(100);

/// Lets the lease of an owner that does not run expire while a relay stands by. Returns how long after that the relay's first attempt came, in
/// milliseconds, in the first of so many takeovers in which it came too early, or the last one.
async fn first_attempt_after_an_unclean_end(takeovers: usize, failpoint: Option<Failpoint>) -> i128 {
    let mut pair = Pair::with_long_lease().await;
    let first = pair.homes[0].start_ready().await;
    pair.publish(0..5).await;
    pair.homes[0].wait_until_waiting("broken", 10).await;
    first.stop().await;
    pair.broken.answers(|_| Answer::Status(503));
    pair.broken.come_back().await;
    pair.give_to_another("10 minutes").await;
    let second = start(&pair.homes[1], failpoint);
    let mut waited = i128::MAX;
    for _ in 0..takeovers {
        wait_for_standby(&second).await;
        let expired = u128::try_from(pair.give_to_another("2 seconds").await).expect("a time");
        let first_post = async || {
            let posted = pair.broken.posted();
            posted.iter().find(|posted| posted.at > expired).map(|posted| posted.at).ok_or("none".to_owned())
        };
        waited = until("an attempt", first_post).await.cast_signed() - expired.cast_signed();
        if waited < UNCLEAN_PAUSE {
            break;
        }
        // The relay loses the spool with its next write.
        pair.give_to_another("10 minutes").await;
    }
    waited
}

#[tokio::test]
async fn a_taker_waits_for_the_attempts_of_an_owner_that_ended_uncleanly() {
    let waited = first_attempt_after_an_unclean_end(2, None).await;
    assert!(waited >= UNCLEAN_PAUSE, "{waited} ms");
}

#[tokio::test]
async fn a_taker_that_begins_at_once_is_noticed() {
    if !is_without_failpoints() {
        let failpoint = Failpoint::BeginBeforeOldAttemptsEnd;
        let waited = first_attempt_after_an_unclean_end(MOST_TAKEOVERS, Some(failpoint)).await;
        assert!(waited < UNCLEAN_PAUSE, "{waited} ms");
    }
}

/// Why an owner could believe that its lease lasts longer than it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Illusion {
    /// The answer to each renewal comes late.
    LateAnswer,
    /// The wall clock of its machine is set back.
    ClockSetBack,
}

/// Delays the answer to each renewal or sets the clock back, and then cuts a relay off from its database. Returns how many attempts it began
/// after another relay could have taken the spool. None: it had begun none for a while before, as its source waits for the database once
/// something must be stored.
async fn attempts_after_the_lease(illusion: Illusion, failpoint: Option<Failpoint>) -> Option<usize> {
    let (mut pair, mut proxy) = Pair::behind_proxy("20s").await;
    // Deliveries that must be stored would hold up their source: those of a broken sink, and all before the prefetch grows.
    pair.broken.come_back().await;
    let home = pair.take_first().with(clock::VARIABLE, CLOCK);
    home.write_routes(&ROUTES.edit("queue: \"${QUEUE}\"", "queue: \"${QUEUE}\", prefetch: 16"));
    let relay = start(&home, failpoint);
    relay.wait_until_ready().await;
    let expires = async || pair.number("SELECT (extract(epoch FROM expires_at) * 1000)::bigint FROM $.shards").await;
    let renewed = async || {
        let before = expires().await;
        until("a renewal", async || if expires().await > before { Ok(()) } else { Err(before.to_string()) }).await;
    };
    let cut_off = async {
        // The first one has to prepare its statement, by more requests.
        renewed().await;
        match illusion {
            // A renewal waits for its answer for half of the lease.
            Illusion::LateAnswer => proxy.delay(DELAY),
            Illusion::ClockSetBack => home.write(CLOCK, "-3600"),
        }
        renewed().await;
        // The answer to the last renewal still arrives.
        renewed().await;
        proxy.hold();
        until("the lease to expire", async || {
            let over = pair.sql("SELECT clock_timestamp() - expires_at > interval '6 seconds' FROM $.shards").await;
            if over == "t" { Ok(()) } else { Err(over) }
        })
        .await;
        u128::try_from(expires().await).expect("a time")
    };
    let publish = async {
        for request in 0.. {
            pair.publish(request..=request).await;
            tokio::time::sleep(BETWEEN_EVENTS).await;
        }
    };
    let expired = tokio::select! {
        () = publish => unreachable!("it publishes for ever"),
        expired = cut_off => expired,
    };
    proxy.go_down().await;
    let posted = pair.healthy.posted();
    // The relay counts its lease from before the request: by its clock the lease ends earlier.
    let goes_on = posted.iter().any(|posted| posted.at + 10_000 > expired);
    goes_on.then(|| posted.iter().filter(|posted| posted.at > expired).count())
}

#[tokio::test]
async fn an_owner_begins_no_attempt_once_another_may_take_its_spool() {
    assert_no_attempt_after_the_lease(Illusion::LateAnswer).await;
}

#[tokio::test]
async fn a_clock_that_is_set_back_makes_no_lease_longer() {
    assert_no_attempt_after_the_lease(Illusion::ClockSetBack).await;
}

async fn assert_no_attempt_after_the_lease(illusion: Illusion) {
    for _ in 0..MOST_RUNS {
        if let Some(attempts) = attempts_after_the_lease(illusion, None).await {
            assert_eq!(attempts, 0);
            return;
        }
    }
    panic!("no attempt was seen in the last seconds of a lease");
}

#[tokio::test]
async fn a_lease_that_counts_from_the_answer_is_noticed() {
    assert_noticed(Illusion::LateAnswer, Failpoint::CountTheLeaseFromTheAnswer).await;
}

#[tokio::test]
async fn a_lease_by_the_wall_clock_is_noticed() {
    assert_noticed(Illusion::ClockSetBack, Failpoint::CountTheLeaseByTheWallClock).await;
}

async fn assert_noticed(illusion: Illusion, failpoint: Failpoint) {
    if !is_without_failpoints() {
        for _ in 0..MOST_RUNS {
            if attempts_after_the_lease(illusion, Some(failpoint)).await.is_some_and(|late| late > 0) {
                return;
            }
        }
        panic!("no attempt was seen after the lease");
    }
}
