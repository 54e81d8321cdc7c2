//! The promises of spooled deliveries.

use std::collections::BTreeSet;

use super::*;
use crate::clock::{ClockBase, MonotonicTime, Timestamp};
use crate::rules::RouteName;

pub(super) fn sink() -> SinkName {
    SinkName::new("hook")
}

pub(super) fn delivery(key: u64, number: u64) -> SpooledDelivery {
    SpooledDelivery {
        sink: sink(),
        key,
        received: Timestamp::now(),
        due: MonotonicTime::now(),
        attempts: 0,
        refusals: 0,
        last_error: None,
        route: Some(RouteName::new("all")),
        kind: "fr.cnes.regards.lta.submission.response".to_owned(),
        tenant: "esa".into(),
        event_id: Uuid::from_u128(number.into()),
        message: letter(&format!("<{number}>")).message,
        group: None,
        digest: None,
        may_be_known: false,
        replayed: false,
    }
}

/// Spools the deliveries, the message of each with its own number, and returns their ids.
pub(super) fn spill(
    spool: &Spool,
    all: impl IntoIterator<Item = SpooledDelivery>,
) -> (Vec<RowId>, UnboundedReceiver<Settlement>) {
    let (to, settled) = unbounded_channel();
    let receipts = (0..).map(|number| Receipt::new(EntryId(number), to.clone()));
    let ids = all
        .into_iter()
        .zip(receipts)
        .map(|(delivery, receipt)| spool.spill(delivery, receipt, false, SizeLimits::Enforced).unwrap());
    (ids.collect(), settled)
}

/// Fetches due deliveries: their bodies, with their ids.
pub(super) async fn take(spool: &Spool, subscription: &mut Subscription, limit: usize) -> Vec<(RowId, String)> {
    spool.fetch_due(sink(), FetchLimit { count: limit, bytes: 1 << 20, ..FetchLimit::default() });
    loop {
        match tokio::time::timeout(GRACE, subscription.events.recv()).await.expect("an answer in time") {
            Some(SpoolEvent::Due(due)) => {
                let body = |delivery: SpooledDelivery| String::from_utf8(delivery.message.body.to_vec()).unwrap();
                return due.rows.into_iter().map(|(id, delivery)| (id, body(delivery))).collect();
            }
            Some(SpoolEvent::MoreDue) => {}
            other => panic!("{other:?}"),
        }
    }
}

pub(super) fn bodies(taken: &[(RowId, String)]) -> Vec<&str> {
    taken.iter().map(|(_, body)| body.as_str()).collect()
}

#[tokio::test]
async fn a_delivery_survives_a_restart_unchanged() {
    let setup = Setup::new();
    let spool = setup.open();
    let mut whole = delivery(7, 1);
    whole.attempts = 3;
    whole.last_error = Some("é".repeat(10));
    let (_, settled) = spill(&spool, [whole.clone()]);
    assert_eq!(all(settled).await, done(0..1));
    spool.close(GRACE).await;

    let spool = setup.open();
    let mut subscription = spool.subscribe(sink()).await.unwrap();
    assert_eq!(subscription.lanes, [(7, 1)]);
    spool.fetch_due(sink(), FetchLimit { count: 10, bytes: 1 << 20, ..FetchLimit::default() });
    let Some(SpoolEvent::Due(due)) = subscription.events.recv().await else { panic!() };
    let [(id, back)] = due.rows.as_slice() else { panic!("{due:?}") };
    assert_eq!((back.attempts, &back.last_error, back.key), (3, &whole.last_error, 7));
    assert_eq!((&back.route, &back.kind, &back.tenant), (&whole.route, &whole.kind, &whole.tenant));
    assert_eq!((back.event_id, back.received), (whole.event_id, whole.received));
    assert_eq!((&back.message.body, &back.message.properties), (&whole.message.body, &whole.message.properties));
    spool.complete(*id, sink());
    assert_eq!(take(&spool, &mut subscription, 10).await, []);
    assert_eq!(spool.sink_usage()[0].1, SinkUsage::default());
    spool.close(GRACE).await;
}

