//! What is promised of deliveries that wait.

use std::collections::BTreeSet;

use super::*;
use crate::clock::{ClockBase, MonotonicTime, Timestamp};
use crate::rules::RouteName;

pub(super) fn sink() -> SinkName {
    SinkName::new("hook")
}

pub(super) fn waiting(key: u64, number: u64) -> Waiting {
    Waiting {
        sink: sink(),
        key,
        received: Timestamp::now(),
        due: MonotonicTime::now(),
        attempts: 0,
        refusals: 0,
        cause: None,
        route: Some(RouteName::new("all")),
        kind: "fr.cnes.regards.lta.submission.response".to_owned(),
        tenant: "esa".into(),
        event_id: Uuid::from_u128(number.into()),
        message: letter(&format!("<{number}>")).message,
        may_be_known: false,
    }
}

/// Hands in what waits, the message of each with its own number; says under which ids.
pub(super) fn spill(
    spool: &Spool,
    all: impl IntoIterator<Item = Waiting>,
) -> (Vec<RowId>, UnboundedReceiver<Settlement>) {
    let (to, settled) = unbounded_channel();
    let receipts = (0..).map(|number| Receipt::new(EntryId(number), to.clone()));
    let ids = all
        .into_iter()
        .zip(receipts)
        .map(|(waiting, receipt)| spool.spill(waiting, receipt, false, Limits::Kept).unwrap());
    (ids.collect(), settled)
}

/// Takes what is due: the bodies, with their ids.
pub(super) async fn take(spool: &Spool, watch: &mut Watch, limit: usize) -> Vec<(RowId, String)> {
    spool.take(sink(), Portion { count: limit, bytes: 1 << 20 });
    match tokio::time::timeout(GRACE, watch.news.recv()).await.expect("an answer in time") {
        Some(News::Due(due)) => due
            .rows
            .into_iter()
            .map(|(id, waiting)| (id, String::from_utf8(waiting.message.body.to_vec()).unwrap()))
            .collect(),
        other => panic!("{other:?}"),
    }
}

pub(super) fn bodies(taken: &[(RowId, String)]) -> Vec<&str> {
    taken.iter().map(|(_, body)| body.as_str()).collect()
}

#[tokio::test]
async fn what_waits_comes_back_as_it_was_and_after_a_restart() {
    let setup = Setup::new();
    let spool = setup.open();
    let mut whole = waiting(7, 1);
    whole.attempts = 3;
    whole.cause = Some("é".repeat(10));
    let (_, settled) = spill(&spool, [whole.clone()]);
    assert_eq!(all(settled).await, done(0..1));
    spool.close(GRACE).await;

    let spool = setup.open();
    let mut watch = spool.watch(sink()).await.unwrap();
    assert_eq!(watch.lanes, [(7, 1)]);
    spool.take(sink(), Portion { count: 10, bytes: 1 << 20 });
    let Some(News::Due(due)) = watch.news.recv().await else { panic!() };
    let [(id, back)] = due.rows.as_slice() else { panic!("{due:?}") };
    assert_eq!((back.attempts, &back.cause, back.key), (3, &whole.cause, 7));
    assert_eq!((&back.route, &back.kind, &back.tenant), (&whole.route, &whole.kind, &whole.tenant));
    assert_eq!((back.event_id, back.received), (whole.event_id, whole.received));
    assert_eq!((&back.message.body, &back.message.properties), (&whole.message.body, &whole.message.properties));
    spool.done(*id, sink());
    assert_eq!(take(&spool, &mut watch, 10).await, []);
    assert_eq!(spool.shares()[0].1, Share::default());
    spool.close(GRACE).await;
}

