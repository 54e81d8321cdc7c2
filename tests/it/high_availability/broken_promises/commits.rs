//! Commits without an answer, before their answer, and those that are not on the disk.

use std::process::Stdio;

use regards_relay::failpoints::Failpoint;

use serde_json::Value;

use super::{is_without_failpoints, start};
use crate::high_availability::{LONG, Pair, ROUTES, address};
use crate::support::proxy::{Fault, Interception};
use crate::support::{Home, Postgres, Proxy, Relay, Response, Services, until};

/// Fewer than the first prefetch of a source.
const MESSAGES: usize = 10;
/// A crash of the database may lose nothing by chance.
const MOST_CRASHES: usize = 10;
/// The commit of a transaction that stores a delivery.
const COMMIT: Interception = Interception { after: b"correlationId", at: b"COMMIT\0", fault: Fault::CutRequest };

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

/// Redrives a dead letter by a transaction whose connection is lost while it is committed. Returns how many were redriven, as the command says.
async fn redriven_during_a_lost_commit(failpoint: Option<Failpoint>) -> u64 {
    let (mut pair, mut proxy) = Pair::behind_proxy(LONG).await;
    let home = pair.take_first();
    let relay = start(&home, failpoint);
    relay.wait_until_ready().await;
    pair.make_dead_letter(&home).await;
    // The commit waits for a lock of the test.
    let lock = fastrand::u32(1..1 << 30);
    let mut holder = pair.database.session();
    holder.send(&format!("SELECT 'locked' FROM pg_advisory_lock({lock})"));
    assert_eq!(holder.line().await.as_deref(), Some("locked"));
    pair.sql(&format!(
        "CREATE FUNCTION $.wait() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN PERFORM pg_advisory_xact_lock({lock}); RETURN NULL; END'; \
         CREATE CONSTRAINT TRIGGER wait AFTER DELETE ON $.dead_letters DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION $.wait()"
    ))
    .await;
    // The command keeps its connection.
    let services = Services::shared();
    let direct = address(&services, services.postgres_port(), "sslmode=disable");
    let elsewhere = std::mem::replace(&mut pair.third, Home::new(ROUTES))
        .with("POSTGRES", &format!("postgres://{}@{direct}", services.postgres_user()));
    let client = elsewhere.begin(&["dead-letters", "redrive", "--json"], Stdio::piped());
    let committing = format!("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = {lock} AND NOT granted");
    let committing = until("the commit to begin", async || match pair.sql(&committing).await {
        none if none.is_empty() => Err("it has not".to_owned()),
        process => Ok(process),
    })
    .await;
    proxy.go_down().await;
    proxy.come_back().await;
    let waiting = format!("SELECT count(*) FROM pg_stat_activity WHERE {committing} = ANY(pg_blocking_pids(pid))");
    until("the relay to ask, or to repeat the transaction", async || match pair.number(&waiting).await {
        0 => Err("it does not wait".to_owned()),
        _ => Ok(()),
    })
    .await;
    holder.send(&format!("SELECT pg_advisory_unlock({lock})"));
    let ended = tokio::task::spawn_blocking(|| client.wait_with_output()).await.expect("no panic").expect("output");
    let redriven: Value = serde_json::from_slice(&ended.stdout).expect("JSON");
    redriven["redriven"].as_u64().expect("a number")
}

#[tokio::test]
async fn a_commit_under_way_is_waited_for() {
    assert_eq!(redriven_during_a_lost_commit(None).await, 1);
}

#[tokio::test]
async fn a_commit_under_way_that_is_taken_for_failed_is_noticed() {
    if !is_without_failpoints() {
        assert_eq!(redriven_during_a_lost_commit(Some(Failpoint::AskWithoutWaitingForTheCommit)).await, 0);
    }
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
