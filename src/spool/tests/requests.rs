//! Requests that alerts watch.

use super::deliveries::{delivery, sink};
use super::*;
use crate::event::AlertRequest;
use crate::rules::AlertName;
use crate::spool::request::{request_hash, row_size};

const ALERT: &str = "silent";

fn event(id: &str, status: &str) -> RequestEvent {
    let request = AlertRequest {
        tenant: "cnes-a".into(),
        correlation_id: id.to_owned(),
        product_id: Some(format!("P-{id}")),
        session: None,
        expires: None,
    };
    RequestEvent { request, status: status.to_owned(), received: WallTime(1) }
}

fn watch(due: MonotonicTime) -> Vec<Watch> {
    vec![Watch { alert: AlertName::new(ALERT), due, limit: "24h".into() }]
}

fn now() -> MonotonicTime {
    MonotonicTime::now()
}

fn later() -> MonotonicTime {
    now().after(Duration::from_hours(1))
}

/// A receipt whose message is settled only with the others.
fn receipt() -> Receipt {
    Receipt::new(EntryId(0), unbounded_channel().0)
}

async fn due(spool: &Spool) -> Vec<(String, RequestState)> {
    let due = spool.due_requests(DueKind::All, 100).await.expect("an open spool");
    due.requests.into_iter().map(|one| (one.event.request.correlation_id, one.state)).collect()
}

fn counts(spool: &Spool) -> RequestCount {
    spool
        .request_counts()
        .into_iter()
        .find(|(alert, _)| alert.as_str() == ALERT)
        .map(|(_, count)| count)
        .unwrap_or_default()
}

#[tokio::test]
async fn the_message_of_a_request_settles_once_the_request_is_on_disk() {
    let setup = Setup::new();
    let spool = setup.open();
    let (to, settled) = unbounded_channel();
    spool.open_request(event("a", "GRANTED"), watch(later()), Receipt::new(EntryId(0), to.clone()));
    spool.end_request(event("b", "SUCCESS"), Some(later()), Receipt::new(EntryId(1), to));
    assert_eq!(all(settled).await, done(0..2));
    spool.close(GRACE).await;
    let spool = setup.open();
    assert_eq!(counts(&spool), RequestCount { open: 1, overdue: 0 });
    spool.open_request(event("b", "GRANTED"), watch(now()), receipt());
    assert_eq!(due(&spool).await, [], "its end is remembered");
    spool.close(GRACE).await;
}

#[tokio::test]
async fn a_request_is_raised_once_and_resolved_by_its_end() {
    let setup = Setup::new();
    let spool = setup.open();
    let mut events = spool.subscribe(sink()).await.unwrap().events;
    spool.open_request(event("a", "GRANTED"), watch(now()), receipt());
    spool.open_request(event("a", "GRANTED"), watch(later()), receipt());
    let [raised] = &*spool.due_requests(DueKind::All, 100).await.unwrap().requests else {
        panic!("it is watched once")
    };
    let raise = RequestStep::Raise { overdue: WallTime(7) };
    assert_eq!(spool.advance_request(raised, raise, vec![delivery(1, 1)]).unwrap().await, Ok(true));
    assert_eq!(
        spool.advance_request(raised, raise, vec![delivery(1, 2)]).unwrap().await,
        Ok(false),
        "it is no longer open"
    );
    assert!(matches!(events.recv().await, Some(SpoolEvent::Added { key: 1 })));
    assert_eq!((spool.sink_usage()[0].1.count(), counts(&spool)), (1, RequestCount { open: 0, overdue: 1 }));
    assert_eq!(due(&spool).await, []);
    assert!(!spool.next_due_request().has_passed());

    spool.close(GRACE).await;
    let spool = setup.open();
    spool.end_request(event("a", "ERROR"), Some(later()), receipt());
    let [ended] = &*spool.due_requests(DueKind::All, 100).await.unwrap().requests else {
        panic!("it is to be resolved")
    };
    assert_eq!(
        (ended.state, ended.overdue, ended.event.status.as_str()),
        (RequestState::Ended, Some(WallTime(7)), "ERROR")
    );
    assert_eq!(ended.event.request, event("a", "").request, "what the event needs is still there");
    assert_eq!((ended.limit.as_str(), &*ended.receivers), ("24h", &[sink()][..]));
    assert_eq!(spool.advance_request(ended, RequestStep::Forget, vec![delivery(1, 3)]).unwrap().await, Ok(true));
    assert_eq!((spool.sink_usage()[0].1.count(), counts(&spool)), (2, RequestCount::default()));
    spool.close(GRACE).await;
}