#[tokio::test]
async fn of_each_key_only_the_oldest_is_due() {
    let setup = Setup::new();
    let spool = setup.open();
    let mut watch = spool.watch(sink()).await.unwrap();
    spill(&spool, [(1, 10), (1, 11), (2, 20), (1, 12)].map(|(key, number)| waiting(key, number)));
    let taken = take(&spool, &mut watch, 10).await;
    assert_eq!(bodies(&taken), ["<10>", "<20>"]);
    assert_eq!(take(&spool, &mut watch, 10).await, [], "what is in our hands isn't given out again");
    spool.reschedule(taken[0].0, sink(), 1, MonotonicTime::now().after(Duration::from_hours(1)), "later".to_owned());
    spool.done(taken[1].0, sink());
    assert_eq!(take(&spool, &mut watch, 10).await, [], "what is behind waits with it");
    spool.reschedule(taken[0].0, sink(), 1, MonotonicTime::now(), "now".to_owned());
    for body in ["<10>", "<11>", "<12>"] {
        let taken = take(&spool, &mut watch, 10).await;
        assert_eq!(bodies(&taken), [body]);
        spool.done(taken[0].0, sink());
    }
    spool.close(GRACE).await;
}

#[tokio::test]
async fn a_key_that_is_stuck_costs_the_others_nothing() {
    let setup = Setup::new();
    let spool = setup.open();
    let mut watch = spool.watch(sink()).await.unwrap();
    // Made in this order: each is due when it is made.
    let stuck: Vec<_> = (0..3_000).map(|number| waiting(1, number)).collect();
    let (ids, settled) = spill(&spool, stuck.into_iter().chain([waiting(2, 9_000), waiting(3, 9_001)]));
    all(settled).await;
    assert_eq!(bodies(&take(&spool, &mut watch, 1).await), ["<0>"]);
    spool.reschedule(ids[0], sink(), 1, MonotonicTime::now().after(Duration::from_hours(1)), String::new());
    assert_eq!(bodies(&take(&spool, &mut watch, 10).await), ["<9000>", "<9001>"]);
    spool.close(GRACE).await;
}

#[tokio::test]
async fn what_is_still_attempted_is_not_given_out_until_it_is_due_again() {
    let setup = Setup::new();
    let spool = setup.open();
    let mut watch = spool.watch(sink()).await.unwrap();
    let (to, mut settled) = unbounded_channel();
    let id = spool.spill(waiting(1, 1), Receipt::new(EntryId(0), to), true, Limits::Kept).unwrap();
    assert_eq!(settled.recv().await, Some(Settlement::Done(EntryId(0))), "its message needs nothing more");
    assert_eq!(take(&spool, &mut watch, 10).await, []);
    spool.reschedule(id, sink(), 1, MonotonicTime::now(), "no".to_owned());
    for _ in 0..100 {
        let taken = take(&spool, &mut watch, 10).await;
        assert_eq!(bodies(&taken), ["<1>"], "asked for behind the change, whatever transactions they come to be in");
        spool.reschedule(id, sink(), 1, MonotonicTime::now(), "no".to_owned());
    }
    spool.close(GRACE).await;
    // A relay that is killed meanwhile finds it due.
    let spool = setup.open();
    let mut watch = spool.watch(sink()).await.unwrap();
    assert_eq!(bodies(&take(&spool, &mut watch, 10).await), ["<1>"]);
    spool.close(GRACE).await;
}

#[tokio::test]
async fn what_a_dispatcher_had_is_due_again_for_the_next_one() {
    let setup = Setup::new();
    let spool = setup.open();
    let mut first = spool.watch(sink()).await.unwrap();
    spill(&spool, [waiting(1, 1)]);
    assert_eq!(bodies(&take(&spool, &mut first, 10).await), ["<1>"]);
    let mut second = spool.watch(sink()).await.unwrap();
    assert_eq!(bodies(&take(&spool, &mut second, 10).await), ["<1>"]);
    spool.close(GRACE).await;
}

#[tokio::test]
async fn a_dead_letter_takes_the_place_of_a_delivery() {
    let setup = Setup::new();
    let spool = setup.open();
    let mut watch = spool.watch(sink()).await.unwrap();
    spill(&spool, [waiting(1, 1), waiting(1, 2)]);
    let taken = take(&spool, &mut watch, 10).await;
    spool.bury(letter("<1>"), taken[0].0, sink());
    assert!(matches!(watch.news.recv().await, Some(News::Buried { id, key: Some(1) }) if id == taken[0].0));
    assert_eq!(bodies(&take(&spool, &mut watch, 10).await), ["<2>"], "it does not hold its lane");
    assert_eq!(setup.ids(&Filter::default()), [1]);
    spool.close(GRACE).await;
}

