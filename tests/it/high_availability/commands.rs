//! Commands do the same on any machine: beside an owner, beside a relay that has other shards, or beside none.

use std::collections::BTreeSet;
use std::process::Stdio;

use serde_json::Value;

use super::shards::{divided, wait_for_balance};
use super::{LONG, Pair, start_both};
use crate::support::{Answer, Home, Relay, until};

fn json(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

async fn wait_until_paused(relays: &[&Relay<'_>], paused: bool) {
    let expected = Ok(Some(if paused { 1.0 } else { 0.0 }));
    for relay in relays {
        until("the sink to be paused or resumed", async || {
            let found = relay.metric("sink_paused", &[("sink", "healthy")]).await;
            if found == expected { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await;
    }
}

/// The numbers of the dead letters, as `dead-letters list` orders them.
fn listed(home: &Home, arguments: &[&str]) -> Vec<i64> {
    let listed = home.does(&[&["dead-letters", "list", "--json"], arguments].concat());
    json(&listed).iter().map(|letter| letter["id"].as_i64().expect("a number")).collect()
}

/// Makes so many dead letters, one after the other.
async fn make_dead_letters(pair: &mut Pair, home: &Home, count: usize) {
    pair.broken.answers(|_| Answer::Status(400));
    pair.broken.come_back().await;
    for request in 0..count / 2 {
        pair.publish(request..=request).await;
        until("dead letters", async || match listed(home, &[]).len() {
            found if found == 2 * (request + 1) => Ok(()),
            found => Err(format!("{found} of {}", 2 * (request + 1))),
        })
        .await;
    }
}

/// Waits until a relay does a step.
async fn wait_until_begun(pair: &Pair) {
    until("a relay to begin", async || {
        match pair.number("SELECT count(*) FROM $.command_steps WHERE answer IS NULL AND epoch IS NOT NULL").await {
            1 => Ok(()),
            _ => Err("none".to_owned()),
        }
    })
    .await;
}

fn shards_of(ids: &[i64]) -> BTreeSet<i64> {
    ids.iter().map(|id| id / 1_000_000_000).collect()
}

#[tokio::test]
async fn a_machine_without_a_relay_commands_all_shards() {
    let (mut pair, [first_home, second_home, elsewhere]) = divided(LONG).await;
    let first = first_home.start_ready().await;
    let second = second_home.start();
    wait_for_balance(&pair, 2).await;

    elsewhere.does(&["pause", "--sink", "healthy"]);
    wait_until_paused(&[&first, &second], true).await;
    make_dead_letters(&mut pair, &elsewhere, 24).await;
    assert!(pair.healthy.accepted().is_empty());
    elsewhere.does(&["resume", "--sink", "healthy"]);
    wait_until_paused(&[&first, &second], false).await;
    pair.healthy.wait_for_accepted(24).await;
    for shard in 0..4 {
        elsewhere.does(&["pause", "--source", &format!("regards.{shard}")]);
    }
    assert_eq!(pair.number("SELECT count(*) FROM $.all_states WHERE kind = 'source'").await, 4);
    for shard in 0..4 {
        elsewhere.does(&["resume", "--source", &format!("regards.{shard}")]);
    }

    // The newest first, and the oldest are purged: whatever shards they are in.
    let all = listed(&elsewhere, &[]);
    assert!(shards_of(&all).len() > 2, "{all:?}");
    let times = pair.sql("SELECT id FROM $.all_dead_letters ORDER BY at DESC, id DESC").await;
    assert_eq!(all, times.lines().map(|id| id.parse().expect("a number")).collect::<Vec<i64>>());
    assert_eq!(listed(&elsewhere, &["--limit", "7"]), all[..7]);
    let would = elsewhere.does(&["dead-letters", "purge", "--limit", "10", "--dry-run"]);
    assert_eq!(would.trim(), "10 dead letters would be purged");
    let purged = elsewhere.does(&["dead-letters", "purge", "--limit", "10", "--yes"]);
    assert_eq!(purged.trim(), "10 dead letters purged");
    assert_eq!(listed(&elsewhere, &[]), all[..14]);

    let posted = pair.broken.posted().len();
    pair.broken.answers(|_| Answer::Status(200));
    let redriven = elsewhere.does(&["dead-letters", "redrive", "--json"]);
    let redriven: Value = serde_json::from_str(&redriven).expect("JSON");
    assert_eq!((&redriven["redriven"], &redriven["sinks"]["broken"]), (&14.into(), &14.into()), "{redriven}");
    pair.broken.wait_for_posted(posted + 14).await;
    assert!(listed(&elsewhere, &[]).is_empty());
    for relay in [first, second] {
        relay.stop().await;
    }
}

/// The relay has taken a step, and the answer that says so was lost.
#[tokio::test]
async fn a_step_that_was_taken_without_an_answer_is_done() {
    let pair = Pair::with_long_lease().await;
    let relay = pair.homes[0].start_ready().await;
    let command = pair.number("INSERT INTO $.commands (seen_at) VALUES (NULL) RETURNING id").await;
    let request = serde_json::json!({ "pause": { "sink": "healthy" } });
    pair.sql(&format!(
        "INSERT INTO $.command_steps (command, step, shard, request, total, epoch) \
         SELECT {command}, 0, shard, '{request}', 0, epoch FROM $.shards"
    ))
    .await;
    wait_until_paused(&[&relay], true).await;
    until("the answer", async || match pair.sql("SELECT answer FROM $.command_steps").await {
        answer if answer == "\"done\"" => Ok(()),
        answer => Err(answer),
    })
    .await;
    relay.stop().await;
}

#[tokio::test]
async fn the_backlog_of_a_removed_sink_is_redriven_and_purged_from_any_machine() {
    let (pair, [first_home, second_home, elsewhere]) = divided(LONG).await;
    let first = first_home.start_ready().await;
    let second = second_home.start();
    wait_for_balance(&pair, 2).await;
    pair.publish(0..20).await;
    elsewhere.wait_until_waiting("broken", 40).await;
    for relay in [first, second] {
        relay.stop().await;
    }
    let without = super::shards::ROUTES.replace("broken", "other");
    for home in [&first_home, &second_home, &elsewhere] {
        home.write_routes(&without);
    }
    let first = first_home.start_ready().await;
    let second = second_home.start();
    wait_for_balance(&pair, 2).await;
    let redriven = elsewhere.does(&["spool", "redrive", "--sink", "broken", "--to", "other", "--json"]);
    assert_eq!(json(&redriven)[0]["redriven"], 40, "{redriven}");
    elsewhere.wait_until_waiting("other", 40).await;
    assert_eq!(elsewhere.waiting("broken"), 0);

    for relay in [first, second] {
        relay.stop().await;
    }
    for home in [&first_home, &elsewhere] {
        home.write_routes(super::shards::ROUTES);
    }
    let first = first_home.start_ready().await;
    wait_for_balance(&pair, 1).await;
    assert_eq!(elsewhere.does(&["spool", "purge", "--sink", "other"]).trim(), "40 deliveries purged");
    assert_eq!(elsewhere.waiting("other"), 0);
    first.stop().await;
}

#[tokio::test]
async fn a_standby_commands_the_owner_and_a_job_ends_with_its_client() {
    let mut pair = Pair::with_long_lease().await;
    let unused = [Home::new(super::ROUTES), Home::new(super::ROUTES)];
    let homes = std::mem::replace(&mut pair.homes, unused);
    let [owner, standby] = start_both(&homes).await;
    let beside_standby = &homes[1];
    make_dead_letters(&mut pair, beside_standby, 4).await;
    beside_standby.does(&["pause", "--sink", "healthy"]);
    wait_until_paused(&[&owner], true).await;

    // Slow enough to be seen. A detached one is stopped by its number, another one when its client is gone.
    let redrive = ["dead-letters", "redrive", "--rate", "1/h"];
    let started = beside_standby.does(&[&redrive[..], &["--detach", "--json"]].concat());
    let job = json(&started)[0]["job"].to_string();
    let jobs = || json(&beside_standby.does(&["jobs", "--json"]));
    assert_eq!((jobs()[0]["id"].to_string(), &jobs()[0]["total"]), (job.clone(), &4.into()));
    beside_standby.does(&["jobs", "stop", &job]);
    let gone = async || if jobs().is_empty() { Ok(()) } else { Err(format!("{:?}", jobs())) };
    until("the job to be stopped", gone).await;
    let ended = async || match pair.number("SELECT count(*) FROM $.command_steps WHERE answer IS NULL").await {
        0 => Ok(()),
        running => Err(format!("{running} steps")),
    };
    until("its answer", ended).await;
    let mut client = beside_standby.begin(&redrive, Stdio::null());
    wait_until_begun(&pair).await;
    client.kill().expect("it runs");
    client.wait().expect("it ends");
    until("the job to end", ended).await;

    // A job whose relay crashes is no success.
    let client = beside_standby.begin_failing(&redrive);
    wait_until_begun(&pair).await;
    owner.kill();
    pair.sql("UPDATE $.shards SET expires_at = clock_timestamp()").await;
    let ended = tokio::task::spawn_blocking(|| client.wait_with_output()).await.expect("no panic").expect("output");
    let error = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(!ended.status.success() && error.contains("has stopped or was replaced"), "{error}");
    // The one that took over knows the pause.
    wait_until_paused(&[&standby], true).await;
    standby.stop().await;

    // Without a relay, the command has the spool itself. It gives the schema of an earlier version what that lacks.
    pair.sql("DROP TABLE $.command_steps, $.commands, $.migration; UPDATE $.schema_version SET version = 2").await;
    let purged = beside_standby.does(&["dead-letters", "purge", "--yes"]);
    // The first of a redrive is not held up by its rate: it may be on its way.
    assert!(["3 dead letters purged", "4 dead letters purged"].contains(&purged.as_str()), "{purged}");
    assert_eq!(pair.sql("SELECT version, to_regclass('$.commands') IS NOT NULL FROM $.schema_version").await, "3|t");
}
