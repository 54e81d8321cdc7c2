//! What is promised of transactions whose end is unknown: a commit that is reported as failed, and on the disk all the same.

use super::deliveries::{bodies, sink, spill, take, waiting};
use super::*;

fn count(spool: &Spool, sink: &SinkName) -> u64 {
    spool.shares().iter().filter(|(name, _)| name == sink).map(|(_, share)| share.count()).sum()
}

async fn news(watch: &mut Watch) -> News {
    tokio::time::timeout(GRACE, watch.news.recv()).await.expect("news in time").expect("a writer")
}

#[tokio::test]
async fn a_redriven_dead_letter_is_delivered() {
    let setup = Setup::new();
    let spool = setup.open();
    let mut watch = spool.watch(sink()).await.unwrap();
    all(store(&spool, 0..1)).await;
    spool.shared.unknown_commits.store(1, Ordering::Relaxed);
    let redriven = spool.redrive(Origin::Letter(1), vec![waiting(1, 1)]).unwrap();
    assert_eq!(redriven.await, Ok(true));
    assert!(matches!(news(&mut watch).await, News::Added { key: 1 }));
    let taken = take(&spool, &mut watch, 10).await;
    assert_eq!(bodies(&taken), ["<1>"]);
    assert_eq!((count(&spool, &sink()), setup.ids(&Filter::default()).len(), spool.bytes()), (1, 0, 0));
    spool.done(taken[0].0, sink());
    assert_eq!(take(&spool, &mut watch, 10).await, []);
    assert_eq!(spool.shares()[0].1, Share::default());
    spool.close(GRACE).await;
}

#[tokio::test]
async fn a_redriven_orphan_is_delivered() {
    let setup = Setup::new();
    let spool = setup.open();
    let other = SinkName::new("other");
    let (ids, settled) = spill(&spool, [waiting(1, 1)]);
    all(settled).await;
    let mut watch = spool.watch(other.clone()).await.unwrap();
    spool.shared.unknown_commits.store(1, Ordering::Relaxed);
    let redirected = Waiting { sink: other.clone(), ..waiting(1, 1) };
    let redriven = spool.redrive(Origin::Orphan(ids[0], sink()), vec![redirected]).unwrap();
    assert_eq!(redriven.await, Ok(true));
    assert!(matches!(news(&mut watch).await, News::Added { key: 1 }));
    assert_eq!((count(&spool, &sink()), count(&spool, &other)), (0, 1));
    spool.close(GRACE).await;
}

#[tokio::test]
async fn a_copy_of_a_dead_letter_is_delivered() {
    let setup = Setup::new();
    let spool = setup.open();
    spool.copy_dead_letters_to(Some(sink()));
    let mut watch = spool.watch(sink()).await.unwrap();
    spool.shared.unknown_commits.store(1, Ordering::Relaxed);
    assert_eq!(all(store(&spool, 0..1)).await, done(0..1));
    assert!(matches!(news(&mut watch).await, News::Added { .. }));
    assert_eq!(bodies(&take(&spool, &mut watch, 10).await), ["<0>"]);
    assert_eq!(count(&spool, &sink()), 1);
    assert_eq!(spool.tallies(), [(Reason::NotJson, None, Tally { stored: 1, kept: 1 })]);
    spool.close(GRACE).await;
}

/// One that a redelivered message was recognized as isn't taken for the next copy, too.
#[tokio::test]
async fn what_was_recognized_is_not_recognized_again() {
    let setup = Setup::new();
    let spool = setup.open();
    let (_, settled) = spill(&spool, [waiting(1, 7)]);
    all(settled).await;
    spool.close(GRACE).await;
    let spool = setup.open();
    let mut watch = spool.watch(sink()).await.unwrap();
    for _ in 0..2 {
        spool.shared.unknown_commits.store(1, Ordering::Relaxed);
        let (_, settled) = spill(&spool, [Waiting { may_be_known: true, ..waiting(1, 7) }]);
        assert_eq!(all(settled).await, done(0..1));
    }
    assert!(matches!(news(&mut watch).await, News::Known { key: 1 }));
    assert_eq!(count(&spool, &sink()), 2, "the one from before, and the second copy");
    spool.close(GRACE).await;
}