/// After a reload the alert may watch other requests, and the end may be one that it would not wait for now.
#[tokio::test]
async fn an_end_that_is_not_remembered_ends_its_request_all_the_same() {
    let setup = Setup::new();
    let spool = setup.open();
    spool.open_request(event("a", "GRANTED"), watch(now()), receipt());
    spool.end_request(event("a", "SUCCESS"), None, receipt());
    spool.end_request(event("b", "SUCCESS"), None, receipt());
    spool.open_request(event("b", "GRANTED"), watch(now()), receipt());
    assert_eq!(due(&spool).await, [("b".to_owned(), RequestState::Open)]);
    spool.close(GRACE).await;
}

#[tokio::test]
async fn an_end_in_time_leaves_nothing() {
    let setup = Setup::new();
    let spool = setup.open();
    spool.open_request(event("a", "GRANTED"), watch(now()), receipt());
    spool.end_request(event("a", "SUCCESS"), Some(later()), receipt());
    assert_eq!(due(&spool).await, []);
    assert_eq!(counts(&spool), RequestCount::default());
    spool.close(GRACE).await;
}

#[tokio::test]
async fn changes_are_done_once_also_after_commits_with_unknown_ends() {
    let setup = Setup::new();
    let spool = setup.open();
    spool.shared.unknown_commits.store(1, std::sync::atomic::Ordering::Relaxed);
    spool.open_request(event("a", "GRANTED"), watch(now()), receipt());
    let [raised] = &*spool.due_requests(DueKind::All, 100).await.unwrap().requests else {
        panic!("it is watched once")
    };
    spool.shared.unknown_commits.store(2, std::sync::atomic::Ordering::Relaxed);
    let raise = RequestStep::Raise { overdue: WallTime(7) };
    assert_eq!(spool.advance_request(raised, raise, vec![delivery(1, 1)]).unwrap().await, Ok(true));
    assert_eq!((spool.sink_usage()[0].1.count(), counts(&spool)), (1, RequestCount { open: 0, overdue: 1 }));
    spool.close(GRACE).await;
}

#[tokio::test]
async fn of_an_alert_that_is_removed_open_requests_are_forgotten_and_overdue_ones_are_to_be_resolved() {
    let setup = Setup::new();
    let spool = setup.open();
    spool.open_request(event("overdue", "GRANTED"), watch(now()), receipt());
    let [raised] = &*spool.due_requests(DueKind::All, 100).await.unwrap().requests else { panic!("it is due") };
    let raise = RequestStep::Raise { overdue: WallTime(7) };
    assert_eq!(spool.advance_request(raised, raise, vec![delivery(1, 1)]).unwrap().await, Ok(true));
    spool.open_request(event("open", "GRANTED"), watch(now()), receipt());
    due(&spool).await;
    assert!(!spool.tidy_requests(&[AlertName::new(ALERT)], false).await);
    assert_eq!(counts(&spool), RequestCount { open: 1, overdue: 1 });
    assert!(spool.tidy_requests(&[AlertName::new("other")], false).await, "there may be more");
    assert!(!spool.tidy_requests(&[AlertName::new("other")], false).await);
    assert_eq!(counts(&spool), RequestCount::default());
    assert!(spool.next_due_request().has_passed());
    assert_eq!(due(&spool).await, [("overdue".to_owned(), RequestState::Ended)]);
    spool.close(GRACE).await;
}

/// A spool that watches two requests, and remembers two early ends.
fn small(setup: &Setup) -> Spool {
    Spool::open_with(&setup.config(), &setup.limits, RequestLimits { watched: 2, early_ends: 2 }, Arc::default())
        .unwrap()
}

#[tokio::test]
async fn requests_beyond_the_limit_are_acknowledged_unwatched_and_counted() {
    let setup = Setup::new();
    let spool = small(&setup);
    let (to, settled) = unbounded_channel();
    for number in 0..5 {
        let event = event(&format!("r-{number}"), "GRANTED");
        spool.open_request(event, watch(now()), Receipt::new(EntryId(number), to.clone()));
    }
    drop(to);
    assert_eq!(all(settled).await, done(0..5), "none is held up");
    assert_eq!((counts(&spool).open, spool.request_losses()), (2, RequestLosses { unwatched: 3, early_ends: 0 }));
    let watched = ["r-0", "r-1"].map(|id| (id.to_owned(), RequestState::Open));
    assert_eq!(due(&spool).await, watched);
    // An end makes room for another request, also after a restart.
    spool.end_request(event("r-0", "SUCCESS"), Some(later()), receipt());
    due(&spool).await;
    spool.close(GRACE).await;
    let spool = small(&setup);
    for id in ["r-5", "r-6"] {
        spool.open_request(event(id, "GRANTED"), watch(now()), receipt());
    }
    assert_eq!(due(&spool).await, ["r-1", "r-5"].map(|id| (id.to_owned(), RequestState::Open)));
    assert_eq!(spool.request_losses().unwatched, 1, "since the start");
    spool.close(GRACE).await;
}

