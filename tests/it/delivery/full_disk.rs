//! The disk is full: no event is lost, the source is blocked, and the relay continues when there is room again.

use std::collections::BTreeSet;

use crate::support::response::lives;
use crate::support::{Answer, Response, fill_disk, until, with_webhook};

const ROUTES: &str = configuration! {
    queue: "prefetch: 200",
    sinks: {
        hook: r#"{ webhook: { url: "${HOOK}", concurrency: 32 }, retry: { initial_backoff: 100ms, max_backoff: 1s } }"#,
    },
    "delivery: { shutdown_grace: 1s }",
};

/// A disk of 8 MiB for the data directory, in a mount namespace of the relay alone. It disappears with the relay and
/// needs no root.
const SMALL_DISK: [&str; 6] = disk(r#"mkdir -p data && mount -t tmpfs -o size=8m tmpfs data && exec "$0" "$@""#);
/// A disk of 5 MiB.
const SMALLER_DISK: [&str; 6] = disk(r#"mkdir -p data && mount -t tmpfs -o size=5m tmpfs data && exec "$0" "$@""#);

const fn disk(mount: &str) -> [&str; 6] {
    ["unshare", "--map-root-user", "--mount", "sh", "-c", mount]
}

#[tokio::test]
async fn a_disk_of_eight_mebibytes_fills_up_and_nothing_is_lost() {
    let (regards, receiver, home) = with_webhook(ROUTES).await;
    receiver.answers(|_| Answer::Status(503));
    let relay = home.start_under(&SMALL_DISK);
    relay.wait_until_ready().await;
    // These need more than twice the space of the disk.
    let published = lives("t", "full", 6_000);
    regards.publish_all(&published).await;
    relay.wait_until_unready(&["make room on"]).await;
    let (ready, _) = regards.vhost.depth(&regards.queue).await;
    assert!(ready > 0, "all others wait in the queue");

    receiver.answers(|_| Answer::Status(204));
    receiver.wait_for_accepted(published.len()).await;
    relay.wait_until_ready().await;
    relay.stop().await;
    assert_eq!(regards.vhost.left_in(&regards.queue).await, 0);
    let accepted = receiver.accepted();
    let different: BTreeSet<String> = accepted.iter().map(|posted| posted.json()["id"].to_string()).collect();
    assert_eq!((accepted.len(), different.len()), (published.len(), published.len()), "each once");
    regards.assert_left_as_found().await;
}

#[tokio::test]
async fn a_disk_filled_by_others_is_reported_until_it_has_room() {
    let (regards, receiver, home) = with_webhook(ROUTES).await;
    receiver.answers(|_| Answer::Status(503));
    let relay = home.start_under(&SMALL_DISK);
    relay.wait_until_ready().await;
    let published = lives("t", "filled", 100);
    regards.publish_all(&published[..50]).await;
    relay.wait_for_metric("spool_deliveries", &[], 1.0).await;

    let filler = relay.its(&home.data("filler"));
    fill_disk(&filler);
    regards.publish_all(&published[50..]).await;
    // The test also fills the space that a failed write frees, so that the relay cannot even open the spool again.
    let failures = until("several tries to store something", async || {
        fill_disk(&filler);
        let failures = home.warnings_with(&["trying again in"]);
        if failures.len() > 3 { Ok(failures) } else { Err(failures.join("\n")) }
    })
    .await;
    let unclear: Vec<_> = failures.iter().filter(|failure| !failure.contains("make room on its disk")).collect();
    assert!(unclear.is_empty(), "{unclear:#?}");
    relay.wait_until_unready(&["make room on"]).await;

    std::fs::remove_file(filler).expect("removed");
    receiver.answers(|_| Answer::Status(204));
    receiver.wait_for_accepted(published.len()).await;
    relay.wait_until_ready().await;
    relay.stop().await;
    regards.assert_left_as_found().await;
}

/// Dead letters leave enough room on the disk for the relay to record successful deliveries.
#[tokio::test]
async fn a_disk_full_of_dead_letters_blocks_no_delivery() {
    let (regards, receiver, home) = with_webhook(ROUTES).await;
    receiver.answers(|_| Answer::Status(503));
    let relay = home.start_under(&SMALLER_DISK);
    relay.wait_until_ready().await;
    let published = lives("t", "first", 300);
    regards.publish_all(&published).await;
    relay.wait_for_metric("spool_deliveries", &[], 600.0).await;
    let unreadable: Vec<_> = (0..9_000).map(|number| Response::with_body("t", format!("<{number}>"))).collect();
    regards.publish_all(&unreadable).await;
    relay.wait_until_unready(&["make room on"]).await;

    receiver.answers(|_| Answer::Status(204));
    receiver.wait_for_accepted(published.len()).await;
    until("the backlog to be gone", async || match relay.metric("spool_deliveries", &[]).await? {
        Some(0.0) => Ok(()),
        left => Err(format!("{left:?} wait")),
    })
    .await;
    let stored = relay.metric("dead_letters_stored", &[]).await.expect("metrics").unwrap_or_default();
    assert!(stored > 1_000.0, "{stored} dead letters");
    relay.stop().await;
    let accepted = receiver.accepted();
    let different: BTreeSet<String> = accepted.iter().map(|posted| posted.json()["id"].to_string()).collect();
    assert_eq!((accepted.len(), different.len()), (published.len(), published.len()), "each once");
    assert!(regards.vhost.left_in(&regards.queue).await > 0, "what found no room is still in the queue");
}
