//! A sink is renamed or removed: its spooled deliveries are shown wherever an operator looks, until they are redriven,
//! purged, or the sink is configured again.

use serde_json::Value;

use crate::configuration::Edit;
use crate::support::response::lives;
use crate::support::{Answer, Home, lines_of, start_with_backlog, until, with_webhook};

const ROUTES: &str = configuration! {
    sinks: {
        on_call: r#"{ webhook: { url: "${HOOK}" }, retry: { initial_backoff: 100ms, max_backoff: 1s } }"#,
        archive: "{ file: { path: archive.ndjson } }",
    },
    "delivery: { shutdown_grace: 1s }",
};

#[tokio::test]
async fn orphans_are_reported_at_the_reload_and_at_each_start() {
    let (regards, receiver, home) = with_webhook(ROUTES).await;
    let relay = start_with_backlog(&home, &regards, &receiver, "on_call", &lives("t", "orphan", 5)).await;
    assert_eq!(relay.metric("spool_orphans", &[("sink", "on_call")]).await, Ok(Some(0.0)));

    relay.reload(&ROUTES.edit_each(2, "on_call", "pager"), "success").await;
    relay.wait_for_metric("spool_orphans", &[("sink", "on_call")], 10.0).await;
    assert_eq!(relay.metric("spool_orphans", &[("sink", "pager")]).await, Ok(Some(0.0)));
    let said = warning(&home, 1).await;
    assert_eq!(said["sink"], "on_call", "{said}");
    for word in ["10 deliveries wait", "spool redrive --sink on_call --to", "spool purge --sink on_call"] {
        assert!(said.to_string().contains(word), "{said}");
    }
    let (status, page) = relay.page("/readyz").await.expect("an answer");
    let page: Value = serde_json::from_str(&page).expect("JSON");
    assert_eq!((status, &page["ready"]), (200, &Value::Bool(true)), "the sources consume: {page}");
    assert_eq!(page["sinks"]["on_call"]["state"], "orphaned", "{page}");
    let reason = page["sinks"]["on_call"]["reason"].as_str().expect("a reason");
    assert!(reason.contains("10 deliveries") && reason.contains("spool redrive --sink on_call"), "{reason}");
    relay.stop().await;

    let relay = home.start_ready().await;
    warning(&home, 2).await;
    receiver.answers(|_| Answer::Status(204));
    home.does(&["spool", "redrive", "--sink", "on_call", "--to", "pager", "--yes"]);
    receiver.wait_for_accepted(10).await;
    until("no orphans", async || match relay.metric("spool_orphans", &[]).await? {
        Some(0.0) => Ok(()),
        orphans => Err(format!("{orphans:?}")),
    })
    .await;
    let (_, page) = relay.page("/readyz").await.expect("an answer");
    assert!(!page.contains("on_call"), "{page}");
    relay.stop().await;
    warning(&home, 2).await;
}

/// Waits for this number of warnings about the removed sink, and returns the last one.
async fn warning(home: &Home, count: usize) -> Value {
    until(&format!("{count} warnings of orphans"), async || {
        let lines = home.warnings_with(&["\"on_call\"", "not in the configuration"]);
        match lines.last() {
            Some(last) if lines.len() == count => Ok(serde_json::from_str(last).expect("JSON")),
            _ => Err(format!("{lines:?}")),
        }
    })
    .await
}

#[tokio::test]
async fn a_name_without_a_backlog_is_an_error() {
    let (regards, receiver, home) = with_webhook(ROUTES).await;
    let relay = start_with_backlog(&home, &regards, &receiver, "on_call", &lives("t", "orphan", 2)).await;
    relay.reload(&ROUTES.edit_each(2, "on_call", "pager"), "success").await;
    let commands: [&[&str]; 4] = [
        &["spool", "redrive", "--sink", "oncall", "--to", "pager", "--yes"],
        &["spool", "purge", "--sink", "oncall", "--yes"],
        &["spool", "--sink", "oncall"],
        &["dead-letters", "list", "--sink", "pagr"],
    ];
    for command in commands {
        let done = home.run(command);
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(2), "{command:?}: {said}");
        assert!(
            said.contains("did you mean `on_call`?") || said.contains("did you mean `pager`?"),
            "{command:?}: {said}"
        );
    }
    assert_eq!(home.waiting("on_call"), 4);
    relay.stop().await;
}

/// The deliveries of a removed sink are orphans until the sink is configured again.
#[tokio::test]
async fn the_backlog_of_a_removed_sink_is_shown_as_orphaned() {
    let (regards, receiver, home) = with_webhook(ROUTES).await;
    let relay = start_with_backlog(&home, &regards, &receiver, "on_call", &lives("t", "orphan", 5)).await;
    let without = ROUTES.without_sink("on_call").edit("[on_call, archive]", "archive");
    relay.reload(&without, "success").await;
    let spool = home.spool();
    let on_call = spool.iter().find(|line| line["sink"] == "on_call").expect("the sink");
    assert_eq!((&on_call["count"], &on_call["orphans"]), (&10.into(), &10.into()));
    receiver.answers(|_| Answer::Status(204));
    relay.reload(ROUTES, "success").await;
    receiver.wait_for_accepted(10).await;
    relay.stop().await;
}

/// While the relay runs, the backlog of a removed sink can be redriven to another sink, in order and without
/// duplicates. Without a relay it can be purged.
#[tokio::test]
async fn orphans_are_redriven_to_another_sink_or_purged() {
    let (regards, receiver, home) = with_webhook(ROUTES).await;
    let published = lives("t", "orphan", 600);
    let relay = start_with_backlog(&home, &regards, &receiver, "on_call", &published).await;
    let configured = home.run(&["spool", "purge", "--sink", "on_call"]);
    assert_eq!(configured.status.code(), Some(2));
    let said = String::from_utf8_lossy(&configured.stderr);
    assert!(said.contains("sink on_call is in the configuration"), "{said}");

    let renamed = ROUTES.edit("archive.ndjson", "other.ndjson").edit_each(2, "archive", "other");
    let without = renamed.without_sink("on_call").edit("[on_call, other]", "other");
    relay.reload(&without, "success").await;
    let redriven = home.does(&["spool", "redrive", "--sink", "on_call", "--to", "other", "--json"]);
    assert_eq!(redriven, r#"{"redriven":1200,"sinks":{"other":1200},"left":{}}"#);
    home.wait_for_lines("other.ndjson", 1_200).await;
    home.wait_until_waiting("other", 0).await;
    let lines = lines_of(home.data("other.ndjson"));
    for number in [0, 7, 599] {
        let id = format!("orphan-{number}");
        let of = |line: &&Value| line["correlationId"] == id.as_str();
        let statuses: Vec<&Value> = lines.iter().filter(of).map(|line| &line["status"]).collect();
        assert_eq!(statuses, ["GRANTED", "SUCCESS"], "{id}");
    }
    assert_eq!((home.waiting("on_call"), receiver.accepted().len()), (0, 0));

    relay.reload(ROUTES, "success").await;
    regards.publish_all(&published[..10]).await;
    home.wait_until_waiting("on_call", 10).await;
    relay.reload(&without, "success").await;
    relay.stop().await;
    assert_eq!(home.does(&["spool", "purge", "--sink", "on_call"]), "10 deliveries purged");
    assert_eq!(home.does(&["spool", "purge", "--sink", "on_call", "--json"]), r#"{"purged":0}"#);
    assert_eq!(home.waiting("on_call"), 0);
}