#[tokio::test]
async fn only_the_oldest_delivery_of_a_key_is_due() {
    let setup = Setup::new();
    let spool = setup.open();
    let mut subscription = spool.subscribe(sink()).await.unwrap();
    spill(&spool, [(1, 10), (1, 11), (2, 20), (1, 12)].map(|(key, number)| delivery(key, number)));
    let taken = take(&spool, &mut subscription, 10).await;
    assert_eq!(bodies(&taken), ["<10>", "<20>"]);
    assert_eq!(take(&spool, &mut subscription, 10).await, [], "the test holds both deliveries");
    spool.reschedule(
        taken[0].0,
        sink(),
        (1, None),
        MonotonicTime::now().after(Duration::from_hours(1)),
        "later".to_owned(),
    );
    spool.complete(taken[1].0, sink());
    assert_eq!(take(&spool, &mut subscription, 10).await, [], "the deliveries behind it wait, too");
    spool.reschedule(taken[0].0, sink(), (1, None), MonotonicTime::now(), "now".to_owned());
    for body in ["<10>", "<11>", "<12>"] {
        let taken = take(&spool, &mut subscription, 10).await;
        assert_eq!(bodies(&taken), [body]);
        spool.complete(taken[0].0, sink());
    }
    spool.close(GRACE).await;
}

#[tokio::test]
async fn a_failing_key_does_not_delay_others() {
    let setup = Setup::new();
    let spool = setup.open();
    let mut subscription = spool.subscribe(sink()).await.unwrap();
    // In this order, as each is due when it is created.
    let stuck: Vec<_> = (0..3_000).map(|number| delivery(1, number)).collect();
    let (ids, settled) = spill(&spool, stuck.into_iter().chain([delivery(2, 9_000), delivery(3, 9_001)]));
    all(settled).await;
    assert_eq!(bodies(&take(&spool, &mut subscription, 1).await), ["<0>"]);
    spool.reschedule(ids[0], sink(), (1, None), MonotonicTime::now().after(Duration::from_hours(1)), String::new());
    assert_eq!(bodies(&take(&spool, &mut subscription, 10).await), ["<9000>", "<9001>"]);
    spool.close(GRACE).await;
}

#[tokio::test]
async fn a_delivery_in_flight_is_not_fetched_until_rescheduled() {
    let setup = Setup::new();
    let spool = setup.open();
    let mut subscription = spool.subscribe(sink()).await.unwrap();
    let (to, mut settled) = unbounded_channel();
    let id = spool.spill(delivery(1, 1), Receipt::new(EntryId(0), to), true, SizeLimits::Enforced).unwrap();
    assert_eq!(settled.recv().await, Some(Settlement::Done(EntryId(0))), "the delivery is on disk");
    assert_eq!(take(&spool, &mut subscription, 10).await, []);
    spool.reschedule(id, sink(), (1, None), MonotonicTime::now(), "no".to_owned());
    for _ in 0..100 {
        let taken = take(&spool, &mut subscription, 10).await;
        assert_eq!(bodies(&taken), ["<1>"], "the fetch follows the change, in whichever transactions they are");
        spool.reschedule(id, sink(), (1, None), MonotonicTime::now(), "no".to_owned());
    }
    spool.close(GRACE).await;
    // After the process was killed, it is due.
    let spool = setup.open();
    let mut subscription = spool.subscribe(sink()).await.unwrap();
    assert_eq!(bodies(&take(&spool, &mut subscription, 10).await), ["<1>"]);
    spool.close(GRACE).await;
}

#[tokio::test]
async fn a_new_dispatcher_gets_the_deliveries_of_the_previous_one() {
    let setup = Setup::new();
    let spool = setup.open();
    let mut first = spool.subscribe(sink()).await.unwrap();
    spill(&spool, [delivery(1, 1)]);
    assert_eq!(bodies(&take(&spool, &mut first, 10).await), ["<1>"]);
    let mut second = spool.subscribe(sink()).await.unwrap();
    assert_eq!(bodies(&take(&spool, &mut second, 10).await), ["<1>"]);
    spool.close(GRACE).await;
}

#[tokio::test]
async fn a_dead_letter_replaces_a_delivery() {
    let setup = Setup::new();
    let spool = setup.open();
    let mut subscription = spool.subscribe(sink()).await.unwrap();
    spill(&spool, [delivery(1, 1), delivery(1, 2)]);
    let taken = take(&spool, &mut subscription, 10).await;
    spool.dead_letter(letter("<1>"), taken[0].0, sink(), None);
    assert!(
        matches!(subscription.events.recv().await, Some(SpoolEvent::DeadLettered { id, key: Some(1) }) if id == taken[0].0)
    );
    assert_eq!(bodies(&take(&spool, &mut subscription, 10).await), ["<2>"], "it no longer blocks its lane");
    assert_eq!(setup.ids(&DeadLetterFilter::default()), [1]);
    spool.close(GRACE).await;
}

