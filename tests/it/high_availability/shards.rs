//! Several relays share the queues of one source, each with its part of the spool.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::{Pair, address};
use crate::configuration::Edit;
use crate::support::{Home, Relay, Services, until};

pub(super) const ROUTES: &str = configuration! {
    queue: "shards: 4",
    sinks: {
        healthy: r#"{ webhook: { url: "${HEALTHY}" } }"#,
        broken: r#"{ webhook: { url: "${BROKEN}" }, retry: { initial_backoff: 100ms, max_backoff: 1s } }"#,
    },
    "spool: { postgres: { url: '${POSTGRES}', password: '${PASSWORD}', schema: '${SCHEMA}', lease: '${LEASE}' } }",
};

/// The sources of the four queues, and what all sources with one queue would have.
const SHARDS: [&str; 5] = ["", "regards.0", "regards.1", "regards.2", "regards.3"];

/// REGARDS with four queues as `topology` prints them, and homes of three relays.
pub(super) async fn divided(lease: &str) -> (Pair, [Home; 3]) {
    let services = Services::shared();
    let at = address(&services, services.postgres_port(), "sslmode=require");
    let mut pair = Pair::of(&services, &at, lease, ROUTES).await;
    let third = std::mem::replace(&mut pair.third, Home::new(ROUTES));
    let [first, second] = std::mem::replace(&mut pair.homes, [Home::new(ROUTES), Home::new(ROUTES)]);
    let homes = [first, second, third].map(|home| home.with("QUEUE", "partner.{shard}"));
    let regards = &pair.regards;
    regards.vhost.delete_queue(&regards.queue).await;
    regards.vhost.rabbit().import(&homes[0].does(&["topology", "--user", &regards.user])).await;
    (pair, homes)
}

/// Which relay has which shard, by their names.
async fn owners(pair: &Pair) -> BTreeMap<String, String> {
    let owners = "SELECT source, name FROM $.shards JOIN $.instances ON instances.id = owner \
                  WHERE expires_at > clock_timestamp()";
    let rows = pair.sql(owners).await;
    rows.lines()
        .filter_map(|row| row.split_once('|'))
        .map(|(shard, name)| (shard.to_owned(), name.to_owned()))
        .collect()
}

/// Waits until all shards have an owner, and none of so many relays has more than its share.
pub(super) async fn wait_for_balance(pair: &Pair, relays: usize) -> BTreeMap<String, String> {
    until(&format!("{relays} relays to share the shards"), async || {
        let owners = owners(pair).await;
        let mut of = BTreeMap::<&String, usize>::new();
        for owner in owners.values() {
            *of.entry(owner).or_default() += 1;
        }
        let is_shared = owners.len() == SHARDS.len()
            && of.len() == relays
            && of.values().all(|count| *count <= SHARDS.len().div_ceil(relays));
        if is_shared { Ok(owners) } else { Err(format!("{owners:?}")) }
    })
    .await
}

fn has(owners: &BTreeMap<String, String>, relay: &Relay<'_>) -> usize {
    let name = format!("(process {})", relay.pid());
    owners.values().filter(|owner| owner.contains(&name)).count()
}

#[tokio::test]
async fn relays_share_the_queues_and_a_joining_one_gets_its_part_without_duplicates() {
    let (mut pair, [first_home, second_home, _]) = divided(super::LONG).await;
    let first = first_home.start_ready().await;
    let owners = wait_for_balance(&pair, 1).await;
    assert_eq!(owners.keys().collect::<Vec<_>>(), SHARDS);
    pair.publish(0..100).await;
    pair.healthy.wait_for_accepted(200).await;
    first_home.wait_until_waiting("broken", 200).await;
    let used = "SELECT count(DISTINCT shard) FROM $.all_deliveries";
    assert!(pair.number(used).await >= 3, "the requests are in several shards");

    let second = second_home.start();
    let owners = wait_for_balance(&pair, 2).await;
    assert!([2, 3].contains(&has(&owners, &first)) && [2, 3].contains(&has(&owners, &second)), "{owners:?}");
    pair.publish(100..200).await;
    pair.healthy.wait_for_accepted(400).await;
    pair.broken.come_back().await;
    assert_eq!(pair.wait_for_all(200).await, 0, "duplicates");
    for relay in [&first, &second] {
        assert!(relay.metric("deliveries_total", &[("sink", "broken")]).await.unwrap() > Some(0.0), "both deliver");
        assert_eq!(relay.page("/readyz").await.expect("a page").0, 200);
    }
    let status: Value = serde_json::from_str(&second_home.does(&["status", "--json"])).expect("JSON");
    let instances = status["spool"]["instances"].as_array().expect("an array");
    let held: usize = instances.iter().map(|one| one["shards"].as_array().expect("an array").len()).sum();
    assert_eq!((instances.len(), held), (2, SHARDS.len()), "{status}");
    first.stop().await;
    wait_for_balance(&pair, 1).await;
    second.stop().await;
}

