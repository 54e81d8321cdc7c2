//! The promises of lease and fence: nobody writes to another owner's spool, the outcome of a commit without an answer is looked up, and a
//! taker waits for the attempts of the owner before. Failpoints show that the tests would notice a relay that breaks one.

use std::process::Stdio;
use std::time::Duration;

use regards_relay::clock;
use regards_relay::failpoints::{Failpoint, VARIABLE};
use serde_json::Value;

use super::{LONG, Pair, ROUTES, address, wait_for_standby};
use crate::configuration::Edit;
use crate::support::proxy::{Fault, Interception};
use crate::support::{Answer, Home, Postgres, Proxy, Relay, Response, Services, until};
use crate::torture::owners::{LATE_WRITES, NOTES};

/// Fewer than the first prefetch of a source.
const MESSAGES: usize = 10;

/// How long a taker begins no attempts after the lease of an owner that ended uncleanly, in milliseconds.
const UNCLEAN_PAUSE: i128 = 2_000;
/// A taker on a busy machine may need all of that time to start.
const MOST_TAKEOVERS: usize = 10;

/// A crash of the database may lose nothing by chance.
const MOST_CRASHES: usize = 10;

/// What the transaction of a purge asks last.
const PURGE: &[u8] = b"DELETE FROM dead_letters WHERE id IN";

/// How often something is tried that lasts for a few seconds: on a busy machine, no event may come in them.
const MOST_RUNS: usize = 3;
/// How long the proxy delays a renewal, and then its answer.
const DELAY: Duration = Duration::from_secs(3);
/// The file in the home of a relay by which its wall clock is wrong.
const CLOCK: &str = "clock";
const BETWEEN_EVENTS: Duration = Duration::from_millis(100);

/// The commit of a transaction that stores a delivery.
const COMMIT: Interception = Interception { after: b"correlationId", at: b"COMMIT\0", fault: Fault::CutRequest };

fn start(home: &Home, failpoint: Option<Failpoint>) -> Relay<'_> {
    match failpoint {
        Some(failpoint) => home.start_with(VARIABLE, failpoint.name()),
        None => home.start(),
    }
}

fn is_without_failpoints() -> bool {
    if !cfg!(debug_assertions) {
        println!("a release build has no failpoints");
    }
    !cfg!(debug_assertions)
}

impl Pair {
    /// With a proxy before the database, which sees what the relays send.
    pub(super) async fn behind_proxy(lease: &str) -> (Self, Proxy) {
        let services = Services::shared();
        let proxy = Proxy::to(services.postgres_port()).await;
        let pair = Self::with(&services, &address(&services, proxy.port(), "sslmode=disable"), lease).await;
        (pair, proxy)
    }

    /// Gives the spool to an owner that does not run, as if that one had taken it from the last one. Its lease is over after the interval.
    /// Returns when that is, in milliseconds since 1970.
    async fn give_to_another(&self, interval: &str) -> i64 {
        // A taker waits for a transaction of the last owner likewise.
        self.number(&format!(
            "WITH locked AS (SELECT shard FROM $.shards FOR UPDATE) \
             UPDATE $.shards SET owner = -1, epoch = epoch + 1, clean = false, \
             expires_at = clock_timestamp() + interval '{interval}' FROM locked WHERE shards.shard = locked.shard \
             RETURNING (extract(epoch FROM expires_at) * 1000)::bigint"
        ))
        .await
    }

    async fn deliveries_of_broken(&self) -> i64 {
        self.number("SELECT count(DISTINCT event_id) FROM $.deliveries WHERE sink = 'broken'").await
    }
}

/// Another owner takes the spool of a relay that does not know it yet. Returns how many rows the relay has written since, and how many late
/// writes the torture would have found.
async fn rows_after_another_took_it(failpoint: Option<Failpoint>) -> (i64, i64) {
    let mut pair = Pair::with_long_lease().await;
    let home = &pair.homes[0];
    let relay = start(home, failpoint);
    relay.wait_until_ready().await;
    pair.publish(0..20).await;
    home.wait_until_waiting("broken", 40).await;
    // The ids of later owners' rows are higher.
    let epoch = pair.number("SELECT epoch FROM $.shards").await;
    let rows = format!("SELECT count(*) FROM $.deliveries WHERE id < ({}::bigint << 40)", epoch + 1);
    pair.sql(NOTES).await;
    pair.give_to_another("3 seconds").await;
    pair.sql("UPDATE $.shard_batches SET epoch = shards.epoch FROM $.shards").await;
    let before = pair.number(&rows).await;
    pair.publish(20..40).await;
    let written = until("the relay to lose the spool, or to write", async || {
        // First: a relay that has lost the spool writes no more such rows.
        let has_lost = home.log().contains("spool lost");
        match pair.number(&rows).await - before {
            0 if has_lost => Ok(0),
            0 => Err("neither".to_owned()),
            written => Ok(written),
        }
    })
    .await;
    let late = pair.number(LATE_WRITES).await;
    if failpoint.is_none() {
        // It stands by, and takes the spool when the lease of the other owner has expired.
        relay.wait_until_ready().await;
        pair.broken.come_back().await;
        pair.wait_for_all(40).await;
        relay.stop().await;
        pair.regards.assert_left_as_found().await;
    }
    (written, late)
}