/// The dead letter is not stored yet, for lack of room. If another dispatcher got the delivery, it could become a second dead letter.
#[tokio::test]
async fn a_delivery_that_becomes_a_dead_letter_is_not_fetched() {
    let mut setup = Setup::new();
    setup.limits.max_size = 300;
    let spool = setup.open();
    all(store(&spool, 0..1)).await;
    let mut first = spool.subscribe(sink()).await.unwrap();
    spill(&spool, [delivery(1, 1), delivery(1, 2)]);
    let taken = take(&spool, &mut first, 10).await;
    spool.dead_letter(letter("<1>"), taken[0].0, sink(), None);
    problem(&spool, true).await;
    drop(first);
    let mut second = spool.subscribe(sink()).await.unwrap();
    assert_eq!(take(&spool, &mut second, 10).await, []);
    assert_eq!(spool.purge(PurgeTarget::DeadLetters(DeadLetterFilter::default()), &Arc::default()).await, Ok(1));
    match tokio::time::timeout(GRACE, second.events.recv()).await.expect("an event in time") {
        Some(SpoolEvent::DeadLettered { id, key: Some(1) }) => assert_eq!(id, taken[0].0),
        other => panic!("{other:?}"),
    }
    assert_eq!(bodies(&take(&spool, &mut second, 10).await), ["<2>"]);
    assert_eq!(setup.ids(&DeadLetterFilter::default()), [2]);
    spool.close(GRACE).await;
}

#[tokio::test]
async fn a_sink_can_not_exceed_its_share() {
    let mut setup = Setup::new();
    setup.max_size = 800;
    let spool = setup.open();
    let mut subscription = spool.subscribe(sink()).await.unwrap();
    let (to, _settled) = unbounded_channel();
    let mut number = 0;
    let mut hand_in = |sink: &str| {
        number += 1;
        let delivery = SpooledDelivery { sink: SinkName::new(sink), ..delivery(number, number) };
        spool.spill(delivery, Receipt::new(EntryId(number), to.clone()), false, SizeLimits::Enforced).is_ok()
    };
    assert!(hand_in("hook"));
    assert!(!hand_in("hook"), "its share is half of the spool");
    let problem = spool.problem().unwrap();
    assert!(problem.contains("no room for sink hook (1 deliveries, "), "{problem}");
    assert!(hand_in("other"));
    let taken = take(&spool, &mut subscription, 10).await;
    spool.complete(taken[0].0, sink());
    take(&spool, &mut subscription, 10).await;
    assert_eq!(spool.problem(), None);
    assert!(hand_in("hook"), "there is room again");
    spool.close(GRACE).await;
}

