//! Another relay takes the spool when its owner stops, crashes or is suspended, and an owner survives faults of the database.

use serde_json::Value;

use super::{Pair, ROUTES, address, start_both, wait_for_standby};
use crate::support::{Answer, Relay, Services, until};

#[tokio::test]
async fn a_standby_goes_on_with_queue_and_backlog_after_a_crash() {
    let mut pair = Pair::new(&Services::shared()).await;
    let [first_home, _] = &pair.homes;
    let [first, second] = start_both(&pair.homes).await;
    pair.publish(0..50).await;
    pair.healthy.wait_for_accepted(100).await;
    first_home.wait_until_waiting("broken", 100).await;
    first.kill();

    second.wait_until_ready().await;
    pair.publish(50..60).await;
    pair.healthy.wait_for_accepted(120).await;
    pair.broken.come_back().await;
    pair.wait_for_all(60).await;
    until("the backlog to be gone", async || match second.metric("spool_deliveries", &[]).await? {
        Some(0.0) => Ok(()),
        left => Err(format!("{left:?}")),
    })
    .await;
    second.stop().await;
    pair.regards.assert_left_as_found().await;
}

#[tokio::test]
async fn a_clean_stop_hands_the_backlog_over_at_once_and_repeats_nothing() {
    let mut pair = Pair::with_long_lease().await;
    let [first_home, _] = &pair.homes;
    let [first, second] = start_both(&pair.homes).await;
    pair.publish(0..20).await;
    first_home.wait_until_waiting("broken", 40).await;
    first.stop().await;
    second.wait_until_ready().await;
    pair.broken.come_back().await;
    assert_eq!(pair.wait_for_all(20).await, 0, "duplicates");
    second.stop().await;
    pair.regards.assert_left_as_found().await;
}

#[tokio::test]
async fn a_stop_that_cuts_attempts_off_is_not_clean() {
    let pair = Pair::with_long_lease().await;
    let home = &pair.homes[0];
    home.write_routes(&format!("{ROUTES}\ndelivery: {{ shutdown_grace: 1s }}\n"));
    let clean = async || pair.sql("SELECT clean FROM $.shards").await;
    let relay = home.start_ready().await;
    assert_eq!(clean().await, "f", "it works");
    relay.stop().await;
    assert_eq!(clean().await, "t");

    pair.healthy.answers(|_| Answer::Never);
    let relay = home.start_ready().await;
    pair.publish(0..1).await;
    pair.healthy.wait_for_posted(1).await;
    relay.stop().await;
    assert_eq!(clean().await, "f", "the attempt may still arrive");
}

#[tokio::test]
async fn two_relays_with_different_configurations_say_so() {
    let pair = Pair::new(&Services::shared()).await;
    let [first_home, second_home] = &pair.homes;
    let first = first_home.start_ready().await;
    second_home.write_routes(&format!("# an older file\n{ROUTES}"));
    let second = second_home.start();
    let says = async |relay: &Relay<'_>, warns: bool| {
        until(&format!("a warning: {warns}"), async || match relay.page("/readyz").await? {
            (200, text) if text.contains("has another configuration than this relay") == warns => Ok(()),
            (status, text) => Err(format!("{status} {text}")),
        })
        .await;
    };
    says(&first, true).await;
    says(&second, true).await;
    for home in [first_home, second_home] {
        home.wait_for_warning(&["different configurations", "deploy the same file"]).await;
    }
    let status: Value = serde_json::from_str(&first_home.does(&["status", "--json"])).expect("JSON");
    let instances = status["spool"]["instances"].as_array().expect("an array").clone();
    let of = |relay: &Relay<'_>| {
        let name = format!("(process {})", relay.pid());
        let is_it = |instance: &&Value| instance["name"].as_str().is_some_and(|text| text.contains(&name));
        let instance = instances.iter().find(is_it).expect("an instance");
        [&instance["state"], &instance["shards"][0]["epoch"], &instance["sameConfiguration"]].map(Value::clone)
    };
    assert_eq!(of(&first), [Value::from("working"), Value::from(1), Value::from(true)]);
    assert_eq!(of(&second), [Value::from("standby"), Value::Null, Value::from(false)]);
    let asked = second_home.run(&["status"]);
    let error = String::from_utf8_lossy(&asked.stderr).into_owned();
    assert!(error.contains(&format!("(process {}) has the spool", first.pid())), "{error}");
    assert!(error.contains("epoch 1"), "{error}");

    second.stop().await;
    second_home.write_routes(ROUTES);
    let second = second_home.start();
    says(&first, false).await;
    wait_for_standby(&second).await;
    says(&second, false).await;
    second.stop().await;
    first.stop().await;
}