#[tokio::test]
async fn an_owner_writes_nothing_after_another_took_its_spool() {
    assert_eq!(rows_after_another_took_it(None).await, (0, 0));
}

#[tokio::test]
async fn a_store_without_the_fence_is_noticed() {
    if !is_without_failpoints() {
        let (written, late) = rows_after_another_took_it(Some(Failpoint::WriteWithoutTheFence)).await;
        assert!(written > 0 && late > 0, "{written} rows, {late} late writes");
    }
}

/// Lets commits of deliveries fail, so many times. Returns how many deliveries are stored once all messages are acknowledged; 20 a round are
/// expected.
async fn stored_after(fault: Fault, rounds: usize, failpoint: Option<Failpoint>) -> i64 {
    let (mut pair, proxy) = Pair::behind_proxy(LONG).await;
    let relay = start(&pair.homes[0], failpoint);
    relay.wait_until_ready().await;
    for round in 0..rounds {
        proxy.intercept(Interception { fault, ..COMMIT });
        pair.publish(round * 10..round * 10 + 10).await;
        proxy.wait_until_intercepted().await;
        pair.regards.wait_until_acknowledged().await;
    }
    let stored = pair.deliveries_of_broken().await;
    if failpoint.is_none() {
        let rows = pair.number("SELECT count(*) FROM $.deliveries WHERE sink = 'broken'").await;
        assert_eq!(rows, stored, "each is stored once");
        pair.broken.come_back().await;
        assert_eq!(pair.wait_for_all(rounds * 10).await, 0, "duplicates");
        relay.stop().await;
        pair.regards.assert_left_as_found().await;
    }
    stored
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_stored_once() {
    assert_eq!(stored_after(Fault::CutAnswer, 3, None).await, 60);
}

#[tokio::test]
async fn a_commit_that_is_never_answered_is_stored_once() {
    // The relay waits for the answer for 30 s.
    assert_eq!(stored_after(Fault::HoldAnswer, 1, None).await, 20);
}

#[tokio::test]
async fn a_commit_that_is_lost_is_repeated() {
    assert_eq!(stored_after(Fault::CutRequest, 3, None).await, 60);
}

#[tokio::test]
async fn a_lost_commit_that_is_taken_for_done_is_noticed() {
    if !is_without_failpoints() {
        let stored = stored_after(Fault::CutRequest, 3, Some(Failpoint::TakeUnknownCommitsForDone)).await;
        assert!(stored < 60, "{stored}");
    }
}

/// Holds up a purge in its transaction while another owner takes the spool. Returns whether something was deleted after that.
async fn purged_after_another_took_it(failpoint: Option<Failpoint>) -> bool {
    let (mut pair, proxy) = Pair::behind_proxy(LONG).await;
    let home = pair.take_first();
    let relay = start(&home, failpoint);
    relay.wait_until_ready().await;
    pair.make_dead_letter(&home).await;
    proxy.hold_after(PURGE);
    let mut client = home.begin(&["dead-letters", "purge", "--yes"], Stdio::null());
    proxy.wait_until_held().await;
    let waiting = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0 AND query LIKE '%{}.shards%'",
        pair.schema
    );
    let is_held_up = until("the other owner to wait", async || match pair.number(&waiting).await {
        0 => Err("it does not".to_owned()),
        _ => Ok(()),
    });
    let mut take = Box::pin(pair.give_to_another("10 minutes"));
    let is_taken = tokio::select! {
        _ = &mut take => true,
        () = is_held_up => false,
    };
    let letters = async || pair.number("SELECT count(*) FROM $.dead_letters").await;
    let before = if is_taken {
        let before = letters().await;
        proxy.release();
        before
    } else {
        proxy.release();
        take.await;
        letters().await
    };
    let after = until("the purge to end", async || match letters().await {
        0 => Ok(0),
        _ if home.log().contains("spool lost") => Ok(letters().await),
        left => Err(left.to_string()),
    })
    .await;
    client.kill().expect("it runs or has ended");
    client.wait().expect("it ends");
    after < before
}

#[tokio::test]
async fn a_taker_waits_for_the_transaction_of_an_owner() {
    assert!(!purged_after_another_took_it(None).await);
}