/// One copy is recognized as one row, and only if its message was redelivered.
#[tokio::test]
async fn a_redelivered_message_is_recognized() {
    let setup = Setup::new();
    let spool = setup.open();
    spill(&spool, [delivery(1, 7), delivery(1, 7)]);
    let refused = DeadLetter { sink: Some(sink()), event_id: Some(Uuid::from_u128(8)), ..letter("<8>") };
    spool.store_dead_letter(refused, Receipt::new(EntryId(9), unbounded_channel().0));
    spool.store_dead_letter(letter("<no event>"), Receipt::new(EntryId(10), unbounded_channel().0));
    spool.close(GRACE).await;

    let spool = setup.open();
    let mut subscription = spool.subscribe(sink()).await.unwrap();
    let redelivered = |key, number| SpooledDelivery { may_be_known: true, ..delivery(key, number) };
    let copies = [redelivered(1, 7), redelivered(1, 7), redelivered(1, 7), redelivered(2, 8), redelivered(3, 9)];
    let (_, settled) = spill(&spool, copies);
    assert_eq!(all(settled).await, done(0..5), "each is on disk");
    let mut known = Vec::new();
    while known.len() < 3 {
        match subscription.events.recv().await {
            Some(SpoolEvent::AlreadySpooled { key }) => known.push(key),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(known, [1, 1, 2]);
    assert_eq!(spool.sink_usage()[0].1.count(), 4, "two of the first run, the third copy, and the unknown one");

    let again = |redelivered| {
        let mut again = letter("<no event>");
        let message = Message { redelivered, ..Message::clone(&again.message) };
        again.message = Arc::new(message);
        again
    };
    let (to, settled) = unbounded_channel();
    for (number, redelivered) in [(0, true), (1, true), (2, false)] {
        spool.store_dead_letter(again(redelivered), Receipt::new(EntryId(number), to.clone()));
    }
    drop(to);
    assert_eq!(all(settled).await, done(0..3));
    assert_eq!(
        setup.ids(&DeadLetterFilter::default()),
        [5, 4, 2, 1],
        "the first copy is recognized as the existing dead letter"
    );
    spool.close(GRACE).await;
}

/// The run before had stored neither of them.
#[tokio::test]
async fn equal_messages_that_are_redelivered_are_all_stored() {
    let setup = Setup::new();
    let spool = setup.open();
    let redelivered = || SpooledDelivery { may_be_known: true, ..delivery(1, 7) };
    let (_, settled) = spill(&spool, [redelivered(), redelivered()]);
    assert_eq!(all(settled).await, done(0..2));
    assert_eq!(spool.sink_usage()[0].1.count(), 2);

    let again = || DeadLetter {
        message: Arc::new(Message { redelivered: true, ..Message::clone(&letter("<no event>").message) }),
        ..letter("<no event>")
    };
    let (to, settled) = unbounded_channel();
    for number in 0..2 {
        spool.store_dead_letter(again(), Receipt::new(EntryId(number), to.clone()));
    }
    drop(to);
    assert_eq!(all(settled).await, done(0..2));
    assert_eq!(setup.ids(&DeadLetterFilter::default()), [2, 1]);
    spool.close(GRACE).await;
}

#[tokio::test]
async fn a_saved_state_survives_a_restart_until_it_is_deleted() {
    let setup = Setup::new();
    for state in [Some("{}"), None] {
        let spool = setup.open();
        let state = state.map(str::to_owned);
        let of = Component::Sink("hook".to_owned());
        spool.save_state(of.clone(), state.clone());
        spool.close(GRACE).await;
        let spool = setup.open();
        assert_eq!(spool.saved_state(&of), state);
        spool.close(GRACE).await;
    }
}

#[tokio::test]
async fn deliveries_that_can_not_be_written_keep_their_messages_and_are_written_once() {
    let setup = Setup::in_a_file();
    let spool = setup.open();
    let mut subscription = spool.subscribe(sink()).await.unwrap();
    let other = hold(&setup.path());
    let (_, mut settled) = spill(&spool, (0..50).map(|number| delivery(number, number)));
    problem(&spool, true).await;
    assert!(settled.try_recv().is_err(), "nothing settles before it is on disk");
    drop(other);
    assert_eq!(all(settled).await, done(0..50));
    let taken = take(&spool, &mut subscription, 100).await;
    assert_eq!(taken.iter().map(|(id, _)| *id).collect::<BTreeSet<_>>().len(), 50);
    assert_eq!(spool.sink_usage()[0].1.count(), 50);
    spool.close(GRACE).await;
}

/// After a failed transaction the fetch is answered before the deliveries are written.
#[tokio::test]
async fn deliveries_that_are_written_after_a_fetch_are_announced() {
    let setup = Setup::in_a_file();
    let spool = setup.open();
    let mut subscription = spool.subscribe(sink()).await.unwrap();
    let other = hold(&setup.path());
    let (_, settled) = spill(&spool, [delivery(1, 1)]);
    problem(&spool, true).await;
    drop(other);
    assert_eq!(take(&spool, &mut subscription, 10).await, [], "it is not written yet");
    assert_eq!(all(settled).await, done(0..1));
    let event = tokio::time::timeout(GRACE, subscription.events.recv()).await.expect("an event in time");
    assert!(matches!(event, Some(SpoolEvent::MoreDue)), "{event:?}");
    assert_eq!(bodies(&take(&spool, &mut subscription, 10).await), ["<1>"]);
    spool.close(GRACE).await;
}

#[tokio::test]
async fn backlogs_can_be_read_while_the_relay_runs() {
    let setup = Setup::new();
    assert_eq!(setup.reader().backlogs().unwrap(), []);
    let spool = setup.open();
    let (_, settled) = spill(
        &spool,
        [delivery(1, 1), delivery(1, 2), SpooledDelivery { last_error: Some("down".into()), ..delivery(2, 3) }],
    );
    all(settled).await;
    let seen = setup.reader().backlogs().unwrap();
    let [hook] = seen.as_slice() else { panic!("{seen:?}") };
    assert_eq!((hook.sink.as_str(), hook.count, hook.last_error.as_deref()), ("hook", 3, Some("down")));
    assert_eq!(hook.bytes, spool.sink_usage()[0].1.bytes());
    assert!(hook.oldest.is_some() && hook.next_due.is_some());
    spool.close(GRACE).await;
}

/// A delivery's age survives a restart by both clocks.
#[tokio::test]
async fn due_times_continue_in_one_boot_and_are_bounded_in_another() {
    let setup = Setup::in_a_file();
    let spool = setup.open();
    assert!(!spool.is_same_boot(), "nothing was written yet");
    let an_hour_ago = Timestamp::now().before(Duration::from_hours(1));
    let (_, settled) = spill(&spool, [SpooledDelivery { received: an_hour_ago, ..delivery(1, 1) }, delivery(2, 2)]);
    all(settled).await;
    spool.close(GRACE).await;
    let connection = Connection::open(setup.path()).unwrap();
    // The wall clock was set to another year since.
    connection.execute("UPDATE deliveries SET received = received - 31536000000", []).unwrap();

    let spool = setup.open();
    assert!(spool.is_same_boot());
    let mut subscription = spool.subscribe(sink()).await.unwrap();
    spool.fetch_due(sink(), FetchLimit { count: 10, bytes: 1 << 20, ..FetchLimit::default() });
    let Some(SpoolEvent::Due(due)) = subscription.events.recv().await else { panic!("no deliveries") };
    let ages: Vec<_> = due.rows.iter().map(|(_, delivery)| delivery.received.age().as_secs() / 3_600).collect();
    assert_eq!(ages, [1, 0]);
    spool.close(GRACE).await;

    connection.execute("UPDATE clock SET boot = boot + 2", []).unwrap();
    connection.execute("UPDATE heads SET due = due + 3600000", []).unwrap();
    let spool = setup.open();
    assert!(!spool.is_same_boot());
    let mut subscription = spool.subscribe(sink()).await.unwrap();
    assert_eq!(take(&spool, &mut subscription, 10).await, [], "they seem to be due in an hour");
    spool.make_due(sink(), WaitsFor::Anything, MonotonicTime::now());
    assert_eq!(take(&spool, &mut subscription, 10).await.len(), 2);
    spool.close(GRACE).await;
    let kept: (i64, i64) =
        connection.query_row("SELECT boot, base FROM clock", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!(kept, (ClockBase::now().boot, ClockBase::now().base));
}

/// Bodies come from outside, so their memory has to be bounded.
#[tokio::test]
async fn a_fetch_is_bounded_in_bytes_but_has_one_delivery() {
    let setup = Setup::new();
    let spool = setup.open();
    let mut subscription = spool.subscribe(sink()).await.unwrap();
    let before = spool.last_row().number();
    let number_of = |id: RowId| id.number() - before;
    let large = |number: u64, bytes: usize| {
        let mut delivery = delivery(number, number);
        delivery.message = letter(&number.to_string().repeat(bytes)).message;
        delivery
    };
    let (_, settled) = spill(&spool, [(1, 300), (2, 300), (3, 300), (4, 2_000), (5, 300)].map(|(n, b)| large(n, b)));
    all(settled).await;
    let mut portions = Vec::new();
    loop {
        spool.fetch_due(sink(), FetchLimit { count: 10, bytes: 700, ..FetchLimit::default() });
        let Some(SpoolEvent::Due(due)) = subscription.events.recv().await else { panic!() };
        let Some(last) = due.rows.last() else { break };
        portions.push(due.rows.iter().map(|(id, _)| number_of(*id)).collect::<Vec<_>>());
        assert_eq!(
            due.next.is_some_and(|next| next <= MonotonicTime::now()),
            number_of(last.0) < 5,
            "whether there are more"
        );
    }
    assert_eq!(portions, [vec![1, 2], vec![3], vec![4], vec![5]]);
    spool.close(GRACE).await;
}