#[tokio::test]
async fn of_early_ends_beyond_the_limit_the_oldest_is_forgotten() {
    let setup = Setup::new();
    let spool = small(&setup);
    let (to, settled) = unbounded_channel();
    for number in 0..4 {
        let event = event(&format!("r-{number}"), "SUCCESS");
        let forget = later().after(Duration::from_secs(number));
        spool.end_request(event, Some(forget), Receipt::new(EntryId(number), to.clone()));
    }
    drop(to);
    assert_eq!(all(settled).await, done(0..4), "none is held up");
    assert_eq!(spool.request_losses(), RequestLosses { unwatched: 0, early_ends: 2 });
    for number in 0..4 {
        spool.open_request(event(&format!("r-{number}"), "GRANTED"), watch(now()), receipt());
    }
    let forgotten = ["r-0", "r-1"].map(|id| (id.to_owned(), RequestState::Open));
    assert_eq!(due(&spool).await, forgotten, "the ends of the others are remembered");
    spool.close(GRACE).await;
}

#[tokio::test]
async fn open_requests_are_not_due_while_their_ends_may_be_unread() {
    let setup = Setup::new();
    let spool = setup.open();
    spool.open_request(event("a", "GRANTED"), watch(now()), receipt());
    spool.open_request(event("b", "GRANTED"), watch(now()), receipt());
    let requests = spool.due_requests(DueKind::All, 1).await.unwrap().requests;
    let raise = RequestStep::Raise { overdue: WallTime(7) };
    assert_eq!(spool.advance_request(&requests[0], raise, Vec::new()).unwrap().await, Ok(true));
    spool.end_request(event("a", "SUCCESS"), Some(later()), receipt());
    let ended = spool.due_requests(DueKind::Ended, 100).await.unwrap().requests;
    let ids: Vec<_> = ended.iter().map(|one| one.event.request.correlation_id.as_str()).collect();
    assert_eq!(ids, ["a"]);
    assert!(spool.next_due_request().has_passed(), "the other one is still to be raised");
    spool.close(GRACE).await;
}

#[tokio::test]
async fn overdue_requests_are_read_beside_the_relay_the_oldest_first() {
    let setup = Setup::new();
    let spool = setup.open();
    for (id, since) in [("late", 9), ("first", 7), ("second", 8)] {
        spool.open_request(event(id, "GRANTED"), watch(now()), receipt());
        let requests = spool.due_requests(DueKind::All, 1).await.unwrap().requests;
        let raise = RequestStep::Raise { overdue: WallTime(since) };
        assert_eq!(spool.advance_request(&requests[0], raise, Vec::new()).unwrap().await, Ok(true));
    }
    spool.open_request(event("open", "GRANTED"), watch(later()), receipt());
    due(&spool).await;
    let overdue = spool.reader().overdue(&AlertName::new(ALERT), 2).unwrap();
    let read: Vec<_> = overdue.iter().map(|one| (one.correlation_id.as_str(), one.since.0, &*one.limit)).collect();
    assert_eq!(read, [("first", 7, "24h"), ("second", 8, "24h")]);
    assert_eq!(spool.reader().overdue(&AlertName::new("other"), 2).unwrap(), []);
    spool.close(GRACE).await;
}

#[tokio::test]
async fn requests_of_an_earlier_boot_are_due_once_they_are_taken_over() {
    let setup = Setup::new();
    let spool = setup.open();
    spool.open_request(event("a", "GRANTED"), watch(now()), receipt());
    due(&spool).await;
    spool.close(GRACE).await;
    setup.execute("UPDATE requests SET boot = boot + 1");
    let spool = setup.open();
    assert!(!spool.next_due_request().has_passed());
    assert_eq!(due(&spool).await, []);
    while spool.tidy_requests(&[AlertName::new(ALERT)], true).await {}
    assert!(spool.next_due_request().has_passed());
    assert_eq!(due(&spool).await, [("a".to_owned(), RequestState::Open)]);
    spool.close(GRACE).await;
}