/// What is to become a dead letter and has found no room is given to no other dispatcher meanwhile: it would be two of them.
#[tokio::test]
async fn what_becomes_a_dead_letter_is_given_out_to_nobody() {
    let mut setup = Setup::new();
    setup.limits.max_size = 300;
    let spool = setup.open();
    all(store(&spool, 0..1)).await;
    let mut first = spool.watch(sink()).await.unwrap();
    spill(&spool, [waiting(1, 1), waiting(1, 2)]);
    let taken = take(&spool, &mut first, 10).await;
    spool.bury(letter("<1>"), taken[0].0, sink());
    problem(&spool, true).await;
    drop(first);
    let mut second = spool.watch(sink()).await.unwrap();
    assert_eq!(take(&spool, &mut second, 10).await, []);
    assert_eq!(spool.purge(Unwanted::Letters(Filter::default()), &Arc::default()).await, Ok(1));
    match tokio::time::timeout(GRACE, second.news.recv()).await.expect("news in time") {
        Some(News::Buried { id, key: Some(1) }) => assert_eq!(id, taken[0].0),
        other => panic!("{other:?}"),
    }
    assert_eq!(bodies(&take(&spool, &mut second, 10).await), ["<2>"]);
    assert_eq!(setup.ids(&Filter::default()), [2]);
    spool.close(GRACE).await;
}

#[tokio::test]
async fn one_sink_can_not_take_more_than_its_share() {
    let mut setup = Setup::new();
    setup.max_size = 800;
    let spool = setup.open();
    let mut watch = spool.watch(sink()).await.unwrap();
    let (to, _settled) = unbounded_channel();
    let mut number = 0;
    let mut hand_in = |sink: &str| {
        number += 1;
        let waiting = Waiting { sink: SinkName::new(sink), ..waiting(number, number) };
        spool.spill(waiting, Receipt::new(EntryId(number), to.clone()), false, Limits::Kept).is_ok()
    };
    assert!(hand_in("hook"));
    assert!(!hand_in("hook"), "half of it");
    let problem = spool.problem().unwrap();
    assert!(problem.contains("no room for sink hook (1 deliveries wait there"), "{problem}");
    assert!(hand_in("other"));
    let taken = take(&spool, &mut watch, 10).await;
    spool.done(taken[0].0, sink());
    take(&spool, &mut watch, 10).await;
    assert_eq!(spool.problem(), None);
    assert!(hand_in("hook"), "there is room again");
    spool.close(GRACE).await;
}

