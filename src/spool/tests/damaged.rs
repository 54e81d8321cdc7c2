//! What is promised where a row can't be read: it stops nobody, and vanishes from nowhere.

use super::deliveries::{bodies, sink, spill, take, waiting};
use super::*;

/// Leaves a spool of these deliveries, changed by `sql`.
async fn leave(setup: &Setup, all_of_it: impl IntoIterator<Item = Waiting>, sql: &str) {
    let spool = setup.open();
    let (_, settled) = spill(&spool, all_of_it);
    all(settled).await;
    spool.close(GRACE).await;
    Connection::open(setup.config().path).unwrap().execute_batch(sql).unwrap();
}

async fn buried(watch: &mut Watch) -> u64 {
    loop {
        match tokio::time::timeout(GRACE, watch.news.recv()).await.expect("news in time") {
            Some(News::Buried { key: Some(key), .. }) => return key,
            Some(News::Due(due)) if due.rows.is_empty() => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_delivery_that_can_not_be_read_becomes_a_dead_letter_and_the_others_go_on() {
    let setup = Setup::new();
    let rows = [waiting(1, 1), waiting(1, 2), waiting(2, 3), waiting(3, 4), waiting(4, 5)];
    let breaking = "UPDATE deliveries SET properties = '{' WHERE id = 1; UPDATE deliveries SET event_id = x'07' WHERE id = 3; \
                    UPDATE deliveries SET tenant = CAST(x'66ff' AS TEXT), attempts = -1 WHERE id = 4";
    leave(&setup, rows, breaking).await;
    let spool = setup.open();
    let mut watch = spool.watch(sink()).await.unwrap();
    let taken = take(&spool, &mut watch, 10).await;
    assert_eq!(bodies(&taken), ["<5>"]);
    let mut keys = [buried(&mut watch).await, buried(&mut watch).await, buried(&mut watch).await];
    keys.sort_unstable();
    assert_eq!(keys, [1, 2, 3]);
    assert_eq!(bodies(&take(&spool, &mut watch, 10).await), ["<2>"], "the next of its key");
    assert_eq!(setup.ids(&Filter { sink: Some("hook".to_owned()), ..Filter::default() }).len(), 3);
    let shown: Vec<_> = (1..=3).map(|id| setup.read().show(id).unwrap().unwrap()).collect();
    let first = shown.iter().find(|shown| &*shown.message.body == b"<1>").expect("the body of the first");
    assert!(first.listed.detail.contains("delivery 1 of the spool can't be read"), "{}", first.listed.detail);
    assert!(first.damage.is_some());
    assert!(shown.iter().any(|shown| shown.listed.tenant.as_deref() == Some("f\u{fffd}")));
    assert_eq!(spool.problem(), None);
    spool.close(GRACE).await;
}

#[tokio::test]
async fn a_delivery_that_can_not_be_read_waits_where_dead_letters_find_no_room() {
    let mut setup = Setup::new();
    setup.limits.max_size = 10;
    leave(&setup, [waiting(1, 1), waiting(2, 2), waiting(3, 3)], "UPDATE deliveries SET properties = '{' WHERE id = 1")
        .await;
    let spool = setup.open();
    let mut watch = spool.watch(sink()).await.unwrap();
    let taken = take(&spool, &mut watch, 10).await;
    assert_eq!(bodies(&taken), ["<2>", "<3>"]);
    for (id, _) in taken {
        spool.done(id, sink());
    }
    assert_eq!(take(&spool, &mut watch, 10).await, []);
    assert_eq!(spool.shares()[0].1.count(), 1, "it stays where it is");
    spool.close(GRACE).await;
}

#[tokio::test]
async fn names_that_can_not_be_read_stop_nobody() {
    let setup = Setup::new();
    let breaking = "UPDATE deliveries SET sink = CAST(x'ff' AS TEXT) WHERE id = 1; INSERT INTO states VALUES ('sink', CAST(x'ff' AS TEXT), 'x'); \
                    INSERT INTO dead_letters (at, reason, detail, sink, source, attempts, size, properties, body) \
                    VALUES (1, CAST(x'ff' AS TEXT), CAST(x'ff' AS TEXT), CAST(x'ff' AS TEXT), '', -1, 1, '{', x'')";
    leave(&setup, [waiting(1, 1), waiting(2, 2)], breaking).await;
    let spool = setup.open();
    let mut watch = spool.watch(sink()).await.unwrap();
    assert_eq!(bodies(&take(&spool, &mut watch, 10).await), ["<2>"]);
    assert_eq!(waits(&setup.config().path).unwrap().len(), 2);
    assert_eq!(setup.ids(&Filter::default()), [1]);
    assert!(setup.read().show(1).unwrap().unwrap().damage.is_some());
    spool.close(GRACE).await;
}

#[tokio::test]
async fn an_orphan_that_can_not_be_read_keeps_no_other_from_being_redriven() {
    let setup = Setup::new();
    leave(&setup, [waiting(1, 1), waiting(2, 2)], "UPDATE deliveries SET properties = '{' WHERE id = 1").await;
    let orphans = orphans(&setup.config().path, "hook", None).unwrap();
    let read: Vec<_> = orphans.iter().map(|(_, waiting)| waiting.is_ok()).collect();
    assert_eq!(read, [false, true]);
}

/// As an interrupted purge of an older version leaves it, and a head of a row that isn't the oldest of its key, or isn't there.
#[tokio::test]
async fn a_key_whose_head_is_missing_or_wrong_is_delivered_in_order_after_a_start() {
    let setup = Setup::new();
    let rows = [waiting(1, 1), waiting(1, 2), waiting(2, 3), waiting(2, 4), waiting(3, 5)];
    let breaking = "DELETE FROM heads WHERE id = 1; UPDATE heads SET id = 4 WHERE id = 3; \
                    INSERT INTO heads (id, sink, due) VALUES (99, 'hook', 1); UPDATE heads SET sink = 'other' WHERE id = 5";
    leave(&setup, rows, breaking).await;
    let spool = setup.open();
    let mut watch = spool.watch(sink()).await.unwrap();
    let mut taken = take(&spool, &mut watch, 10).await;
    taken.sort_by_key(|(id, _)| *id);
    assert_eq!(bodies(&taken), ["<1>", "<3>", "<5>"]);
    for (id, _) in taken {
        spool.done(id, sink());
    }
    let mut taken = take(&spool, &mut watch, 10).await;
    taken.sort_by_key(|(id, _)| *id);
    assert_eq!(bodies(&taken), ["<2>", "<4>"]);
    spool.close(GRACE).await;
}

/// What keeps the second of its statements from being done undoes the first.
#[tokio::test]
async fn a_purge_of_orphans_that_is_interrupted_leaves_every_key_with_its_head() {
    let setup = Setup::new();
    let failing =
        "CREATE TRIGGER interrupted BEFORE DELETE ON deliveries BEGIN SELECT RAISE(ABORT, 'interrupted'); END";
    leave(&setup, [waiting(1, 1), waiting(2, 2)], failing).await;
    let spool = setup.open();
    spool.purge(Unwanted::Orphans(sink()), &Arc::default()).await.unwrap_err();
    let mut watch = spool.watch(sink()).await.unwrap();
    assert_eq!(bodies(&take(&spool, &mut watch, 10).await), ["<1>", "<2>"]);
    spool.close(GRACE).await;
}
