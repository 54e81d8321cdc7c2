//! The copies of dead letters for `dead_letters.to`.

use super::*;
use crate::event::DEAD_LETTER;

fn sink() -> SinkName {
    SinkName::new("morgue")
}

fn has_header(message: &Message, name: &str, value: &HeaderValue) -> bool {
    message.properties.headers.iter().any(|header| (header.0.as_str(), &header.1) == (name, value))
}

async fn due(spool: &Spool, subscription: &mut Subscription) -> Vec<SpooledDelivery> {
    spool.fetch_due(sink(), FetchLimit { count: 10, bytes: 1 << 20, ..FetchLimit::default() });
    loop {
        match tokio::time::timeout(GRACE, subscription.events.recv()).await.expect("an answer in time") {
            Some(SpoolEvent::Due(due)) => return due.rows.into_iter().map(|(_, delivery)| delivery).collect(),
            Some(SpoolEvent::Added { .. }) => (),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn dead_letters_are_copied_while_a_sink_is_configured() {
    let setup = Setup::new();
    let spool = setup.open();
    all(store(&spool, 0..1)).await;
    spool.copy_dead_letters_to(Some(sink()));
    let mut subscription = spool.subscribe(sink()).await.unwrap();
    all(store(&spool, 1..3)).await;
    assert!(
        matches!(subscription.events.recv().await, Some(SpoolEvent::Added { .. })),
        "the sink's dispatcher is told"
    );
    spool.copy_dead_letters_to(None);
    all(store(&spool, 3..4)).await;
    assert_eq!(setup.ids(&DeadLetterFilter::default()), [4, 3, 2, 1]);
    spool.close(GRACE).await;

    // Copies are spooled like other deliveries.
    let spool = setup.open();
    let mut subscription = spool.subscribe(sink()).await.unwrap();
    let copies = due(&spool, &mut subscription).await;
    let bodies: Vec<&[u8]> = copies.iter().map(|copy| &*copy.message.body).collect();
    assert_eq!(bodies, [b"<1>", b"<2>"]);
    let copy = &copies[0];
    assert_eq!((copy.kind.as_str(), &*copy.tenant, copy.attempts), (DEAD_LETTER, "esa", 0));
    let at = setup.read().show(2).unwrap().unwrap().summary.at.to_rfc3339();
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
async fn a_dead_letter_that_replaces_a_delivery_is_copied() {
    let setup = Setup::new();
    let spool = setup.open();
    spool.copy_dead_letters_to(Some(sink()));
    let hook = SinkName::new("hook");
    let mut subscription = spool.subscribe(hook.clone()).await.unwrap();
    let mut copies = spool.subscribe(sink()).await.unwrap();
    let delivery = deliveries::delivery(1, 1);
    spool.spill(delivery, Receipt::new(EntryId(0), unbounded_channel().0), false, SizeLimits::Enforced).unwrap();
    spool.fetch_due(hook.clone(), FetchLimit { count: 10, bytes: 1 << 20, ..FetchLimit::default() });
    let Some(SpoolEvent::Due(taken)) = subscription.events.recv().await else { panic!() };
    let refused = DeadLetter { reason: Reason::Refused, sink: Some(hook.clone()), attempts: 4, ..letter("<1>") };
    spool.dead_letter(refused, taken.rows[0].0, hook, None);
    let Some(SpoolEvent::Added { key }) = copies.events.recv().await else { panic!() };
    let due = due(&spool, &mut copies).await;
    assert_eq!((due.len(), due[0].key), (1, key));
    assert!(has_header(&due[0].message, "regards-relay-sink", &HeaderValue::Text("hook".to_owned())));
    assert!(has_header(&due[0].message, "regards-relay-attempts", &HeaderValue::Integer(4)));
    spool.close(GRACE).await;
}

/// The dead letter is stored all the same.
#[tokio::test]
async fn a_spool_without_room_stores_no_copy() {
    let mut setup = Setup::new();
    setup.max_size = 1_500;
    let spool = setup.open();
    spool.copy_dead_letters_to(Some(sink()));
    let mut subscription = spool.subscribe(sink()).await.unwrap();
    assert_eq!(all(store(&spool, 0..2)).await, done(0..2));
    assert_eq!(setup.ids(&DeadLetterFilter::default()), [2, 1]);
    let mut not_copied = Vec::new();
    for _ in 0..2 {
        match subscription.events.recv().await {
            Some(SpoolEvent::NotCopied { dead_letter }) => not_copied.push(dead_letter),
            Some(SpoolEvent::Added { .. }) => (),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(not_copied, [2], "half of it is too little for two");
    assert_eq!(due(&spool, &mut subscription).await.len(), 1);
    spool.close(GRACE).await;
}

/// A redelivered message that is already a dead letter is not copied again.
#[tokio::test]
async fn a_dead_letter_is_copied_once() {
    let setup = Setup::new();
    let spool = setup.open();
    spool.copy_dead_letters_to(Some(sink()));
    all(store(&spool, 0..1)).await;
    spool.close(GRACE).await;

    let spool = setup.open();
    spool.copy_dead_letters_to(Some(sink()));
    let mut subscription = spool.subscribe(sink()).await.unwrap();
    let mut again = letter("<0>");
    again.message = Arc::new(Message { redelivered: true, ..Message::clone(&again.message) });
    let (to, settled) = unbounded_channel();
    spool.store_dead_letter(again, Receipt::new(EntryId(0), to));
    assert_eq!(all(settled).await, done(0..1));
    assert_eq!(setup.ids(&DeadLetterFilter::default()), [1]);
    assert_eq!(due(&spool, &mut subscription).await.len(), 1);
    assert_eq!(spool.sink_usage()[0].1.count(), 1, "the room is given back");
    spool.close(GRACE).await;
}
