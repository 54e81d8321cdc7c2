//! The disk is full: no event is lost, the source is blocked, and the relay continues when there is room again.

use std::collections::BTreeSet;

use crate::configuration::Edit;
use crate::support::response::lives;
use crate::support::{Answer, Receiver, Response, fill_disk, until, with_webhook};

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

const GROUPED: &str = configuration! {
    queue: "prefetch: 20",
    sinks: {
        hook: r#"{ webhook: { url: "${SINGLE}", concurrency: 32 } }"#,
        grouped: r#"{ webhook: { url: "${DIGEST}", concurrency: 32 }, group: { by: [tenant], wait: 200ms, max: 10 }, when_full: block }"#,
    },
    "journal: none",
    "delivery: { shutdown_grace: 1s }",
};

/// A sink that delivers needs no disk. One with `group` does, for each event: `when_full` says whether its source waits for room or its
/// events are dropped.
#[tokio::test]
async fn a_full_disk_stops_no_sink_that_delivers_but_one_with_groups() {
    let single =
        |receiver: &Receiver| receiver.accepted().iter().filter(|posted| posted.path.ends_with("/single")).count();
    let in_digests = |receiver: &Receiver| {
        let accepted = receiver.accepted();
        let digests = accepted.iter().filter(|posted| posted.path.ends_with("/digest"));
        digests.map(|posted| posted.json().as_array().map_or(1, Vec::len)).sum::<usize>()
    };
    let without_groups = GROUPED.edit(" group: { by: [tenant], wait: 200ms, max: 10 },", "");
    let (regards, receiver, home) = with_webhook(&without_groups).await;
    let home = home
        .with("SINGLE", &format!("{}/single", receiver.url()))
        .with("DIGEST", &format!("{}/digest", receiver.url()));
    let relay = home.start_under(&SMALL_DISK);
    relay.wait_until_ready().await;
    let filler = relay.its(&home.data("filler"));
    let until_delivered = async |count: usize| {
        until(&format!("{count} single events"), async || match single(&receiver) {
            seen if seen >= count => Ok(()),
            seen => Err(seen.to_string()),
        })
        .await;
    };
    fill_disk(&filler);
    // The relay notices it when it writes.
    relay.reload(&without_groups.edit("prefetch: 20", "prefetch: 21"), "success").await;
    home.wait_for_warning(&["trying again in"]).await;
    let published = lives("t", "disk", 50);
    regards.publish_all(&published[..50]).await;
    until_delivered(50).await;
    regards.wait_until_acknowledged().await;
    assert_eq!(in_digests(&receiver), 50, "both sinks deliver from memory");

    // Now the other sink has groups.
    relay.reload(GROUPED, "success").await;
    fill_disk(&filler);
    regards.publish_all(&published[50..]).await;
    relay.wait_until_unready(&["make room on"]).await;
    let blocked = [("source", "regards"), ("reason", "disk")];
    relay.wait_for_metric("source_blocked", &blocked, 1.0).await;
    assert_eq!(in_digests(&receiver), 50, "no digest is delivered that is not stored");
    let (ready, _) = regards.vhost.depth(&regards.queue).await;
    assert!(ready > 0, "the others wait in the queue");

    // Dropped where the configuration says so, and nothing waits for the disk.
    relay.reload(&GROUPED.edit("when_full: block", "when_full: drop_newest"), "success").await;
    until_delivered(100).await;
    let dropped = [("sink", "grouped"), ("result", "dropped")];
    relay.wait_for_metric("deliveries_total", &dropped, 1.0).await;
    regards.wait_until_acknowledged().await;

    std::fs::remove_file(filler).expect("removed");
    relay.reload(GROUPED, "success").await;
    relay.wait_until_ready().await;
    let before = in_digests(&receiver);
    regards.publish_all(&lives("t", "room", 10)).await;
    until("20 more events in digests", async || match in_digests(&receiver) - before {
        20 => Ok(()),
        seen => Err(seen.to_string()),
    })
    .await;
    relay.stop().await;
    regards.assert_left_as_found().await;
}