/// One copy is taken for one, and only where the message was redelivered.
#[tokio::test]
async fn a_redelivered_message_takes_over_what_is_here() {
    let setup = Setup::new();
    let spool = setup.open();
    spill(&spool, [waiting(1, 7), waiting(1, 7)]);
    let refused = DeadLetter { sink: Some(sink()), event_id: Some(Uuid::from_u128(8)), ..letter("<8>") };
    spool.store(refused, Receipt::new(EntryId(9), unbounded_channel().0));
    spool.store(letter("<no event>"), Receipt::new(EntryId(10), unbounded_channel().0));
    spool.close(GRACE).await;

    let spool = setup.open();
    let mut watch = spool.watch(sink()).await.unwrap();
    let redelivered = |key, number| Waiting { may_be_known: true, ..waiting(key, number) };
    let copies = [redelivered(1, 7), redelivered(1, 7), redelivered(1, 7), redelivered(2, 8), redelivered(3, 9)];
    let (_, settled) = spill(&spool, copies);
    assert_eq!(all(settled).await, done(0..5), "each is safe");
    let mut known = Vec::new();
    while known.len() < 3 {
        match watch.news.recv().await {
            Some(News::Known { key }) => known.push(key),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(known, [1, 1, 2]);
    assert_eq!(spool.shares()[0].1.count(), 4, "two from before, the third copy, and the one that nobody knew");

    let again = |redelivered| {
        let mut again = letter("<no event>");
        let message = Message { redelivered, ..Message::clone(&again.message) };
        again.message = Arc::new(message);
        again
    };
    let (to, settled) = unbounded_channel();
    for (number, redelivered) in [(0, true), (1, true), (2, false)] {
        spool.store(again(redelivered), Receipt::new(EntryId(number), to.clone()));
    }
    drop(to);
    assert_eq!(all(settled).await, done(0..3));
    assert_eq!(setup.ids(&Filter::default()), [5, 4, 2, 1], "the first copy is the letter that was there");
    spool.close(GRACE).await;
}

#[tokio::test]
async fn what_is_remembered_outlives_the_relay_until_it_is_forgotten() {
    let setup = Setup::new();
    for state in [Some("{}"), None] {
        let spool = setup.open();
        let state = state.map(str::to_owned);
        let of = Subject::Sink("hook".to_owned());
        spool.remember(of.clone(), state.clone());
        spool.close(GRACE).await;
        let spool = setup.open();
        assert_eq!(spool.remembered(&of), state);
        spool.close(GRACE).await;
    }
}

#[tokio::test]
async fn what_can_not_be_written_holds_its_messages_and_is_written_once() {
    let setup = Setup::new();
    let spool = setup.open();
    let mut watch = spool.watch(sink()).await.unwrap();
    let other = hold(&setup.config().path);
    let (_, mut settled) = spill(&spool, (0..50).map(|number| waiting(number, number)));
    problem(&spool, true).await;
    assert!(settled.try_recv().is_err(), "nothing settles before it is on disk");
    drop(other);
    assert_eq!(all(settled).await, done(0..50));
    let taken = take(&spool, &mut watch, 100).await;
    assert_eq!(taken.iter().map(|(id, _)| *id).collect::<BTreeSet<_>>().len(), 50);
    assert_eq!(spool.shares()[0].1.count(), 50);
    spool.close(GRACE).await;
}

#[tokio::test]
async fn people_see_what_waits() {
    let setup = Setup::new();
    assert_eq!(waits(&setup.config().path).unwrap(), []);
    let spool = setup.open();
    let (_, settled) =
        spill(&spool, [waiting(1, 1), waiting(1, 2), Waiting { cause: Some("down".into()), ..waiting(2, 3) }]);
    all(settled).await;
    let seen = waits(&setup.config().path).unwrap();
    let [hook] = seen.as_slice() else { panic!("{seen:?}") };
    assert_eq!((hook.sink.as_str(), hook.count, hook.cause.as_deref()), ("hook", 3, Some("down")));
    assert_eq!(hook.bytes, spool.shares()[0].1.bytes());
    assert!(hook.oldest.is_some() && hook.next.is_some());
    spool.close(GRACE).await;
}

/// How old a delivery is outlives a restart by both clocks, and due times go on within one boot.
#[tokio::test]
async fn times_go_on_within_a_boot_and_are_doubted_in_another() {
    let setup = Setup::new();
    let spool = setup.open();
    assert!(!spool.clock_goes_on(), "nothing was written yet");
    let an_hour_ago = Timestamp::now().before(Duration::from_hours(1));
    let (_, settled) = spill(&spool, [Waiting { received: an_hour_ago, ..waiting(1, 1) }, waiting(2, 2)]);
    all(settled).await;
    spool.close(GRACE).await;
    let connection = Connection::open(setup.config().path).unwrap();
    // The wall clock was set to another year since.
    connection.execute("UPDATE deliveries SET received = received - 31536000000", []).unwrap();

    let spool = setup.open();
    assert!(spool.clock_goes_on());
    let mut watch = spool.watch(sink()).await.unwrap();
    spool.take(sink(), Portion { count: 10, bytes: 1 << 20 });
    let Some(News::Due(due)) = watch.news.recv().await else { panic!("no deliveries") };
    let ages: Vec<_> = due.rows.iter().map(|(_, waiting)| waiting.received.age().as_secs() / 3_600).collect();
    assert_eq!(ages, [1, 0]);
    spool.close(GRACE).await;

    connection.execute("UPDATE clock SET boot = boot + 2", []).unwrap();
    connection.execute("UPDATE heads SET due = due + 3600000", []).unwrap();
    let spool = setup.open();
    assert!(!spool.clock_goes_on());
    let mut watch = spool.watch(sink()).await.unwrap();
    assert_eq!(take(&spool, &mut watch, 10).await, [], "they seem to be due in an hour");
    spool.make_due(sink(), MonotonicTime::now());
    assert_eq!(take(&spool, &mut watch, 10).await.len(), 2);
    spool.close(GRACE).await;
    let kept: (i64, i64) =
        connection.query_row("SELECT boot, base FROM clock", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!(kept, (ClockBase::now().boot, ClockBase::now().base));
}

/// A file as the version before left it, where the due time was the row's own.
#[tokio::test]
async fn what_an_older_relay_left_is_seen_and_delivered() {
    let setup = Setup::new();
    let path = setup.config().path;
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let old = Connection::open(&path).unwrap();
    old.execute_batch(include_str!("../schema/1_dead_letters.sql")).unwrap();
    old.execute_batch(include_str!("../schema/2_deliveries.sql")).unwrap();
    old.execute_batch("PRAGMA application_id = 0x5267526c; PRAGMA user_version = 2").unwrap();
    let later = MonotonicTime::now().after(Duration::from_hours(1));
    for (id, key, due) in [(1, 1, Some(5)), (2, 1, None), (3, 2, Some(later.0))] {
        let row = "INSERT INTO deliveries (id, sink, key, due, received, attempts, cause, type, tenant, event_id, source, shard, size, \
                   properties, body) VALUES (?1, 'hook', ?2, ?3, 7, 0, 'no ' || ?1, '', '', zeroblob(16), '', 0, 1, '{}', ?4)";
        old.execute(row, rusqlite::params![id, key, due, format!("<{id}>").as_bytes()]).unwrap();
    }
    let seen = waits(&path).unwrap();
    assert_eq!(
        (seen[0].count, seen[0].next, seen[0].cause.as_deref()),
        (3, Some(MonotonicTime(5)), Some("no 3")),
        "of the latest attempt"
    );
    drop(old);

    let spool = setup.open();
    assert_eq!(waits(&path).unwrap(), seen);
    assert_eq!(spool.shares()[0].1.oldest, Some(Timestamp::from_wall(WallTime(7))));
    let mut watch = spool.watch(sink()).await.unwrap();
    for body in ["<1>", "<2>"] {
        let taken = take(&spool, &mut watch, 10).await;
        assert_eq!(bodies(&taken), [body]);
        spool.done(taken[0].0, sink());
    }
    assert_eq!(take(&spool, &mut watch, 10).await, []);
    assert_eq!(waits(&path).unwrap()[0].next, Some(later));
    spool.close(GRACE).await;
}

/// Bodies come from outside: what is taken at once is bounded in bytes, too.
#[tokio::test]
async fn no_more_bytes_are_taken_than_asked_for_but_one_delivery_always_is() {
    let setup = Setup::new();
    let spool = setup.open();
    let mut watch = spool.watch(sink()).await.unwrap();
    let large = |number: u64, bytes: usize| {
        let mut waiting = waiting(number, number);
        waiting.message = letter(&number.to_string().repeat(bytes)).message;
        waiting
    };
    let (_, settled) = spill(&spool, [(1, 300), (2, 300), (3, 300), (4, 2_000), (5, 300)].map(|(n, b)| large(n, b)));
    all(settled).await;
    let mut portions = Vec::new();
    loop {
        spool.take(sink(), Portion { count: 10, bytes: 700 });
        let Some(News::Due(due)) = watch.news.recv().await else { panic!() };
        let Some(last) = due.rows.last() else { break };
        portions.push(due.rows.iter().map(|(id, _)| id.number()).collect::<Vec<_>>());
        assert_eq!(
            due.next.is_some_and(|next| next <= MonotonicTime::now()),
            last.0.number() < 5,
            "whether there are more"
        );
    }
    assert_eq!(portions, [vec![1, 2], vec![3], vec![4], vec![5]]);
    spool.close(GRACE).await;
}