#[tokio::test]
async fn the_shards_of_a_relay_that_crashes_go_on_in_order_at_the_others() {
    let (mut pair, [first_home, second_home, third_home]) = divided("3s").await;
    let first = first_home.start_ready().await;
    let second = second_home.start();
    wait_for_balance(&pair, 2).await;
    pair.publish(0..100).await;
    pair.healthy.wait_for_accepted(200).await;
    first_home.wait_until_waiting("broken", 200).await;
    second.kill();
    pair.publish(100..150).await;
    let third = third_home.start();
    wait_for_balance(&pair, 2).await;
    pair.broken.come_back().await;
    pair.wait_for_all(150).await;
    until("the backlog to be gone", async || match pair.number("SELECT count(*) FROM $.all_deliveries").await {
        0 => Ok(()),
        left => Err(format!("{left} deliveries")),
    })
    .await;
    for relay in [first, third] {
        relay.stop().await;
    }
    pair.wait_for_all(150).await;
}

#[tokio::test]
async fn a_reload_and_a_pause_reach_all_shards_of_a_relay() {
    let (pair, [home, _, _]) = divided(super::LONG).await;
    let relay = home.start_ready().await;
    wait_for_balance(&pair, 1).await;
    home.does(&["pause", "--sink", "healthy"]);
    pair.publish(0..20).await;
    home.wait_until_waiting("healthy", 40).await;
    assert_eq!(relay.metric("sink_paused", &[("sink", "healthy")]).await, Ok(Some(1.0)));
    home.does(&["resume", "--sink", "healthy"]);
    pair.healthy.wait_for_accepted(40).await;

    home.does(&["pause", "--source", "regards.2"]);
    assert_eq!(pair.sql("SELECT DISTINCT shard FROM $.all_states WHERE kind = 'source'").await.lines().count(), 1);
    home.does(&["resume", "--source", "regards.2"]);
    relay.reload(&ROUTES.edit("unrouted: dead_letter", "unrouted: drop"), "success").await;
    relay.reload(&ROUTES.edit("shards: 4", "shards: 3"), "failure").await;
    relay.stop().await;
}

/// How many requests are published while the relays restart, and how many at once.
const ROLLING: usize = 1_500;
const AT_ONCE: usize = 25;

#[tokio::test]
async fn a_rolling_restart_under_load_repeats_nothing() {
    let (mut pair, homes) = divided(super::LONG).await;
    let mut relays = vec![homes[0].start_ready().await];
    relays.extend(homes[1..].iter().map(Home::start));
    wait_for_balance(&pair, 3).await;
    pair.broken.come_back().await;
    let load = async {
        for first in (0..ROLLING).step_by(AT_ONCE) {
            pair.publish(first..first + AT_ONCE).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let restarts = async {
        for (place, home) in homes.iter().enumerate() {
            relays.remove(0).stop().await;
            wait_for_balance(&pair, 2).await;
            relays.push(home.start());
            wait_for_balance(&pair, 3).await;
            assert_eq!(relays.len(), homes.len(), "after the restart of relay {place}");
        }
    };
    tokio::join!(load, restarts);
    assert_eq!(pair.wait_for_all(ROLLING).await, 0, "duplicates");
    for relay in relays {
        relay.stop().await;
    }
    assert_eq!(pair.wait_for_all(ROLLING).await, 0, "duplicates");
}

#[tokio::test]
async fn the_backlog_of_shards_that_are_no_longer_in_the_file_is_delivered() {
    let (mut pair, [home, _, _]) = divided(super::LONG).await;
    let relay = home.start_ready().await;
    wait_for_balance(&pair, 1).await;
    pair.publish(0..40).await;
    home.wait_until_waiting("broken", 80).await;
    relay.stop().await;
    home.write_routes(&ROUTES.edit("shards: 4", "shards: 1"));
    let relay = home.start_ready().await;
    pair.broken.come_back().await;
    assert_eq!(pair.wait_for_all(40).await, 0, "duplicates");
    assert_eq!(wait_for_balance(&pair, 1).await.len(), SHARDS.len(), "each has an owner");
    relay.stop().await;
}
