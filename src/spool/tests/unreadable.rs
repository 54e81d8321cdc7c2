//! Rows that can't be read: they don't stop other deliveries, and they are not lost.

use super::deliveries::{bodies, delivery, sink, spill, take};
use super::*;

/// Leaves a spool with these deliveries, changed by `sql`.
async fn leave(setup: &Setup, all_of_it: impl IntoIterator<Item = SpooledDelivery>, sql: &str) {
    let spool = setup.open();
    let (_, settled) = spill(&spool, all_of_it);
    all(settled).await;
    spool.close(GRACE).await;
    Connection::open(setup.path()).unwrap().execute_batch(sql).unwrap();
}

async fn dead_lettered(subscription: &mut Subscription) -> u64 {
    loop {
        match tokio::time::timeout(GRACE, subscription.events.recv()).await.expect("an event in time") {
            Some(SpoolEvent::DeadLettered { key: Some(key), .. }) => return key,
            Some(SpoolEvent::Due(due)) if due.rows.is_empty() => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn an_unreadable_delivery_becomes_a_dead_letter() {
    let setup = Setup::in_a_file();
    let rows = [delivery(1, 1), delivery(1, 2), delivery(2, 3), delivery(3, 4), delivery(4, 5)];
    let breaking = "UPDATE deliveries SET properties = '{' WHERE id = 1; UPDATE deliveries SET event_id = x'07' WHERE id = 3; \
                    UPDATE deliveries SET tenant = CAST(x'66ff' AS TEXT), attempts = -1 WHERE id = 4";
    leave(&setup, rows, breaking).await;
    let spool = setup.open();
    let mut subscription = spool.subscribe(sink()).await.unwrap();
    let taken = take(&spool, &mut subscription, 10).await;
    assert_eq!(bodies(&taken), ["<5>"]);
    let mut keys = [
        dead_lettered(&mut subscription).await,
        dead_lettered(&mut subscription).await,
        dead_lettered(&mut subscription).await,
    ];
    keys.sort_unstable();
    assert_eq!(keys, [1, 2, 3]);
    assert_eq!(bodies(&take(&spool, &mut subscription, 10).await), ["<2>"], "the next of its key");
    assert_eq!(setup.ids(&DeadLetterFilter { sink: Some("hook".to_owned()), ..DeadLetterFilter::default() }).len(), 3);
    let shown: Vec<_> = (1..=3).map(|id| setup.read().show(id).unwrap().unwrap()).collect();
    let first = shown.iter().find(|shown| &*shown.message.body == b"<1>").expect("the body of the first");
    assert!(first.summary.detail.contains("delivery 1 of the spool can't be read"), "{}", first.summary.detail);
    assert!(first.properties_error.is_some());
    assert!(shown.iter().any(|shown| shown.summary.tenant.as_deref() == Some("f\u{fffd}")));
    assert_eq!(spool.problem(), None);
    spool.close(GRACE).await;
}

#[tokio::test]
async fn an_unreadable_delivery_stays_where_dead_letters_have_no_room() {
    let mut setup = Setup::in_a_file();
    setup.limits.max_size = 10;
    leave(
        &setup,
        [delivery(1, 1), delivery(2, 2), delivery(3, 3)],
        "UPDATE deliveries SET properties = '{' WHERE id = 1",
    )
    .await;
    let spool = setup.open();
    let mut subscription = spool.subscribe(sink()).await.unwrap();
    let taken = take(&spool, &mut subscription, 10).await;
    assert_eq!(bodies(&taken), ["<2>", "<3>"]);
    for (id, _) in taken {
        spool.complete(id, sink());
    }
    assert_eq!(take(&spool, &mut subscription, 10).await, []);
    assert_eq!(spool.sink_usage()[0].1.count(), 1, "it stays where it is");
    spool.close(GRACE).await;
}

#[tokio::test]
async fn unreadable_names_do_not_stop_other_deliveries() {
    let setup = Setup::in_a_file();
    let breaking = "UPDATE deliveries SET sink = CAST(x'ff' AS TEXT) WHERE id = 1; INSERT INTO states VALUES ('sink', CAST(x'ff' AS TEXT), 'x'); \
                    INSERT INTO dead_letters (at, boot, uptime, reason, detail, sink, source, identity, attempts, size, properties, body) \
                    VALUES (1, 0, 0, CAST(x'ff' AS TEXT), CAST(x'ff' AS TEXT), CAST(x'ff' AS TEXT), '', x'', -1, 1, '{', x'')";
    leave(&setup, [delivery(1, 1), delivery(2, 2)], breaking).await;
    let spool = setup.open();
    let mut subscription = spool.subscribe(sink()).await.unwrap();
    assert_eq!(bodies(&take(&spool, &mut subscription, 10).await), ["<2>"]);
    assert_eq!(setup.reader().backlogs().unwrap().len(), 2);
    assert_eq!(setup.ids(&DeadLetterFilter::default()), [1]);
    assert!(setup.read().show(1).unwrap().unwrap().properties_error.is_some());
    spool.close(GRACE).await;
}

#[tokio::test]
async fn an_unreadable_orphan_does_not_stop_a_redrive() {
    let setup = Setup::in_a_file();
    leave(&setup, [delivery(1, 1), delivery(2, 2)], "UPDATE deliveries SET properties = '{' WHERE id = 1").await;
    let orphans = setup.reader().orphans(UNDIVIDED, "hook", None).unwrap();
    let read: Vec<_> = orphans.iter().map(|(_, delivery)| delivery.is_ok()).collect();
    assert_eq!(read, [false, true]);
}

/// Heads that are missing, or belong to a row that is not the oldest of its key, to a row that does not exist, or to another sink.
#[tokio::test]
async fn keys_with_a_missing_or_wrong_head_are_repaired_at_start() {
    let setup = Setup::in_a_file();
    let rows = [delivery(1, 1), delivery(1, 2), delivery(2, 3), delivery(2, 4), delivery(3, 5)];
    let breaking = "DELETE FROM heads WHERE id = 1; UPDATE heads SET id = 4 WHERE id = 3; \
                    INSERT INTO heads (id, sink, due) VALUES (99, 'hook', 1); UPDATE heads SET sink = 'other' WHERE id = 5";
    leave(&setup, rows, breaking).await;
    let spool = setup.open();
    let mut subscription = spool.subscribe(sink()).await.unwrap();
    let mut taken = take(&spool, &mut subscription, 10).await;
    taken.sort_by_key(|(id, _)| *id);
    assert_eq!(bodies(&taken), ["<1>", "<3>", "<5>"]);
    for (id, _) in taken {
        spool.complete(id, sink());
    }
    let mut taken = take(&spool, &mut subscription, 10).await;
    taken.sort_by_key(|(id, _)| *id);
    assert_eq!(bodies(&taken), ["<2>", "<4>"]);
    spool.close(GRACE).await;
}

/// If its second statement fails, its first one is rolled back.
#[tokio::test]
async fn an_interrupted_purge_of_orphans_leaves_each_key_with_its_head() {
    let setup = Setup::in_a_file();
    let failing =
        "CREATE TRIGGER interrupted BEFORE DELETE ON deliveries BEGIN SELECT RAISE(ABORT, 'interrupted'); END";
    leave(&setup, [delivery(1, 1), delivery(2, 2)], failing).await;
    let spool = setup.open();
    spool.purge(PurgeTarget::Orphans(sink()), &Arc::default()).await.unwrap_err();
    let mut subscription = spool.subscribe(sink()).await.unwrap();
    assert_eq!(bodies(&take(&spool, &mut subscription, 10).await), ["<1>", "<2>"]);
    spool.close(GRACE).await;
}