#[tokio::test]
async fn a_raised_alert_is_stored_with_its_deliveries() {
    let setup = Setup::new();
    let spool = setup.open();
    let (alert, subject) = (AlertName::new("trouble"), "sink a".to_owned());
    spool.save_alert(alert.clone(), subject.clone(), Some("{}".to_owned()), vec![delivery(1, 1)]).await.unwrap();
    spool.close(GRACE).await;
    let spool = setup.open();
    assert_eq!(spool.raised_alerts(), [(alert.clone(), subject.clone(), "{}".to_owned())]);
    spool.save_alert(alert, subject, None, vec![delivery(1, 2)]).await.unwrap();
    assert_eq!((spool.raised_alerts(), spool.sink_usage()[0].1.count()), (Vec::new(), 2));
    spool.close(GRACE).await;
}

#[tokio::test]
async fn a_file_from_before_there_were_alerts_gets_their_tables() {
    let setup = Setup::in_a_file();
    setup.open().close(GRACE).await;
    Connection::open(setup.path()).unwrap().execute_batch("DROP TABLE requests; DROP TABLE raised_alerts").unwrap();
    let spool = setup.open();
    spool.open_request(event("a", "GRANTED"), watch(now()), receipt());
    assert_eq!(due(&spool).await, [("a".to_owned(), RequestState::Open)]);
    spool.close(GRACE).await;
}

/// A stored hash: another recipe would not find the requests of an earlier version.
#[test]
fn the_hash_of_a_request_never_changes() {
    assert_eq!(request_hash("cnes-a", "c-1"), 8_583_657_266_464_628_735);
    assert_ne!(request_hash("a", "bc"), request_hash("ab", "c"));
}

#[tokio::test]
async fn the_size_of_requests_matches_the_file() {
    let setup = Setup::in_a_file();
    let spool = setup.open();
    let empty = super::sizes::in_use(&setup.path());
    let (to, settled) = unbounded_channel();
    let mut said = 0;
    for number in 0..20_000_u64 {
        let event = event(&format!("order-{number:032x}"), "GRANTED");
        said += row_size(ALERT, "24h", &event);
        spool.open_request(event, watch(later()), Receipt::new(EntryId(number), to.clone()));
    }
    drop(to);
    all(settled).await;
    super::sizes::assert_within_a_fifth("requests", said, super::sizes::in_use(&setup.path()) - empty);
    spool.close(GRACE).await;
}

/// Requests come in batches, in which one request can be opened and ended, also in the wrong order.
#[tokio::test]
async fn requests_of_one_batch_end_as_if_each_had_come_alone() {
    let setup = Setup::new();
    let spool = setup.open();
    let watches = || {
        let of = |alert: &str| Watch { alert: AlertName::new(alert), due: now(), limit: "24h".into() };
        vec![of(ALERT), of("other")]
    };
    let (to, settled) = unbounded_channel();
    let mut numbers = 0..;
    let mut receipt = || Receipt::new(EntryId(numbers.next().unwrap_or_default()), to.clone());
    for id in 0..100 {
        let (name, other) = (format!("r-{id}"), format!("e-{id}"));
        spool.open_request(event(&name, "GRANTED"), watches(), receipt());
        // Twice, as a redelivered message.
        spool.open_request(event(&name, "GRANTED"), watches(), receipt());
        spool.end_request(event(&other, "SUCCESS"), Some(later()), receipt());
        spool.open_request(event(&other, "GRANTED"), watches(), receipt());
        if id % 2 == 0 {
            spool.end_request(event(&name, "SUCCESS"), Some(later()), receipt());
        }
    }
    drop(to);
    assert_eq!(all(settled).await.len(), 450);
    assert_eq!(counts(&spool), RequestCount { open: 50, overdue: 0 });
    let open = spool.due_requests(DueKind::All, 1_000).await.unwrap().requests;
    let mut open: Vec<_> = open.into_iter().map(|one| (one.event.request.correlation_id, one.alert)).collect();
    open.sort();
    let mut expected: Vec<_> = (0..50)
        .flat_map(|half| [ALERT, "other"].map(|alert| (format!("r-{}", 2 * half + 1), AlertName::new(alert))))
        .collect();
    expected.sort();
    assert_eq!(open, expected);
    spool.close(GRACE).await;
    assert_eq!(counts(&setup.open()), RequestCount { open: 50, overdue: 0 });
}
