//! `spool migrate` moves a spool between a file and PostgreSQL.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use super::shards::{self, divided, wait_for_balance};
use super::{LONG, Pair};
use crate::configuration::Edit;
use crate::support::{Answer, Home, Response, until};

const ALERTS: &str = "alerts: [{ name: late, to: broken, overdue: { within: 1h } }]";
const SPOOL: &str =
    "spool: { postgres: { url: '${POSTGRES}', password: '${PASSWORD}', schema: '${SCHEMA}', lease: '${LEASE}' } }";

/// The configuration with the spool in PostgreSQL.
fn in_postgres() -> String {
    format!("{}\n{ALERTS}\n", super::ROUTES)
}

/// The same with the spool in a file.
fn in_a_file() -> String {
    in_postgres().edit(SPOOL, "")
}

/// The request that has no end until the spool was moved.
const OPEN: &str = "request open";

/// Publishes what is missing, and waits until all events of so many requests have been delivered in order, once.
async fn finish(pair: &mut Pair, home: &Home, requests: usize) {
    pair.regards.publish(&Response::new("t", OPEN, "SUCCESS")).await;
    pair.broken.come_back().await;
    home.does(&["dead-letters", "redrive"]);
    assert_eq!(pair.wait_for_all(requests + 2).await, 0, "duplicates");
}

/// Moves the spool, and returns what was moved.
fn migrate(home: &Home, to: &str) -> Value {
    serde_json::from_str(&home.does(&["spool", "migrate", "--to", to, "--json"])).expect("JSON")
}

/// The dead letters without what differs after a move.
fn letters(home: &Home) -> Vec<Value> {
    let mut letters = home.dead_letters();
    for letter in &mut letters {
        letter.as_object_mut().expect("an object").remove("id");
    }
    letters
}

fn refused(home: &Home, arguments: &[&str], why: &str) {
    let done = home.run(arguments);
    let error = String::from_utf8_lossy(&done.stderr);
    assert!(!done.status.success() && error.contains(why), "{arguments:?}: {error}");
}

/// A spool in a file with dead letters, open requests, a pause, and deliveries of so many requests for the broken webhook.
async fn filled(pair: &mut Pair, home: &Home, requests: usize) {
    home.write_routes(&in_a_file());
    let relay = home.start_ready().await;
    pair.broken.answers(|_| Answer::Body(400, "nul \0, backslash \\, both \\0".to_owned()));
    pair.broken.come_back().await;
    pair.publish(1_000..1_001).await;
    until("two dead letters", async || match home.dead_letters().len() {
        2 => Ok(()),
        found => Err(format!("{found}")),
    })
    .await;
    pair.broken.answers(|_| Answer::Status(200));
    pair.broken.go_down().await;
    pair.publish(0..requests).await;
    pair.regards.publish(&Response::new("t", OPEN, "GRANTED")).await;
    home.wait_until_waiting("broken", 2 * requests as u64 + 1).await;
    pair.healthy.wait_for_accepted(2 * requests + 3).await;
    home.does(&["pause", "--sink", "healthy"]);
    relay.stop().await;
}

#[tokio::test]
async fn a_spool_goes_to_postgres_and_back_without_loss() {
    let mut pair = Pair::with_long_lease().await;
    let home = std::mem::replace(&mut pair.third, Home::new(super::ROUTES));
    filled(&mut pair, &home, 50).await;
    let before = letters(&home);
    home.write_routes(&in_postgres());
    refused(&home, &["spool", "migrate", "--to", "postgres", "--file", "none.db"], "there is no spool to move");

    let moved = migrate(&home, "postgres");
    let counts = ["deliveries", "deadLetters", "requests", "states"].map(|key| moved[key].as_u64().expect("a number"));
    assert_eq!((counts[0], counts[1], counts[2]), (101, 2, 1), "{moved}");
    assert!(counts[3] >= 2, "{moved}");
    assert_eq!(letters(&home), before);
    home.write_routes(&in_a_file());
    refused(&home, &["run"], "was moved to postgresql://");
    refused(&home, &["dead-letters", "list"], "was moved to postgresql://");
    home.write_routes(&in_postgres());
    let again = home.run(&["spool", "migrate", "--to", "postgres"]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("was already moved"), "{again:?}");

    // What is added there comes behind it.
    let relay = home.start_ready().await;
    refused(&home, &["spool", "migrate", "--to", "sqlite"], "is in use by");
    home.does(&["resume", "--sink", "healthy"]);
    pair.publish(50..60).await;
    home.wait_until_waiting("broken", 121).await;
    relay.stop().await;
    let moved = migrate(&home, "sqlite");
    assert_eq!((&moved["deliveries"], &moved["deadLetters"]), (&121.into(), &2.into()), "{moved}");
    refused(&home, &["run"], "was moved to ");
    home.write_routes(&in_a_file());
    assert_eq!(letters(&home), before);

    let relay = home.start_ready().await;
    pair.publish(60..70).await;
    home.wait_until_waiting("broken", 141).await;
    finish(&mut pair, &home, 70).await;
    relay.stop().await;
}

