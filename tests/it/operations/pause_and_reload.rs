//! Commands to a running relay: pause, resume, redrive, reload.

use serde_json::Value;

use crate::configuration::Edit;
use crate::support::response::lives;
use crate::support::webhook::Posted;
use crate::support::{Answer, Home, Receiver, Regards, Response, lines_of, with_webhook};

const ROUTES: &str = configuration! {
    sinks: {
        hook: r#"{ webhook: { url: "${HOOK}" }, retry: { initial_backoff: 100ms, max_backoff: 1s } }"#,
        archive: "{ file: { path: archive.ndjson } }",
    },
    "delivery: { shutdown_grace: 1s }",
};

#[tokio::test]
async fn a_sink_is_paused_and_resumed_beside_a_relay_and_without_one() {
    let (regards, receiver, home) = with_webhook(ROUTES).await;
    // The first run creates the spool. A pause that is set without a relay takes effect at the next start.
    home.start_ready().await.stop().await;
    home.does(&["pause", "--sink", "hook"]);
    let relay = home.start_ready().await;
    regards.publish_all(&lives("t", "paused", 20)).await;
    home.wait_for_lines("archive.ndjson", 40).await;
    regards.wait_until_acknowledged().await;
    home.wait_until_waiting("hook", 40).await;
    assert_eq!(receiver.posted().len(), 0);
    home.does(&["resume", "--sink", "hook"]);
    receiver.wait_for_accepted(40).await;
    home.does(&["pause", "--sink", "hook"]);
    relay.wait_for_metric("sink_paused", &[("sink", "hook")], 1.0).await;
    regards.publish(&Response::new("t", "last", "GRANTED")).await;
    home.wait_for_lines("archive.ndjson", 41).await;
    relay.stop().await;
    assert_eq!(receiver.posted().len(), 40);
    home.does(&["resume", "--sink", "hook"]);
    let relay = home.start_ready().await;
    receiver.wait_for_accepted(41).await;
    relay.stop().await;

    let unknown = home.run(&["pause", "--sink", "hok"]);
    assert_eq!(unknown.status.code(), Some(2));
    let said = String::from_utf8_lossy(&unknown.stderr);
    assert!(said.contains("there is no sink hok; there are hook, archive"), "{said}");
}

#[tokio::test]
async fn a_source_is_paused_and_resumed() {
    let (regards, receiver, home) = with_webhook(ROUTES).await;
    let relay = home.start_ready().await;
    home.does(&["pause", "--source", "regards"]);
    relay.wait_until_unready(&["source regards is paused"]).await;
    regards.publish_all(&lives("t", "paused", 5)).await;
    assert_eq!(regards.vhost.left_in(&regards.queue).await, 10, "all wait in their queue");
    relay.kill();
    let relay = home.start();
    relay.wait_until_unready(&["source regards is paused"]).await;
    home.does(&["resume", "--source", "regards"]);
    relay.wait_until_ready().await;
    receiver.wait_for_accepted(10).await;
    relay.stop().await;
}

