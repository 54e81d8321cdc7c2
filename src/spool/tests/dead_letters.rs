//! Dead letters are stored once, and read beside the relay.

use super::*;

#[tokio::test]
async fn a_settled_dead_letter_can_be_read_while_the_relay_runs() {
    let setup = Setup::new();
    let spool = setup.open();
    let mut whole = letter("{\"é\":\0");
    whole.sink = Some(SinkName::new("on_call"));
    whole.status = Some("ERROR".to_owned());
    whole.correlation_id = Some("c-1".to_owned());
    whole.event_id = Some(Uuid::from_u128(7));
    whole.attempts = 3;
    let message = Message {
        source: SourceName::new("regards"),
        body: bytes::Bytes::from_static(b"\xff\0\x01"),
        properties: Properties {
            app_id: Some("rs-lta-manager".to_owned()),
            timestamp: Some(1_681_461_977),
            headers: vec![
                ("regards.tenant".to_owned(), HeaderValue::Text("esa".to_owned())),
                ("x-death".to_owned(), HeaderValue::Table(vec![("time".to_owned(), HeaderValue::Timestamp(7))])),
                ("raw".to_owned(), HeaderValue::Binary(bytes::Bytes::from_static(b"\xff\0"))),
            ],
            headers_too_deep: true,
            ..Properties::default()
        },
        redelivered: true,
    };
    whole.message = Arc::new(message);
    let (to, settled) = unbounded_channel();
    spool.store_dead_letter(whole.clone(), Receipt::new(EntryId(0), to));
    assert_eq!(all(settled).await, done(0..1));

    // The relay still runs.
    let shown = setup.read().show(1).unwrap().unwrap();
    assert_eq!(shown.summary.reason, "not_json");
    assert_eq!(shown.summary.detail, whole.detail);
    assert_eq!(shown.summary.sink.as_deref(), Some("on_call"));
    assert_eq!(shown.summary.source, "regards");
    assert_eq!(shown.summary.tenant.as_deref(), Some("esa"));
    assert_eq!(shown.summary.status.as_deref(), Some("ERROR"));
    assert_eq!(shown.summary.correlation_id.as_deref(), Some("c-1"));
    assert_eq!(shown.summary.attempts, 3);
    assert!((WallTime::now().0 - shown.summary.at.0).abs() < 60_000);
    assert_eq!(shown.summary.event_id, whole.event_id);
    assert_eq!(shown.message.body, whole.message.body);
    assert_eq!(shown.message.properties, whole.message.properties);
    assert!(setup.read().show(2).unwrap().is_none());
    spool.close(GRACE).await;
}

#[tokio::test]
async fn thousands_of_dead_letters_at_once_are_stored_in_order() {
    let setup = Setup::new();
    let spool = setup.open();
    let settled = store(&spool, 0..2_500);
    assert_eq!(all(settled).await, done(0..2_500));
    assert_eq!(setup.ids(&DeadLetterFilter::default()), (1..=2_500).rev().collect::<Vec<_>>());
    assert_eq!(setup.read().show(2_500).unwrap().unwrap().message.body, "<2499>");
    spool.close(GRACE).await;
}

#[tokio::test]
async fn the_next_relay_continues_ids_and_counts() {
    let setup = Setup::new();
    let spool = setup.open();
    let settled = store(&spool, 0..3);
    spool.close(GRACE).await;
    assert_eq!(all(settled).await, done(0..3));
    // The id of a deleted dead letter is not given again.
    setup.execute("DELETE FROM dead_letters WHERE id = 3");

    let spool = setup.open();
    let before = DeadLetterCount { total: 0, stored: 2 };
    assert_eq!(spool.dead_letter_counts(), [(Reason::NotJson, None, before)]);
    assert!(spool.dead_letter_bytes() > 0);
    assert_eq!(all(store(&spool, 3..4)).await, done(3..4));
    assert_eq!(spool.dead_letter_counts(), [(Reason::NotJson, None, DeadLetterCount { total: 1, stored: 3 })]);
    assert_eq!(setup.ids(&DeadLetterFilter::default()), [4, 2, 1]);
    spool.close(GRACE).await;
}

#[tokio::test]
async fn dead_letters_that_can_not_be_stored_are_kept_and_stored_once() {
    let setup = Setup::in_a_file();
    let spool = setup.open();
    let other = hold(&setup.path());
    let mut settled = store(&spool, 0..5);
    let trouble = problem(&spool, true).await.unwrap();
    assert!(trouble.contains("another program holds a lock"), "{trouble}");
    assert!(settled.try_recv().is_err(), "nothing settles before it is stored");
    drop(other);
    assert_eq!(all(settled).await, done(0..5));
    problem(&spool, false).await;
    assert_eq!(setup.ids(&DeadLetterFilter::default()), [5, 4, 3, 2, 1]);
    spool.close(GRACE).await;
}