#[tokio::test]
async fn an_owner_that_was_suspended_beyond_its_lease_stands_by() {
    let mut pair = Pair::new(&Services::shared()).await;
    pair.healthy.answers(|_| Answer::Status(204));
    let [first_home, _] = &pair.homes;
    let [first, second] = start_both(&pair.homes).await;
    pair.publish(0..20).await;
    first_home.wait_until_waiting("broken", 40).await;
    first.signal("STOP");
    // The broker lets go of a consumer that does not answer.
    second.wait_until_ready().await;
    first.signal("CONT");
    wait_for_standby(&first).await;
    assert!(first_home.log().contains("spool lost"), "{}", first_home.log());
    pair.publish(20..30).await;
    pair.broken.come_back().await;
    pair.wait_for_all(30).await;
    // The roles have changed.
    second.kill();
    first.wait_until_ready().await;
    pair.publish(30..40).await;
    pair.wait_for_all(40).await;
    first.stop().await;
    pair.regards.assert_left_as_found().await;
}

#[tokio::test]
async fn a_database_that_is_killed_or_frozen_loses_nothing() {
    let services = Services::private(&["postgres"]).await;
    let mut pair = Pair::new(services.services()).await;
    let relay = pair.homes[0].start_ready().await;
    pair.publish(0..20).await;
    pair.homes[0].wait_until_waiting("broken", 40).await;

    services.kill("postgres").await;
    pair.publish(20..30).await;
    services.start("postgres").await;
    relay.wait_until_ready().await;
    pair.healthy.wait_for_accepted(60).await;

    services.pause("postgres").await;
    pair.publish(30..40).await;
    relay.wait_until_unready(&["127.0.0.1", "did not answer"]).await;
    services.resume("postgres").await;
    relay.wait_until_ready().await;
    pair.publish(40..50).await;
    pair.broken.come_back().await;
    pair.wait_for_all(50).await;
    relay.stop().await;
    pair.regards.assert_left_as_found().await;
}

#[tokio::test]
async fn a_failover_to_a_synchronous_standby_loses_nothing() {
    let services = Services::private(&["postgres", "postgres-standby"]).await;
    services.synchronous().await;
    let (primary, standby) = (services.services().postgres_port(), services.services().postgres_standby_port());
    let hosts = format!("127.0.0.1:{primary},{}", address(services.services(), standby, "sslmode=require"));
    let mut pair = Pair::with(services.services(), &hosts, "10s").await;
    let [first, second] = start_both(&pair.homes).await;
    pair.publish(0..50).await;
    pair.homes[0].wait_until_waiting("broken", 100).await;
    services.kill("postgres").await;
    let publish = pair.publish(50..100);
    let fail_over = services.promote();
    tokio::join!(publish, fail_over);
    pair.healthy.wait_for_accepted(200).await;
    pair.broken.come_back().await;
    pair.wait_for_all(100).await;
    for relay in [&first, &second] {
        until("a relay to be ready or to stand by", async || match relay.page("/readyz").await? {
            (200, _) => Ok(()),
            (status, text) => Err(format!("{status} {text}")),
        })
        .await;
    }
    first.stop().await;
    second.stop().await;
    pair.wait_for_all(100).await;
    pair.regards.assert_left_as_found().await;
}

#[tokio::test]
async fn a_database_that_ends_connections_or_restarts_in_full_flight_loses_nothing() {
    let services = Services::private(&["postgres"]).await;
    let mut pair = Pair::new(services.services()).await;
    let relay = pair.homes[0].start_ready().await;
    let mut published = 0;
    for fault in ["terminate", "terminate", "restart", "terminate"] {
        let publish = pair.publish(published..published + 50);
        let disturb = async {
            if fault == "restart" {
                services.stop("postgres").await;
                services.start("postgres").await;
            } else {
                services.terminate("postgres").await;
            }
        };
        tokio::join!(publish, disturb);
        published += 50;
    }
    relay.wait_until_ready().await;
    pair.broken.come_back().await;
    pair.wait_for_all(published).await;
    relay.stop().await;
    pair.regards.assert_left_as_found().await;
}