#[tokio::test]
async fn dead_letters_are_redriven_in_order_to_where_they_are_wanted() {
    // One lane for all deliveries, so that they arrive in the order of the redrive.
    let by_tenant = ROUTES.edit("hook: { webhook", "hook: { order_by: tenant, webhook");
    let (regards, receiver, home) = with_webhook(&by_tenant).await;
    receiver.answers(|_| Answer::Status(422));
    let relay = home.start_ready().await;
    // Too few failures to open the breaker of the sink.
    let published = lives("t", "refused", 4);
    regards.publish_all(&published).await;
    let mut unreadable = Response::new("t", "unreadable", "SUCCESS");
    unreadable.body = b"not JSON".to_vec();
    regards.publish(&unreadable).await;
    relay.wait_for_metric("dead_letters_total", &[], 9.0).await;

    let dry_run = home.does(&["dead-letters", "redrive", "--dry-run", "--json"]);
    assert_eq!(
        dry_run,
        r#"{"redriven":8,"sinks":{"hook":8},"left":{"its message still can't be decoded (not_json)":1}}"#
    );
    assert_eq!(home.dead_letters().len(), 9, "nothing was done");
    receiver.answers(|_| Answer::Status(204));
    let done = home.does(&["dead-letters", "redrive", "--limit", "3", "--reason", "refused", "--json"]);
    assert_eq!(done, r#"{"redriven":3,"sinks":{"hook":3},"left":{}}"#);
    receiver.wait_for_accepted(3).await;
    let left = home.dead_letters();
    let refused = left.iter().rev().filter(|letter| letter["reason"] == "refused");
    let oldest_first: Vec<Value> = refused.map(|letter| letter["correlationId"].clone()).collect();
    let done = home.does(&["dead-letters", "redrive", "--reason", "refused", "--rate", "20/s", "--json"]);
    assert_eq!(done, r#"{"redriven":5,"sinks":{"hook":5},"left":{}}"#);
    let accepted = receiver.wait_for_accepted(8).await;
    let order: Vec<Value> = accepted[3..].iter().map(|posted| posted.json()["correlationId"].clone()).collect();
    assert_eq!(order, oldest_first, "the oldest first");
    let letters = home.dead_letters();
    assert_eq!((letters.len(), letters[0]["reason"].as_str()), (1, Some("not_json")));
    relay.stop().await;

    // A redrive without a relay, and to another sink.
    receiver.answers(|_| Answer::Status(422));
    let relay = home.start_ready().await;
    regards.publish(&Response::new("t", "elsewhere", "GRANTED")).await;
    relay.wait_for_metric("dead_letters_total", &[("reason", "refused")], 1.0).await;
    relay.stop().await;
    let done = home.does(&["dead-letters", "redrive", "--to", "archive", "--reason", "refused", "--json"]);
    assert_eq!(done, r#"{"redriven":1,"sinks":{"archive":1},"left":{}}"#);
    assert_eq!(home.waiting("archive"), 1);
    let relay = home.start_ready().await;
    home.wait_for_lines("archive.ndjson", 10).await;
    relay.stop().await;
}

#[tokio::test]
async fn a_valid_reload_takes_effect_and_an_invalid_one_does_not() {
    let (regards, receiver, home) = with_webhook(ROUTES).await;
    let other = Receiver::start().await;
    let home = home.with("OTHER", &other.url());
    let relay = home.start_ready().await;
    regards.publish(&Response::new("t", "first", "GRANTED")).await;
    receiver.wait_for_accepted(1).await;

    relay.reload(&ROUTES.edit("to: [hook, archive]", "to: nowhere"), "failure").await;
    assert_eq!(relay.metric("config_last_reload_successful", &[]).await, Ok(Some(0.0)));
    regards.publish(&Response::new("t", "second", "GRANTED")).await;
    receiver.wait_for_accepted(2).await;

    let added = ROUTES.edit("  archive:", "  new: { webhook: { url: \"${OTHER}\" } }\n  archive:");
    relay.reload(&added.edit("to: [hook, archive]", "to: [new, archive]"), "success").await;
    assert_eq!(relay.metric("config_last_reload_successful", &[]).await, Ok(Some(1.0)));
    regards.publish(&Response::new("t", "third", "GRANTED")).await;
    other.wait_for_accepted(1).await;

    // On SIGHUP the relay reads the file even if it has not changed.
    relay.signal("HUP");
    relay.wait_for_metric("config_reloads_total", &[("result", "success")], 2.0).await;
    relay.stop().await;
    assert_eq!((receiver.posted().len(), lines_of(home.data("archive.ndjson")).len()), (2, 3));
}

/// The relay renders the backlog at each attempt, with the current configuration. A corrected address unblocks the
/// backlog.
#[tokio::test]
async fn a_stuck_backlog_follows_the_corrected_configuration() {
    let regards = Regards::new().await;
    let (wrong, right) = (Receiver::start().await, Receiver::start().await);
    let home = Home::of(
        &regards,
        &ROUTES.edit("initial_backoff: 100ms, max_backoff: 1s", "initial_backoff: 1h, max_backoff: 1h"),
    )
    .with("HOOK", &wrong.url())
    .with("RIGHT", &right.url());
    wrong.answers(|_| Answer::Status(404));
    let relay = home.start_ready().await;
    let published = lives("t", "stuck", 10);
    regards.publish_all(&published).await;
    relay.wait_for_metric("delivery_attempts_total", &[("sink", "hook"), ("result", "retry")], 5.0).await;
    regards.wait_until_acknowledged().await;
    relay.reload(&ROUTES.edit("${HOOK}", "${RIGHT}"), "success").await;
    let accepted = right.wait_for_accepted(20).await;
    relay.stop().await;
    let statuses = |id: &str| -> Vec<Value> {
        let of = |posted: &&Posted| posted.json()["correlationId"] == id;
        accepted.iter().filter(of).map(|posted| posted.json()["status"].clone()).collect()
    };
    assert_eq!(statuses("stuck-7"), ["GRANTED", "SUCCESS"]);
    assert_eq!(home.waiting("hook"), 0);
}

/// `order_by` changes while the spool has deliveries in the old order. No delivery overtakes another.
#[tokio::test]
async fn a_changed_order_by_waits_for_the_old_backlog() {
    let (regards, receiver, home) = with_webhook(ROUTES).await;
    receiver.answers(|_| Answer::Status(503));
    let relay = home.start_ready().await;
    let published = lives("t", "order", 20);
    let (granted, success) = published.split_at(20);
    regards.publish_all(granted).await;
    regards.wait_until_acknowledged().await;
    let by_tenant = ROUTES.edit("webhook: { url: \"${HOOK}\" }", "order_by: tenant, webhook: { url: \"${HOOK}\" }");
    relay.reload(&by_tenant, "success").await;
    regards.publish_all(success).await;
    regards.wait_until_acknowledged().await;
    receiver.answers(|_| Answer::Status(204));
    let accepted = receiver.wait_for_accepted(40).await;
    relay.stop().await;
    for number in 0..20 {
        let id = format!("order-{number}");
        let of = |posted: &&Posted| posted.json()["correlationId"] == id.as_str();
        let statuses: Vec<Value> = accepted.iter().filter(of).map(|posted| posted.json()["status"].clone()).collect();
        assert_eq!(statuses, ["GRANTED", "SUCCESS"], "{id}");
    }
}

#[tokio::test]
async fn the_environment_sets_the_admin_address() {
    let regards = Regards::new().await;
    let home = Home::of(&regards, STDOUT).with("REGARDS_RELAY_ADMIN_LISTEN", "127.0.0.2:0");
    let relay = home.start_ready().await;
    let admin = relay.admin().expect("it says where");
    assert!(admin.starts_with("http://127.0.0.2:"), "{admin}");
    relay.stop().await;
    let wrong = Home::of(&regards, STDOUT).with("REGARDS_RELAY_ADMIN_LISTEN", "9464").run(&["run"]);
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(!wrong.status.success() && said.contains("REGARDS_RELAY_ADMIN_LISTEN=9464"), "{said}");
}

const STDOUT: &str = configuration! {
    sinks: {
        screen: "{ stdout: {} }",
    },
};
