//! What is promised of the copies of dead letters.

use super::*;
use crate::event::DEAD_LETTER;

fn sink() -> SinkName {
    SinkName::new("morgue")
}

fn has_header(message: &Message, name: &str, value: &HeaderValue) -> bool {
    message.properties.headers.iter().any(|header| (header.0.as_str(), &header.1) == (name, value))
}

async fn due(spool: &Spool, watch: &mut Watch) -> Vec<Waiting> {
    spool.take(sink(), Portion { count: 10, bytes: 1 << 20 });
    loop {
        match tokio::time::timeout(GRACE, watch.news.recv()).await.expect("an answer in time") {
            Some(News::Due(due)) => return due.rows.into_iter().map(|(_, waiting)| waiting).collect(),
            Some(News::Added { .. }) => (),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn each_dead_letter_is_copied_while_a_sink_is_named() {
    let setup = Setup::new();
    let spool = setup.open();
    all(store(&spool, 0..1)).await;
    spool.copy_dead_letters_to(Some(sink()));
    let mut watch = spool.watch(sink()).await.unwrap();
    all(store(&spool, 1..3)).await;
    assert!(matches!(watch.news.recv().await, Some(News::Added { .. })), "whoever delivers it hears of it");
    spool.copy_dead_letters_to(None);
    all(store(&spool, 3..4)).await;
    assert_eq!(setup.ids(&Filter::default()), [4, 3, 2, 1]);
    spool.close(GRACE).await;

    // They wait on disk, like all that waits.
    let spool = setup.open();
    let mut watch = spool.watch(sink()).await.unwrap();
    let copies = due(&spool, &mut watch).await;
    let bodies: Vec<&[u8]> = copies.iter().map(|copy| &*copy.message.body).collect();
    assert_eq!(bodies, [b"<1>", b"<2>"]);
    let copy = &copies[0];
    assert_eq!((copy.kind.as_str(), &*copy.tenant, copy.attempts), (DEAD_LETTER, "esa", 0));
    let at = setup.read().show(2).unwrap().unwrap().listed.at.to_rfc3339();
    let text = |text: &str| HeaderValue::Text(text.to_owned());
    for (name, value) in [
        ("regards-relay-dead-letter", HeaderValue::Integer(2)),
        ("regards-relay-reason", text("not_json")),
        ("regards-relay-detail", text("found `<`")),
        ("regards-relay-attempts", HeaderValue::Integer(0)),
        ("regards-relay-at", text(&at)),
    ] {
        assert!(has_header(&copy.message, name, &value), "{name}: {:?}", copy.message.properties.headers);
    }
    assert_ne!(copies[0].key, copies[1].key, "none waits for another");
    spool.close(GRACE).await;
}

#[tokio::test]
async fn what_takes_the_place_of_a_delivery_is_copied() {
    let setup = Setup::new();
    let spool = setup.open();
    spool.copy_dead_letters_to(Some(sink()));
    let hook = SinkName::new("hook");
    let mut watch = spool.watch(hook.clone()).await.unwrap();
    let mut copies = spool.watch(sink()).await.unwrap();
    let waiting = deliveries::waiting(1, 1);
    spool.spill(waiting, Receipt::new(EntryId(0), unbounded_channel().0), false, Limits::Kept).unwrap();
    spool.take(hook.clone(), Portion { count: 10, bytes: 1 << 20 });
    let Some(News::Due(taken)) = watch.news.recv().await else { panic!() };
    let refused = DeadLetter { reason: Reason::Refused, sink: Some(hook.clone()), attempts: 4, ..letter("<1>") };
    spool.bury(refused, taken.rows[0].0, hook);
    let Some(News::Added { key }) = copies.news.recv().await else { panic!() };
    let due = due(&spool, &mut copies).await;
    assert_eq!((due.len(), due[0].key), (1, key));
    assert!(has_header(&due[0].message, "regards-relay-sink", &HeaderValue::Text("hook".to_owned())));
    assert!(has_header(&due[0].message, "regards-relay-attempts", &HeaderValue::Integer(4)));
    spool.close(GRACE).await;
}

/// The letter is kept all the same.
#[tokio::test]
async fn without_room_there_is_no_copy() {
    let mut setup = Setup::new();
    setup.max_size = 1_500;
    let spool = setup.open();
    spool.copy_dead_letters_to(Some(sink()));
    let mut watch = spool.watch(sink()).await.unwrap();
    assert_eq!(all(store(&spool, 0..2)).await, done(0..2));
    assert_eq!(setup.ids(&Filter::default()), [2, 1]);
    let mut not_copied = Vec::new();
    for _ in 0..2 {
        match watch.news.recv().await {
            Some(News::NotCopied { letter }) => not_copied.push(letter),
            Some(News::Added { .. }) => (),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(not_copied, [2], "half of it is too little for two");
    assert_eq!(due(&spool, &mut watch).await.len(), 1);
    spool.close(GRACE).await;
}

/// A redelivered message that is a dead letter already is not copied again.
#[tokio::test]
async fn each_is_copied_once() {
    let setup = Setup::new();
    let spool = setup.open();
    spool.copy_dead_letters_to(Some(sink()));
    all(store(&spool, 0..1)).await;
    spool.close(GRACE).await;

    let spool = setup.open();
    spool.copy_dead_letters_to(Some(sink()));
    let mut watch = spool.watch(sink()).await.unwrap();
    let mut again = letter("<0>");
    again.message = Arc::new(Message { redelivered: true, ..Message::clone(&again.message) });
    let (to, settled) = unbounded_channel();
    spool.store(again, Receipt::new(EntryId(0), to));
    assert_eq!(all(settled).await, done(0..1));
    assert_eq!(setup.ids(&Filter::default()), [1]);
    assert_eq!(due(&spool, &mut watch).await.len(), 1);
    assert_eq!(spool.shares()[0].1.count(), 1, "the room is given back");
    spool.close(GRACE).await;
}
