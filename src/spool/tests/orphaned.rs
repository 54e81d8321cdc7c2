//! What is promised of deliveries for a sink that nobody delivers to.

use super::deliveries::{bodies, sink, spill, take, waiting};
use super::*;

fn other() -> SinkName {
    SinkName::new("other")
}

/// Of each key in the order in which they were handed in, and behind what waits there already.
#[tokio::test]
async fn another_sink_gets_them_in_their_order() {
    let setup = Setup::new();
    let spool = setup.open();
    spill(&spool, [(1, 10), (1, 11), (2, 20), (1, 12)].map(|(key, number)| waiting(key, number)));
    let (_, settled) = spill(&spool, [Waiting { sink: other(), ..waiting(1, 9) }]);
    all(settled).await;
    let mut watch = spool.watch(other()).await.unwrap();
    let mut after = None;
    for number in [10, 11, 20, 12] {
        let orphans = orphans(spool.path(), "hook", after).unwrap();
        let (id, waiting) = orphans[0].clone();
        let waiting = waiting.unwrap();
        assert_eq!(&*waiting.message.body, format!("<{number}>").as_bytes());
        let redriven = spool.redrive(Origin::Orphan(id, sink()), vec![Waiting { sink: other(), ..waiting }]).unwrap();
        assert_eq!(redriven.await, Ok(true));
        assert!(matches!(watch.news.recv().await, Some(News::Added { .. })), "whoever delivers it hears of it");
        after = Some(id);
    }
    assert_eq!(orphans(spool.path(), "hook", None).unwrap().len(), 0);
    let counts: Vec<_> = spool.shares().into_iter().map(|(sink, share)| (sink, share.count())).collect();
    assert_eq!(counts, [(sink(), 0), (other(), 5)]);
    spool.close(GRACE).await;

    let spool = setup.open();
    let mut watch = spool.watch(other()).await.unwrap();
    spool.take(other(), Portion { count: 10, bytes: 1 << 20 });
    let Some(News::Due(due)) = watch.news.recv().await else { panic!() };
    assert_eq!(due.rows.len(), 2, "one of each key");
    spool.close(GRACE).await;
}

#[tokio::test]
async fn what_is_delivered_is_no_orphan() {
    let setup = Setup::new();
    let spool = setup.open();
    let (ids, settled) = spill(&spool, [waiting(1, 1)]);
    all(settled).await;
    let mut watch = spool.watch(sink()).await.unwrap();
    let redrive =
        |id| spool.redrive(Origin::Orphan(id, sink()), vec![Waiting { sink: other(), ..waiting(1, 1) }]).unwrap();
    assert_eq!(redrive(ids[0]).await, Ok(false));
    let refused = spool.purge(Unwanted::Orphans(sink()), &Arc::default()).await.unwrap_err();
    assert!(refused.contains("still delivered"), "{refused}");
    assert_eq!(bodies(&take(&spool, &mut watch, 10).await), ["<1>"]);
    // Once its dispatcher is gone, also what that one had in its hands is.
    drop(watch);
    assert_eq!(redrive(ids[0]).await, Ok(true));
    assert_eq!(redrive(ids[0]).await, Ok(false), "it is gone");
    let counts: Vec<_> = spool.shares().into_iter().map(|(sink, share)| (sink, share.count())).collect();
    assert_eq!(counts, [(sink(), 0), (other(), 1)]);
    spool.close(GRACE).await;
}

#[tokio::test]
async fn they_are_purged_and_nothing_else() {
    let setup = Setup::new();
    let spool = setup.open();
    let many = (0..1_200).map(|number| waiting(number % 7, number));
    let (_, settled) = spill(&spool, many.chain([Waiting { sink: other(), ..waiting(1, 9_000) }]));
    all(settled).await;
    let progress = Arc::default();
    assert_eq!(spool.purge(Unwanted::Orphans(sink()), &progress).await, Ok(1_200));
    assert_eq!(progress.done(), 1_200);
    assert_eq!(spool.purge(Unwanted::Orphans(sink()), &Arc::default()).await, Ok(0));
    let counts: Vec<_> = spool.shares().into_iter().map(|(sink, share)| (sink, share.count())).collect();
    assert_eq!(counts, [(sink(), 0), (other(), 1)]);
    let (_, settled) = spill(&spool, [waiting(1, 1)]);
    all(settled).await;
    let mut watch = spool.watch(sink()).await.unwrap();
    assert_eq!(bodies(&take(&spool, &mut watch, 10).await), ["<1>"], "nothing is before it");
    spool.close(GRACE).await;
}

/// What is behind one that has no room must not overtake it.
#[tokio::test]
async fn without_room_they_stay() {
    let mut setup = Setup::new();
    setup.max_size = 4_000;
    let spool = setup.open();
    let (ids, settled) = spill(&spool, [waiting(1, 1)]);
    all(settled).await;
    let mut large = waiting(1, 1);
    large.sink = other();
    large.message = Arc::new(Message { body: vec![b'x'; 3_000].into(), ..Message::clone(&large.message) });
    let refused = spool.redrive(Origin::Orphan(ids[0], sink()), vec![large]).err().unwrap();
    assert!(refused.contains("no room for sink other"), "{refused}");
    assert_eq!(spool.shares()[0].1.count(), 1);
    spool.close(GRACE).await;
}
