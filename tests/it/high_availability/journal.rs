//! The journal is shared: any machine shows what any relay has recorded, and replays it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::shards::{divided, wait_for_balance};
use super::{LONG, Pair};
use crate::support::proxy::{Fault, Interception};
use crate::support::webhook::Posted;
use crate::support::{Home, Relay, until};

/// The first batch of a relay that has records.
const FIRST_BATCH: &[u8] = b"INSERT INTO journal_blocks";

fn traced(home: &Home, request: usize) -> Result<Value, String> {
    let done = home.run(&["trace", &format!("request {request}"), "--json"]);
    serde_json::from_slice(&done.stdout).map_err(|error| format!("{error}: {}", String::from_utf8_lossy(&done.stderr)))
}

/// Waits until the journal has both events of a request, each once, as delivered to the healthy sink.
async fn wait_until_recorded(home: &Home, request: usize) {
    until("both events in the journal", async || {
        let trace = traced(home, request)?;
        let requests = trace["requests"].as_array().expect("a list");
        assert!(requests.len() <= 1, "{trace}");
        let events: Vec<&Value> = requests.iter().flat_map(|one| one["events"].as_array().expect("a list")).collect();
        let statuses: Vec<_> = events.iter().map(|event| event["status"].as_str().expect("a status")).collect();
        assert!(statuses.len() <= 2, "{trace}");
        let is_delivered = |event: &&Value| {
            let deliveries = event["deliveries"].as_array().expect("a list");
            deliveries.iter().any(|one| one["sink"] == "healthy" && one["state"] == "delivered")
        };
        if statuses == ["GRANTED", "SUCCESS"] && events.iter().all(is_delivered) {
            Ok(())
        } else {
            Err(trace.to_string())
        }
    })
    .await;
}

#[tokio::test]
async fn any_machine_traces_and_replays_what_any_relay_recorded() {
    let (pair, [first_home, second_home, elsewhere]) = divided(LONG).await;
    let first = first_home.start_ready().await;
    let second = second_home.start();
    wait_for_balance(&pair, 2).await;
    pair.publish(0..20).await;
    pair.healthy.wait_for_accepted(40).await;
    for request in 0..20 {
        wait_until_recorded(&elsewhere, request).await;
    }
    for relay in [&first, &second] {
        let delivered = relay.metric("deliveries_total", &[("sink", "healthy")]).await;
        assert!(delivered.as_ref().is_ok_and(|count| *count > Some(0.0)), "both work: {delivered:?}");
    }

    let replay = ["replay", "--sink", "healthy", "--yes", "--json"];
    let would = elsewhere.does(&["replay", "--sink", "healthy", "--dry-run"]);
    assert_eq!(would.trim(), "40 events would be replayed to sink healthy");
    let replayed: Value = serde_json::from_str(&elsewhere.does(&replay)).expect("JSON");
    assert_eq!(replayed, serde_json::json!({ "replayed": 40, "left": {} }));
    pair.healthy.wait_for_accepted(80).await;
    for relay in [first, second] {
        relay.stop().await;
    }

    // Without a relay, it becomes the backlog of the next ones.
    let replayed = elsewhere.does(&["replay", "--sink", "healthy", "--correlation-id", "request 7", "--yes"]);
    assert_eq!(replayed.trim(), "2 events spooled for delivery to sink healthy");
    let relay = second_home.start_ready().await;
    pair.healthy.wait_for_accepted(82).await;
    let accepted = pair.healthy.accepted();
    let is_replayed = |posted: &&Posted| posted.headers.contains_key("regards-relay-replayed");
    let replayed: Vec<_> = accepted.iter().filter(is_replayed).map(|posted| posted.json()["id"].to_string()).collect();
    assert_eq!((replayed.len(), replayed.iter().collect::<BTreeSet<_>>().len()), (42, 40));
    relay.stop().await;
}

async fn assert_nothing_was_left_out(relay: &Relay<'_>) {
    assert_eq!(relay.metric("journal_skipped_total", &[]).await, Ok(Some(0.0)));
}

#[tokio::test]
async fn what_happens_while_the_database_is_away_is_recorded_later() {
    let (pair, mut proxy) = Pair::behind_proxy(LONG).await;
    let home = &pair.homes[0];
    let relay = home.start_ready().await;
    pair.publish(0..1).await;
    wait_until_recorded(home, 0).await;
    proxy.go_down().await;
    pair.publish(1..5).await;
    pair.healthy.wait_for_accepted(10).await;
    until("the journal to be noticed", async || {
        let is_said = home.log().contains("what fits into memory is written later");
        if is_said { Ok(()) } else { Err("it is not".to_owned()) }
    })
    .await;
    proxy.come_back().await;
    for request in 0..5 {
        wait_until_recorded(home, request).await;
    }
    assert_nothing_was_left_out(&relay).await;
    relay.stop().await;
}

#[tokio::test]
async fn a_batch_whose_commit_is_not_answered_is_recorded_once() {
    for fault in [Fault::CutAnswer, Fault::CutRequest] {
        let (pair, proxy) = Pair::behind_proxy(LONG).await;
        let home = &pair.homes[0];
        proxy.intercept(Interception { after: FIRST_BATCH, at: b"COMMIT\0", fault });
        let relay = home.start_ready().await;
        pair.publish(0..1).await;
        proxy.wait_until_intercepted().await;
        pair.publish(1..2).await;
        for request in 0..2 {
            wait_until_recorded(home, request).await;
        }
        assert_nothing_was_left_out(&relay).await;
        relay.stop().await;
    }
}
