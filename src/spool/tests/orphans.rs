//! Deliveries for a sink that is not in the configuration.

use super::deliveries::{bodies, delivery, sink, spill, take};
use super::*;

fn other() -> SinkName {
    SinkName::new("other")
}

/// In the order in which they were spooled, and behind the deliveries that the new sink has already.
#[tokio::test]
async fn orphans_are_redriven_in_order() {
    let setup = Setup::new();
    let spool = setup.open();
    spill(&spool, [(1, 10), (1, 11), (2, 20), (1, 12)].map(|(key, number)| delivery(key, number)));
    let (_, settled) = spill(&spool, [SpooledDelivery { sink: other(), ..delivery(1, 9) }]);
    all(settled).await;
    let mut subscription = spool.subscribe(other()).await.unwrap();
    let mut after = None;
    for number in [10, 11, 20, 12] {
        let orphans = spool.reader().orphans(UNDIVIDED, "hook", after).unwrap();
        let (id, delivery) = orphans[0].clone();
        let delivery = delivery.unwrap();
        assert_eq!(&*delivery.message.body, format!("<{number}>").as_bytes());
        let redriven = spool
            .redrive(RedriveOrigin::Orphan(id, sink()), vec![SpooledDelivery { sink: other(), ..delivery }])
            .unwrap();
        assert_eq!(redriven.await, Ok(true));
        assert!(
            matches!(subscription.events.recv().await, Some(SpoolEvent::Added { .. })),
            "the sink's dispatcher is told"
        );
        after = Some(id);
    }
    assert_eq!(spool.reader().orphans(UNDIVIDED, "hook", None).unwrap().len(), 0);
    let counts: Vec<_> = spool.sink_usage().into_iter().map(|(sink, share)| (sink, share.count())).collect();
    assert_eq!(counts, [(sink(), 0), (other(), 5)]);
    spool.close(GRACE).await;

    let spool = setup.open();
    let mut subscription = spool.subscribe(other()).await.unwrap();
    spool.fetch_due(other(), FetchLimit { count: 10, bytes: 1 << 20, ..FetchLimit::default() });
    let Some(SpoolEvent::Due(due)) = subscription.events.recv().await else { panic!() };
    assert_eq!(due.rows.len(), 2, "one of each key");
    spool.close(GRACE).await;
}

#[tokio::test]
async fn deliveries_of_an_active_sink_are_no_orphans() {
    let setup = Setup::new();
    let spool = setup.open();
    let (ids, settled) = spill(&spool, [delivery(1, 1)]);
    all(settled).await;
    let mut subscription = spool.subscribe(sink()).await.unwrap();
    let redrive = |id| {
        spool
            .redrive(RedriveOrigin::Orphan(id, sink()), vec![SpooledDelivery { sink: other(), ..delivery(1, 1) }])
            .unwrap()
    };
    assert_eq!(redrive(ids[0]).await, Ok(false));
    let refused = spool.purge(PurgeTarget::Orphans(sink()), &Arc::default()).await.unwrap_err();
    assert!(refused.contains("sink hook still delivers"), "{refused}");
    assert_eq!(bodies(&take(&spool, &mut subscription, 10).await), ["<1>"]);
    // Without a dispatcher, also the deliveries that it held are orphans.
    drop(subscription);
    assert_eq!(redrive(ids[0]).await, Ok(true));
    assert_eq!(redrive(ids[0]).await, Ok(false), "it is gone");
    let counts: Vec<_> = spool.sink_usage().into_iter().map(|(sink, share)| (sink, share.count())).collect();
    assert_eq!(counts, [(sink(), 0), (other(), 1)]);
    spool.close(GRACE).await;
}

#[tokio::test]
async fn only_orphans_of_the_sink_are_purged() {
    let setup = Setup::new();
    let spool = setup.open();
    let many = (0..1_200).map(|number| delivery(number % 7, number));
    let (_, settled) = spill(&spool, many.chain([SpooledDelivery { sink: other(), ..delivery(1, 9_000) }]));
    all(settled).await;
    let progress = Arc::default();
    assert_eq!(spool.purge(PurgeTarget::Orphans(sink()), &progress).await, Ok(1_200));
    assert_eq!(progress.done(), 1_200);
    assert_eq!(spool.purge(PurgeTarget::Orphans(sink()), &Arc::default()).await, Ok(0));
    let counts: Vec<_> = spool.sink_usage().into_iter().map(|(sink, share)| (sink, share.count())).collect();
    assert_eq!(counts, [(sink(), 0), (other(), 1)]);
    let (_, settled) = spill(&spool, [delivery(1, 1)]);
    all(settled).await;
    let mut subscription = spool.subscribe(sink()).await.unwrap();
    assert_eq!(bodies(&take(&spool, &mut subscription, 10).await), ["<1>"], "nothing is before it");
    spool.close(GRACE).await;
}

/// Later orphans must not overtake one that has no room.
#[tokio::test]
async fn orphans_stay_where_the_new_sink_has_no_room() {
    let mut setup = Setup::new();
    setup.max_size = 4_000;
    let spool = setup.open();
    let (ids, settled) = spill(&spool, [delivery(1, 1)]);
    all(settled).await;
    let mut large = delivery(1, 1);
    large.sink = other();
    large.message = Arc::new(Message { body: vec![b'x'; 3_000].into(), ..Message::clone(&large.message) });
    let refused = spool.redrive(RedriveOrigin::Orphan(ids[0], sink()), vec![large]).err().unwrap();
    assert!(refused.contains("no room for sink other"), "{refused}");
    assert_eq!(spool.sink_usage()[0].1.count(), 1);
    spool.close(GRACE).await;
}