#[tokio::test]
async fn a_move_can_be_begun_again_whatever_interrupts_it() {
    let mut pair = Pair::with_long_lease().await;
    let home = std::mem::replace(&mut pair.third, Home::new(super::ROUTES));
    filled(&mut pair, &home, 400).await;
    home.write_routes(&in_postgres());
    // Killed later and later, until it is faster.
    let killed = async |to: &str| {
        // A busy machine may need long for it.
        for wait in (0..50).map(|round| Duration::from_millis(10).mul_f64(1.2_f64.powi(round))) {
            let mut command = home.begin(&["spool", "migrate", "--to", to], Stdio::null());
            tokio::time::sleep(wait).await;
            if let Some(status) = command.try_wait().expect("a process") {
                assert!(status.success(), "{status}");
                return;
            }
            command.kill().expect("it runs");
            command.wait().expect("it ends");
        }
        panic!("it never ended");
    };
    killed("postgres").await;
    assert_eq!(pair.number("SELECT count(*) FROM $.all_deliveries").await, 801);
    killed("sqlite").await;
    assert_eq!(pair.sql("SELECT state FROM $.migration").await, "moved");
    // It ended before its last step.
    std::fs::rename(home.data("spool.db"), home.data("spool.db.incoming")).expect("a file");
    let moved = migrate(&home, "sqlite");
    assert_eq!((&moved["deliveries"], &moved["deadLetters"]), (&801.into(), &2.into()), "{moved}");

    migrate(&home, "postgres");
    // The same in the other direction.
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let file = home.data("spool.db").canonicalize().expect("a file");
    pair.sql(&format!("INSERT INTO $.migration VALUES ('copy', '{} on {host}')", file.display())).await;
    refused(&home, &["run"], "has begun and not ended");
    let moved = migrate(&home, "postgres");
    assert_eq!(moved["deliveries"], 801, "{moved}");

    let relay = home.start_ready().await;
    home.does(&["resume", "--sink", "healthy"]);
    finish(&mut pair, &home, 400).await;
    relay.stop().await;
}

#[tokio::test]
async fn all_shards_go_into_one_file() {
    let (mut pair, [home, other, _]) = divided(LONG).await;
    let relay = home.start_ready().await;
    wait_for_balance(&pair, 1).await;
    pair.publish(0..40).await;
    home.wait_until_waiting("broken", 80).await;
    home.does(&["pause", "--sink", "healthy"]);
    relay.stop().await;
    let moved = migrate(&home, "sqlite");
    assert_eq!((&moved["deliveries"], &moved["states"]), (&80.into(), &2.into()), "{moved}");
    refused(&other, &["run"], "was moved to ");
    home.write_routes(&shards::ROUTES.edit("shards: 4", "prefetch: 100").edit(SPOOL, ""));
    let home = home.with("QUEUE", "partner.0");
    let relay = home.start_ready().await;
    assert_eq!(relay.metric("sink_paused", &[("sink", "healthy")]).await, Ok(Some(1.0)));
    pair.broken.come_back().await;
    assert_eq!(pair.wait_for_all(40).await, 0, "duplicates");
    relay.stop().await;
}

#[tokio::test]
async fn a_spool_is_moved_only_where_none_is_and_not_under_a_relay() {
    let mut pair = Pair::with_long_lease().await;
    let (home, elsewhere) = (
        std::mem::replace(&mut pair.third, Home::new(super::ROUTES)),
        std::mem::replace(&mut pair.homes[0], Home::new(super::ROUTES)),
    );
    filled(&mut pair, &home, 5).await;
    home.write_routes(&in_a_file());
    let relay = home.start_ready().await;
    home.write_routes(&in_postgres());
    refused(&home, &["spool", "migrate", "--to", "postgres"], "is in use by the process");
    relay.stop().await;

    // The database has a spool of its own.
    let relay = elsewhere.start_ready().await;
    pair.publish(5..10).await;
    elsewhere.wait_until_waiting("broken", 10).await;
    relay.stop().await;
    refused(&home, &["spool", "migrate", "--to", "postgres"], "is not empty");
    refused(&home, &["spool", "migrate", "--to", "sqlite"], "is not empty");
    // Both are as they were.
    assert_eq!(elsewhere.waiting("broken"), 10);
    home.write_routes(&in_a_file());
    assert_eq!(home.waiting("broken"), 11);
    let relay = elsewhere.start_ready().await;
    relay.stop().await;
}