#[tokio::test]
async fn dead_letters_that_are_not_stored_when_the_spool_closes_are_abandoned() {
    let setup = Setup::in_a_file();
    let spool = setup.open();
    let other = hold(&setup.path());
    let tried = store(&spool, 0..1);
    problem(&spool, true).await;
    let untried = store(&spool, 1..2);
    spool.close(Duration::from_millis(1)).await;
    let late = store(&spool, 2..3);
    // Each by itself: in which order they are abandoned depends on whether the writer has tried them, and nobody relies on it.
    for (settled, number) in [(tried, 0), (untried, 1), (late, 2)] {
        assert_eq!(all(settled).await, [Settlement::Abandoned(EntryId(number))]);
    }
    assert!(spool.problem().is_some());
    drop(other);
    assert_eq!(setup.ids(&DeadLetterFilter::default()), [0; 0]);
}

#[tokio::test]
async fn filters_select_dead_letters() {
    let setup = Setup::new();
    let spool = setup.open();
    let (to, settled) = unbounded_channel();
    for number in 1..=4_u64 {
        let mut letter = letter("{}");
        if number > 1 {
            letter.reason = Reason::Refused;
            letter.sink = Some(SinkName::new("pipeline"));
            letter.status = Some("ERROR".to_owned());
        }
        if number > 2 {
            letter.tenant = Some("cnes".to_owned());
            letter.correlation_id = Some("c-1".to_owned());
        }
        spool.store_dead_letter(letter, Receipt::new(EntryId(number), to.clone()));
    }
    drop(to);
    assert_eq!(all(settled).await, done(1..5));
    let text = |text: &str| Some(text.to_owned());
    let expected: [(DeadLetterFilter, &[i64]); 8] = [
        (DeadLetterFilter { tenant: text("cnes"), ..DeadLetterFilter::default() }, &[4, 3]),
        (DeadLetterFilter { status: text("ERROR"), ..DeadLetterFilter::default() }, &[4, 3, 2]),
        (DeadLetterFilter { sink: text("pipeline"), tenant: text("esa"), ..DeadLetterFilter::default() }, &[2]),
        (DeadLetterFilter { reason: Some(Reason::NotJson), ..DeadLetterFilter::default() }, &[1]),
        (DeadLetterFilter { correlation_id: text("c-1"), ..DeadLetterFilter::default() }, &[4, 3]),
        (DeadLetterFilter { limit: Some(1), ..DeadLetterFilter::default() }, &[4]),
        (DeadLetterFilter { since: Some(WallTime::now().0 - 60_000), ..DeadLetterFilter::default() }, &[4, 3, 2, 1]),
        (DeadLetterFilter { since: Some(WallTime::now().0 + 60_000), ..DeadLetterFilter::default() }, &[]),
    ];
    for (filter, ids) in expected {
        assert_eq!(setup.ids(&filter), ids, "{filter:?}");
    }
    spool.close(GRACE).await;
}

#[test]
fn an_unused_spool_has_no_dead_letters() {
    let setup = Setup::in_a_file();
    assert!(!setup.read().exist());
    assert!(setup.ids(&DeadLetterFilter::default()).is_empty());
    assert!(!setup.directory.path().join("data").exists(), "reading creates nothing");
}

#[test]
fn dead_letters_are_read_after_a_crash() {
    let setup = Setup::in_a_file();
    let _database = sqlite::Database::open(&sqlite::Database::locate(&setup.path()).unwrap()).unwrap();
    let insert = "INSERT INTO dead_letters (at, boot, uptime, reason, detail, source, identity, attempts, size, properties, body) \
                  VALUES (1, 0, 0, 'not_json', '', 's', x'', 0, 0, '{}', x'')";
    Connection::open(setup.path()).unwrap().execute(insert, []).unwrap();
    // As after a kill: a copy of the file and its log, without the shared memory.
    let data = setup.directory.path().join("data");
    let crashed = setup.directory.path().join("crashed");
    std::fs::create_dir(&crashed).unwrap();
    for name in ["spool.db", "spool.db-wal"] {
        std::fs::copy(data.join(name), crashed.join(name)).unwrap();
    }
    let letters = SpoolReader::new(&SpoolConfig::at(crashed.join("spool.db")).store).dead_letters().unwrap();
    assert!(letters.show(1).unwrap().is_some());
}

#[tokio::test]
async fn long_details_are_cut_between_characters() {
    let setup = Setup::new();
    let spool = setup.open();
    let (to, settled) = unbounded_channel();
    let mut long = letter("{}");
    long.detail = "é".repeat(10_000) + "x";
    long.detail.insert(0, 'x');
    spool.store_dead_letter(long, Receipt::new(EntryId(0), to));
    assert_eq!(all(settled).await, done(0..1));
    let shown = setup.read().show(1).unwrap().unwrap();
    assert_eq!(shown.summary.detail.len(), 4_095);
    spool.close(GRACE).await;
}

/// The texts that a list shows can be as large as the message.
#[tokio::test]
async fn a_list_reads_bounded_pages_and_leaves_none_out() {
    let setup = Setup::new();
    let spool = setup.open();
    let (to, settled) = unbounded_channel();
    for number in 0..20 {
        let long = DeadLetter { correlation_id: Some("c".repeat(1 << 20)), ..letter("{}") };
        spool.store_dead_letter(long, Receipt::new(EntryId(number), to.clone()));
    }
    drop(to);
    all(settled).await;
    let page = setup.read().store.page(&DeadLetterFilter::default(), None, 500).unwrap();
    assert_eq!(page.len(), 8, "8 MiB");
    assert_eq!(setup.ids(&DeadLetterFilter::default()).len(), 20);
    spool.close(GRACE).await;
}