#[tokio::test]
async fn a_fence_before_the_transaction_is_noticed() {
    if !is_without_failpoints() {
        for _ in 0..MOST_RUNS {
            if purged_after_another_took_it(Some(Failpoint::FenceBeforeTheTransaction)).await {
                return;
            }
        }
        panic!("nothing was deleted after another owner took the spool");
    }
}

impl Pair {
    /// The home of the first relay, so that the pair can be changed while that runs.
    fn take_first(&mut self) -> Home {
        std::mem::replace(&mut self.homes[0], Home::new(ROUTES))
    }

    /// Makes a dead letter of the broken sink, which then accepts everything.
    async fn make_dead_letter(&mut self, home: &Home) {
        self.broken.answers(|_| Answer::Status(400));
        self.broken.come_back().await;
        self.regards.publish(&Response::new("t", "refused", "GRANTED")).await;
        until("a dead letter", async || match home.dead_letters().len() {
            1 => Ok(()),
            found => Err(found.to_string()),
        })
        .await;
        self.broken.answers(|_| Answer::Status(200));
    }
}

/// Redrives a dead letter by a transaction whose answer is lost. Returns how many were redriven, as the command says.
async fn redriven_without_an_answer(failpoint: Option<Failpoint>) -> u64 {
    let (mut pair, proxy) = Pair::behind_proxy(LONG).await;
    let home = pair.take_first();
    let relay = start(&home, failpoint);
    relay.wait_until_ready().await;
    pair.make_dead_letter(&home).await;
    proxy.intercept(Interception { fault: Fault::CutAnswer, ..COMMIT });
    let redriven: Value = serde_json::from_str(&home.does(&["dead-letters", "redrive", "--json"])).expect("JSON");
    proxy.wait_until_intercepted().await;
    if failpoint.is_none() {
        pair.broken.wait_for_accepted(1).await;
        relay.stop().await;
    }
    redriven["redriven"].as_u64().expect("a number")
}

#[tokio::test]
async fn a_redrive_whose_answer_is_lost_counts() {
    assert_eq!(redriven_without_an_answer(None).await, 1);
}

#[tokio::test]
async fn a_stored_commit_that_is_taken_for_failed_is_noticed() {
    if !is_without_failpoints() {
        assert_eq!(redriven_without_an_answer(Some(Failpoint::TakeUnknownCommitsForFailed)).await, 0);
    }
}

/// Kills the database after the relay has acknowledged messages, at most so often. Returns how many of their deliveries are not stored.
async fn lost_with_the_database(crashes: usize, failpoint: Option<Failpoint>) -> usize {
    let services = Services::private(&["postgres"]).await;
    let admin = Postgres::as_admin(services.services());
    // What is not written at the commit is written late: each full page of the log, and the last one after a while.
    for setting in ["wal_writer_delay = '10s'", "wal_buffers = '16MB'", "full_page_writes = off"] {
        admin.execute(&format!("ALTER SYSTEM SET {setting}")).await.expect("a setting");
    }
    services.kill("postgres").await;
    services.start("postgres").await;
    let at = address(services.services(), services.services().postgres_port(), "sslmode=require");
    let pair = Pair::with(services.services(), &at, LONG).await;
    let relay = start(&pair.homes[0], failpoint);
    relay.wait_until_ready().await;
    // Failed attempts would write, too.
    pair.homes[0].does(&["pause", "--sink", "broken"]);
    for published in 1..=crashes {
        pair.publish(published..=published).await;
        pair.regards.wait_until_acknowledged().await;
        services.kill("postgres").await;
        services.start("postgres").await;
        let stored = usize::try_from(pair.deliveries_of_broken().await).expect("a count");
        if stored < 2 * published {
            return 2 * published - stored;
        }
        relay.wait_until_ready().await;
    }
    0
}

#[tokio::test]
async fn what_is_acknowledged_survives_the_death_of_the_database() {
    assert_eq!(lost_with_the_database(2, None).await, 0);
}

#[tokio::test]
async fn a_commit_that_is_not_on_disk_is_noticed() {
    if !is_without_failpoints() {
        assert!(lost_with_the_database(MOST_CRASHES, Some(Failpoint::CommitAsynchronously)).await > 0);
    }
}

/// Two owners store deliveries, one after the other. Returns how many are stored, of 40.
async fn stored_by_two_owners(failpoint: Option<Failpoint>) -> i64 {
    let pair = Pair::with_long_lease().await;
    for (home, status) in pair.homes.iter().zip(["GRANTED", "SUCCESS"]) {
        let relay = start(home, failpoint);
        relay.wait_until_ready().await;
        for request in 0..20 {
            pair.regards.publish(&Response::new("t", &format!("request {request}"), status)).await;
        }
        pair.regards.wait_until_acknowledged().await;
        relay.stop().await;
    }
    pair.deliveries_of_broken().await
}

