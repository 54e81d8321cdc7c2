//! The dead letters are full: they block their sink, no other sink, and take no more memory.

use std::time::{Duration, Instant};

use crate::configuration::Edit;
use crate::support::response::lives;
use crate::support::{Answer, Response, start_with_backlog, until, with_webhook};

/// The store has room for about a hundred dead letters of the size in this test.
const ROUTES: &str = configuration! {
    sinks: {
        hook: r#"{ webhook: { url: "${HOOK}" }, retry: { initial_backoff: 100ms, max_backoff: 1s } }"#,
    },
    "dead_letters: { max_size: 1MiB }",
    "delivery: { shutdown_grace: 1s }",
};

/// The in-flight window of a sink.
const WINDOW: f64 = 1_000.0;

/// The count is final once it has not grown for this time.
const STEADY: Duration = Duration::from_secs(3);

#[tokio::test]
async fn full_dead_letters_limit_a_sink_to_its_window() {
    let (regards, receiver, home) = with_webhook(ROUTES).await;
    regards.use_cheap_queue().await;
    let published: Vec<Response> =
        lives("t", "dead", 1_500).into_iter().map(|one| one.field("message", "x".repeat(8 * 1024))).collect();
    let relay = start_with_backlog(&home, &regards, &receiver, "hook", &published).await;
    // The relay cannot render the backlog any more, because its route was removed.
    receiver.answers(|_| Answer::Status(204));
    relay.reload(&ROUTES.edit("name: all", "name: other"), "success").await;
    relay.wait_until_unready(&["dead_letters.max_size"]).await;
    let labels = [("sink", "hook"), ("result", "dead_letter")];
    let (mut count, mut since) = (0.0, Instant::now());
    until("the sink to wait", async || {
        let now = relay.metric("deliveries_total", &labels).await?.unwrap_or_default();
        if now > count {
            (count, since) = (now, Instant::now());
        }
        if count >= WINDOW / 2.0 && since.elapsed() > STEADY { Ok(()) } else { Err(format!("{count} were given up")) }
    })
    .await;
    let stored = relay.metric("dead_letters_stored", &[]).await.expect("metrics").unwrap_or_default();
    assert!(
        count <= WINDOW + stored,
        "{count} deliveries were taken out of the backlog, {stored} of which are on disk"
    );
    assert!(home.waiting("hook") >= 1_500, "all that is no dead letter yet is still in the backlog");

    until("the sink to go on", async || {
        home.does(&["dead-letters", "purge", "--yes"]);
        let now = relay.metric("deliveries_total", &labels).await?.unwrap_or_default();
        if now > count { Ok(()) } else { Err(format!("{now} were given up")) }
    })
    .await;
    relay.stop().await;
}
