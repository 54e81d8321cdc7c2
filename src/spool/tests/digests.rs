//! The promises of digests in the spool.

use super::deliveries::{delivery, sink, spill};
use super::*;
use crate::clock::{MonotonicTime, Timestamp};

const WAIT: Duration = Duration::from_hours(1);
const TIMING: GroupTiming = GroupTiming { wait: WAIT, limit: LIMIT, at_once_up_to: None };
const LIMIT: DigestLimit = DigestLimit { count: 3, bytes: 1 << 20 };

/// A delivery of a group that is due.
fn grouped(key: u64, number: u64, group: &str) -> SpooledDelivery {
    SpooledDelivery { group: Some(group.into()), ..delivery(key, number) }
}

/// Fetches due digests: the ids, and the bodies of those of one digest behind each other.
async fn take(spool: &Spool, subscription: &mut Subscription, limit: DigestLimit) -> (Vec<RowId>, Vec<String>) {
    spool.fetch_due(sink(), FetchLimit { count: 100, bytes: 1 << 20, digests: Some(limit), up_to: None });
    loop {
        match tokio::time::timeout(GRACE, subscription.events.recv()).await.expect("an answer in time") {
            Some(SpoolEvent::Due(due)) => {
                let mut digests: Vec<(RowId, String)> = Vec::new();
                for (_, row) in &due.rows {
                    let (digest, body) = (row.digest.unwrap(), String::from_utf8(row.message.body.to_vec()).unwrap());
                    match digests.last_mut() {
                        Some((last, bodies)) if *last == digest => bodies.push_str(&body),
                        _ => digests.push((digest, body)),
                    }
                }
                let ids = due.rows.into_iter().map(|(id, _)| id).collect();
                return (ids, digests.into_iter().map(|(_, bodies)| bodies).collect());
            }
            Some(SpoolEvent::DeadLettered { .. } | SpoolEvent::MoreDue) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_digest_stays_the_same_after_it_was_fetched() {
    let setup = Setup::in_a_file();
    let spool = setup.open();
    let (_, settled) = spill(&spool, [grouped(1, 1, "a"), grouped(1, 2, "a"), grouped(2, 3, "b")]);
    all(settled).await;
    let mut subscription = spool.subscribe(sink()).await.unwrap();
    let (ids, digests) = take(&spool, &mut subscription, LIMIT).await;
    assert_eq!(digests, ["<1><2>", "<3>"]);
    let (_, settled) = spill(&spool, [grouped(1, 4, "a")]);
    all(settled).await;
    spool.reschedule_digest((ids[0], vec![ids[1]]), sink(), (1, Some(1)), MonotonicTime::now(), "down".to_owned());
    let (_, digests) = take(&spool, &mut subscription, LIMIT).await;
    assert_eq!(digests, ["<1><2>"], "a later one does not join it");
    spool.close(GRACE).await;

    let spool = setup.open();
    let mut subscription = spool.subscribe(sink()).await.unwrap();
    let (ids, digests) = take(&spool, &mut subscription, DigestLimit { count: 1, ..LIMIT }).await;
    assert_eq!(digests, ["<3>", "<1><2>"], "also with other limits");
    let read = setup.reader().deliveries_of_event("hook", 1, Uuid::from_u128(2)).unwrap();
    let second = read[0].delivery.as_ref().unwrap();
    assert_eq!((second.attempts, second.last_error.as_deref()), (1, Some("down")), "each event has its attempts");
    spool.complete_digest(ids[1..].to_vec(), sink(), GroupTiming { wait: Duration::ZERO, ..TIMING });
    assert_eq!(take(&spool, &mut subscription, LIMIT).await.1, ["<4>"]);
    spool.close(GRACE).await;
    let file = Connection::open(setup.path()).unwrap();
    let heads: i64 = file.query_row("SELECT count(*) FROM heads", [], |row| row.get(0)).unwrap();
    assert_eq!(heads, 2);
}

#[tokio::test]
async fn the_next_digest_is_due_when_its_first_event_has_waited_or_its_group_is_full() {
    let setup = Setup::new();
    let spool = setup.open();
    let mut subscription = spool.subscribe(sink()).await.unwrap();
    for (case, more, is_due) in [("it waits", 1_usize, false), ("it is full", 3, true)] {
        let (_, settled) = spill(&spool, (0..3 + more as u64).map(|number| grouped(1, number, "a")));
        all(settled).await;
        let (ids, digests) = take(&spool, &mut subscription, LIMIT).await;
        assert_eq!(digests, ["<0><1><2>"]);
        spool.complete_digest(ids, sink(), TIMING);
        assert_eq!(take(&spool, &mut subscription, LIMIT).await.1.len(), usize::from(is_due), "{case}");
        if !is_due {
            spool.make_due(sink(), WaitsFor::BackOff, MonotonicTime::now());
            assert!(take(&spool, &mut subscription, LIMIT).await.1.is_empty(), "only a back-off is cut short");
            let limit = DigestLimit { count: more, ..LIMIT };
            spool.make_full_groups_due(sink(), Groups::Of(vec![1]), DigestLimit { count: more + 1, ..limit });
            assert!(take(&spool, &mut subscription, LIMIT).await.1.is_empty(), "it is not full");
            spool.make_full_groups_due(sink(), Groups::Of(vec![1]), limit);
        }
        let (ids, _) = take(&spool, &mut subscription, LIMIT).await;
        spool.complete_digest(ids, sink(), TIMING);
        spool.make_due(sink(), WaitsFor::Group, MonotonicTime::now());
        let (ids, _) = take(&spool, &mut subscription, LIMIT).await;
        spool.complete_digest(ids, sink(), TIMING);
    }
    // It was received long ago, as after an outage.
    let old = Timestamp::now().before(2 * WAIT);
    let rows = (0..4).map(|number| SpooledDelivery { received: old, ..grouped(2, number, "b") });
    let (_, settled) = spill(&spool, rows);
    all(settled).await;
    spool.make_due(sink(), WaitsFor::Group, MonotonicTime::now());
    loop {
        let (ids, digests) = take(&spool, &mut subscription, LIMIT).await;
        let is_last = digests == ["<3>"];
        spool.complete_digest(ids, sink(), TIMING);
        if is_last {
            break;
        }
        assert!(!digests.is_empty());
    }
    spool.close(GRACE).await;
}

#[tokio::test]
async fn a_digest_is_bounded_and_has_one_group_only() {
    let setup = Setup::new();
    let spool = setup.open();
    // Two groups have the same hash.
    let rows = [grouped(1, 1, "a"), grouped(1, 2, "a"), grouped(1, 3, "other"), grouped(1, 4, "a"), delivery(1, 5)];
    let (_, settled) = spill(&spool, rows);
    all(settled).await;
    let mut subscription = spool.subscribe(sink()).await.unwrap();
    let mut digests = Vec::new();
    for _ in 0..4 {
        let (ids, digest) = take(&spool, &mut subscription, LIMIT).await;
        digests.extend(digest);
        spool.complete_digest(ids, sink(), GroupTiming { wait: Duration::ZERO, ..TIMING });
    }
    assert_eq!(digests, ["<1><2>", "<3>", "<4>", "<5>"]);
    assert!(take(&spool, &mut subscription, LIMIT).await.0.is_empty());
    let (_, settled) = spill(&spool, (1..=5).map(|number| grouped(2, number, "a")));
    all(settled).await;
    let of_five = spool.sink_usage()[0].1.bytes();
    let limit = DigestLimit { count: 10, bytes: of_five / 2 };
    assert_eq!(take(&spool, &mut subscription, limit).await.1, ["<1><2>"]);
    spool.close(GRACE).await;
}

#[tokio::test]
async fn a_damaged_row_of_a_digest_becomes_a_dead_letter_and_the_others_go_on() {
    let setup = Setup::in_a_file();
    let spool = setup.open();
    let (_, settled) = spill(&spool, (1..=3).map(|number| grouped(1, number, "a")));
    all(settled).await;
    spool.close(GRACE).await;
    Connection::open(setup.path())
        .unwrap()
        .execute_batch("UPDATE deliveries SET properties = '{' WHERE id = 1")
        .unwrap();
    let spool = setup.open();
    let mut subscription = spool.subscribe(sink()).await.unwrap();
    let (ids, digests) = take(&spool, &mut subscription, LIMIT).await;
    assert_eq!(digests, ["<2><3>"]);
    spool.complete_digest(ids, sink(), TIMING);
    assert!(take(&spool, &mut subscription, LIMIT).await.1.is_empty());
    assert_eq!(setup.ids(&DeadLetterFilter::default()).len(), 1);
    assert_eq!(spool.sink_usage()[0].1.count(), 0);
    spool.close(GRACE).await;
}

#[tokio::test]
async fn given_back_deliveries_are_due_again() {
    let setup = Setup::new();
    let spool = setup.open();
    let (_, settled) = spill(&spool, [grouped(1, 1, "a"), grouped(1, 2, "a")]);
    all(settled).await;
    let mut subscription = spool.subscribe(sink()).await.unwrap();
    let (ids, _) = take(&spool, &mut subscription, LIMIT).await;
    assert!(take(&spool, &mut subscription, LIMIT).await.0.is_empty());
    spool.give_back(sink(), ids.clone());
    assert_eq!(take(&spool, &mut subscription, LIMIT).await.0, ids);
    spool.close(GRACE).await;
}
