//! A sink is renamed or removed: its spooled deliveries are shown wherever an operator looks.

use serde_json::Value;

use crate::support::response::lives;
use crate::support::{Answer, Home, Receiver, Regards, until};

const ROUTES: &str = configuration! {
    sinks: {
        on_call: r#"{ webhook: { url: "${HOOK}" }, retry: { initial_backoff: 100ms, max_backoff: 1s } }"#,
    },
    "delivery: { shutdown_grace: 1s }",
};

#[tokio::test]
async fn orphans_are_reported_at_the_reload_and_at_each_start() {
    let regards = Regards::new().await;
    let receiver = Receiver::start().await;
    let home = Home::of(&regards, ROUTES).with("HOOK", &receiver.url());
    receiver.answers(|_| Answer::Status(503));
    let relay = home.start_ready().await;
    regards.publish_all(&lives("t", "orphan", 5)).await;
    home.wait_until_waiting("on_call", 10).await;
    assert_eq!(relay.metric("spool_orphans", &[("sink", "on_call")]).await, Ok(Some(0.0)));

    relay.reload(&ROUTES.replace("on_call", "pager"), "success").await;
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
    let regards = Regards::new().await;
    let receiver = Receiver::start().await;
    let home = Home::of(&regards, ROUTES).with("HOOK", &receiver.url());
    receiver.answers(|_| Answer::Status(503));
    let relay = home.start_ready().await;
    regards.publish_all(&lives("t", "orphan", 2)).await;
    home.wait_until_waiting("on_call", 4).await;
    relay.reload(&ROUTES.replace("on_call", "pager"), "success").await;
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
