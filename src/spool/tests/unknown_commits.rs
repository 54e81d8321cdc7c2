//! Transactions with an unknown outcome: the commit is reported as failed, but is on disk.

use std::sync::atomic::Ordering;

use super::deliveries::{bodies, delivery, sink, spill, take};
use super::*;

fn count(spool: &Spool, sink: &SinkName) -> u64 {
    spool.sink_usage().iter().filter(|(name, _)| name == sink).map(|(_, share)| share.count()).sum()
}

async fn next_event(subscription: &mut Subscription) -> SpoolEvent {
    tokio::time::timeout(GRACE, subscription.events.recv()).await.expect("an event in time").expect("a writer")
}

#[tokio::test]
async fn a_redriven_dead_letter_is_delivered() {
    let setup = Setup::new();
    let spool = setup.open();
    let mut subscription = spool.subscribe(sink()).await.unwrap();
    all(store(&spool, 0..1)).await;
    spool.shared.unknown_commits.store(1, Ordering::Relaxed);
    let redriven = spool.redrive(RedriveOrigin::DeadLetter(1), vec![delivery(1, 1)]).unwrap();
    assert_eq!(redriven.await, Ok(true));
    assert!(matches!(next_event(&mut subscription).await, SpoolEvent::Added { key: 1 }));
    let taken = take(&spool, &mut subscription, 10).await;
    assert_eq!(bodies(&taken), ["<1>"]);
    assert_eq!(
        (count(&spool, &sink()), setup.ids(&DeadLetterFilter::default()).len(), spool.dead_letter_bytes()),
        (1, 0, 0)
    );
    spool.complete(taken[0].0, sink());
    assert_eq!(take(&spool, &mut subscription, 10).await, []);
    assert_eq!(spool.sink_usage()[0].1, SinkUsage::default());
    spool.close(GRACE).await;
}

#[tokio::test]
async fn a_redriven_orphan_is_delivered() {
    let setup = Setup::new();
    let spool = setup.open();
    let other = SinkName::new("other");
    let (ids, settled) = spill(&spool, [delivery(1, 1)]);
    all(settled).await;
    let mut subscription = spool.subscribe(other.clone()).await.unwrap();
    spool.shared.unknown_commits.store(1, Ordering::Relaxed);
    let redirected = SpooledDelivery { sink: other.clone(), ..delivery(1, 1) };
    let redriven = spool.redrive(RedriveOrigin::Orphan(ids[0], sink()), vec![redirected]).unwrap();
    assert_eq!(redriven.await, Ok(true));
    assert!(matches!(next_event(&mut subscription).await, SpoolEvent::Added { key: 1 }));
    assert_eq!((count(&spool, &sink()), count(&spool, &other)), (0, 1));
    spool.close(GRACE).await;
}

#[tokio::test]
async fn a_copy_of_a_dead_letter_is_delivered() {
    let setup = Setup::new();
    let spool = setup.open();
    spool.copy_dead_letters_to(Some(sink()));
    let mut subscription = spool.subscribe(sink()).await.unwrap();
    spool.shared.unknown_commits.store(1, Ordering::Relaxed);
    assert_eq!(all(store(&spool, 0..1)).await, done(0..1));
    assert!(matches!(next_event(&mut subscription).await, SpoolEvent::Added { .. }));
    assert_eq!(bodies(&take(&spool, &mut subscription, 10).await), ["<0>"]);
    assert_eq!(count(&spool, &sink()), 1);
    assert_eq!(spool.dead_letter_counts(), [(Reason::NotJson, None, DeadLetterCount { total: 1, stored: 1 })]);
    spool.close(GRACE).await;
}

/// The next copy of a redelivered message is not recognized as the same row.
#[tokio::test]
async fn a_recognized_row_is_not_recognized_again() {
    let setup = Setup::new();
    let spool = setup.open();
    let (_, settled) = spill(&spool, [delivery(1, 7)]);
    all(settled).await;
    spool.close(GRACE).await;
    let spool = setup.open();
    let mut subscription = spool.subscribe(sink()).await.unwrap();
    for _ in 0..2 {
        spool.shared.unknown_commits.store(1, Ordering::Relaxed);
        let (_, settled) = spill(&spool, [SpooledDelivery { may_be_known: true, ..delivery(1, 7) }]);
        assert_eq!(all(settled).await, done(0..1));
    }
    assert!(matches!(next_event(&mut subscription).await, SpoolEvent::AlreadySpooled { key: 1 }));
    assert_eq!(count(&spool, &sink()), 2, "the existing delivery, and the second copy");
    spool.close(GRACE).await;
}