#[tokio::test]
async fn ids_that_begin_anew_are_noticed() {
    assert_eq!(stored_by_two_owners(None).await, 40);
    if !is_without_failpoints() {
        assert!(stored_by_two_owners(Some(Failpoint::RestartIds)).await < 40);
    }
}

/// Starts a relay that waits for the answer to the commit of its first delivery. More messages come to it meanwhile, fewer than its first
/// prefetch: it has time to acknowledge the first one.
async fn start_without_an_answer<'a>(pair: &'a Pair, proxy: &Proxy, failpoint: Option<Failpoint>) -> Relay<'a> {
    let relay = start(&pair.homes[0], failpoint);
    relay.wait_until_ready().await;
    proxy.intercept(Interception { fault: Fault::HoldAnswer, ..COMMIT });
    for request in 0..MESSAGES {
        pair.regards.publish(&Response::new("t", &format!("request {request}"), "GRANTED")).await;
        pair.healthy.wait_for_accepted(request + 1).await;
        proxy.wait_until_intercepted().await;
    }
    until("the first delivery to be stored", async || match pair.deliveries_of_broken().await {
        1 => Ok(()),
        stored => Err(stored.to_string()),
    })
    .await;
    relay
}

#[tokio::test]
async fn nothing_is_acknowledged_before_the_answer_to_its_commit() {
    let (pair, proxy) = Pair::behind_proxy(LONG).await;
    start_without_an_answer(&pair, &proxy, None).await.kill();
    until("all messages to be in the queue again", async || match pair.regards.left().await as usize {
        MESSAGES => Ok(()),
        left => Err(left.to_string()),
    })
    .await;
}

#[tokio::test]
async fn an_acknowledgement_before_the_answer_is_noticed() {
    if !is_without_failpoints() {
        let (pair, proxy) = Pair::behind_proxy(LONG).await;
        let _relay = start_without_an_answer(&pair, &proxy, Some(Failpoint::AcknowledgeEarly)).await;
        pair.regards.wait_until_acknowledged().await;
        assert_eq!(pair.deliveries_of_broken().await, 1, "the answer is still missing");
    }
}

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

/// Delays the answer to each renewal or sets the clock back, and then cuts a relay off from its database. Returns how many attempts it began after another relay could
/// have taken the spool. None: it had begun none for a while before, as its source waits for the database once something must be stored.
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

/// Takes the spool of an owner that has an open transaction. Returns whether the transaction was ended.
async fn ends_an_open_transaction(failpoint: Option<Failpoint>) -> bool {
    let pair = Pair::with_long_lease().await;
    pair.homes[0].start_ready().await.stop().await;
    // Holds the lock that every transaction of an owner has, like an owner that is suspended in one.
    let mut suspended = pair.database.session();
    suspended.send(&format!("SET search_path TO {}", pair.schema));
    suspended.send("BEGIN");
    suspended.send("SELECT pg_backend_pid() FROM shards FOR KEY SHARE");
    let pid = suspended.line().await.expect("a process id");
    let owner = pair
        .number(&format!(
            "INSERT INTO $.instances (name, seen_at, config_hash, backends) SELECT 'suspended', clock_timestamp(), 0, \
             jsonb_build_array(jsonb_build_object('pid', pid, 'start', backend_start)) FROM pg_stat_activity WHERE pid = {pid} \
             RETURNING id"
        ))
        .await;
    pair.sql(&format!("UPDATE $.shards SET owner = {owner}, clean = false, expires_at = clock_timestamp()")).await;
    let second = start(&pair.homes[1], failpoint);
    let waiting = format!("SELECT count(*) FROM pg_stat_activity WHERE {pid} = ANY(pg_blocking_pids(pid))");
    until("the second relay to be ready, or to wait for the transaction", async || {
        match (second.is_ready().await, pair.number(&waiting).await) {
            (Err(page), 0) => Err(page),
            (_, _) => Ok(()),
        }
    })
    .await;
    let has_ended = suspended.has_ended().await;
    if has_ended {
        second.wait_until_ready().await;
        second.stop().await;
    }
    has_ended
}

#[tokio::test]
async fn an_open_transaction_of_the_owner_before_does_not_block_a_taker() {
    assert!(ends_an_open_transaction(None).await);
}

#[tokio::test]
async fn a_taker_that_leaves_old_transactions_open_is_noticed() {
    if !is_without_failpoints() {
        assert!(!ends_an_open_transaction(Some(Failpoint::LeaveOldTransactionsOpen)).await);
    }
}
