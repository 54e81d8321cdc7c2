//! What keeps an owner from writing to a spool that another one has taken.

use std::process::Stdio;

use regards_relay::failpoints::Failpoint;

use super::{is_without_failpoints, start};
use crate::high_availability::{LONG, Pair};
use crate::support::{Response, until};
use crate::torture::owners::{LATE_WRITES, NOTES};

/// What the transaction of a purge asks last.
const PURGE: &[u8] = b"DELETE FROM dead_letters WHERE id IN";
/// How often it is tried: on a busy machine, the database may end a transaction that waits.
const MOST_RUNS: usize = 3;

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
