//! What the relay says that its rows take, against the pages of the file that they do take.

use super::deliveries::{sink, waiting};
use super::*;

const PAGE: u64 = 4_096;

/// What of the file is in use, in bytes.
fn in_use(path: &Path) -> u64 {
    let file = Connection::open(path).unwrap();
    let pragma = |name| file.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(pragma("page_size"), i64::try_from(PAGE).unwrap());
    (pragma("page_count") - pragma("freelist_count")).cast_unsigned() * PAGE
}

fn assert_within_a_fifth(what: &str, said: u64, taken: u64) {
    assert!(said.abs_diff(taken) * 5 <= taken, "{what}: {said} bytes are said, and {taken} are taken");
}

/// A body of REGARDS' kind: some texts, and one that is as long as asked for.
fn body(number: u64, bytes: usize) -> String {
    format!(r#"{{"correlationId":"{:032}","message":"{}"}}"#, number, "x".repeat(bytes))
}

/// As messages of REGARDS have them.
fn message(number: u64, bytes: usize) -> Arc<Message> {
    let properties = Properties {
        content_encoding: Some("UTF-8".to_owned()),
        app_id: Some("rs-lta-manager".to_owned()),
        timestamp: Some(1_681_461_977),
        headers: vec![("regards.tenant".to_owned(), HeaderValue::Text("esa".to_owned()))],
        ..Properties::default()
    };
    Arc::new(Message { properties, ..Message::clone(&letter(&body(number, bytes)).message) })
}

/// How long the bodies of so many rows are.
fn lengths() -> Vec<(&'static str, Vec<usize>)> {
    let spread = |most: usize, count: usize| (0..count).map(|number| number * 7_919 % most).collect();
    vec![
        ("236 bytes", vec![160; 4_000]),
        ("1,000 bytes", vec![1_000; 2_000]),
        ("2,000 bytes", vec![2_000; 1_000]),
        ("3,500 bytes", vec![3_500; 600]),
        ("5,000 bytes", vec![5_000; 500]),
        ("20,000 bytes", vec![20_000; 200]),
        ("1 MiB", vec![1 << 20; 12]),
        ("up to 4 KiB", spread(4_096, 1_500)),
        ("236 bytes and 1 MiB", (0..1_000).map(|number| if number % 100 == 0 { 1 << 20 } else { 160 }).collect()),
    ]
}

#[tokio::test]
async fn deliveries_take_what_is_said() {
    for (what, lengths) in lengths() {
        let setup = Setup::new();
        let spool = setup.open();
        let empty = in_use(&setup.config().path);
        let (to, settled) = unbounded_channel();
        for (number, bytes) in (1_u64..).zip(&lengths) {
            // Hashes of keys come in no order.
            let key = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let waiting = Waiting { message: message(number, *bytes), ..waiting(key, number) };
            spool.spill(waiting, Receipt::new(EntryId(number), to.clone()), false, Limits::Kept).unwrap();
        }
        drop(to);
        all(settled).await;
        let said = spool.shares()[0].1.bytes();
        let taken = in_use(&setup.config().path) - empty;
        assert_within_a_fifth(what, said, taken);
        assert_eq!(waits(&setup.config().path).unwrap()[0].bytes, said, "people see the same");
        spool.close(GRACE).await;
        let spool = setup.open();
        assert_eq!(spool.shares()[0].1.bytes(), said, "after a restart, too");
        spool.close(GRACE).await;
    }
}

#[tokio::test]
async fn dead_letters_take_what_is_said() {
    let long_ids = ("long correlation ids", vec![160; 1_000]);
    for (what, lengths) in lengths().into_iter().chain([long_ids]) {
        let setup = Setup::new();
        let spool = setup.open();
        let empty = in_use(&setup.config().path);
        let (to, settled) = unbounded_channel();
        for (number, bytes) in (1_u64..).zip(&lengths) {
            let correlation = u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
            let id = format!("{correlation:032x}");
            let letter = DeadLetter {
                sink: Some(sink()),
                correlation_id: Some(if what.starts_with("long") { id.repeat(50) } else { id }),
                event_id: Some(Uuid::from_u128(correlation.rotate_left(64))),
                kind: Some("fr.cnes.regards.lta.submission.response".to_owned()),
                message: message(number, *bytes),
                ..letter("")
            };
            spool.store(letter, Receipt::new(EntryId(number), to.clone()));
        }
        drop(to);
        all(settled).await;
        let said = spool.bytes();
        let taken = in_use(&setup.config().path) - empty;
        assert_within_a_fifth(what, said, taken);
        spool.close(GRACE).await;
        let spool = setup.open();
        assert_eq!(spool.bytes(), said, "after a restart, too");
        spool.close(GRACE).await;
    }
}

/// A file of version 5, whose rows count 1,024 bytes beside properties and body: they aren't written anew, and count as what they take.
#[tokio::test]
async fn what_an_older_relay_left_counts_as_what_it_takes() {
    let setup = Setup::new();
    let path = setup.config().path;
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let old = Connection::open(&path).unwrap();
    for schema in [
        include_str!("../schema/1_dead_letters.sql"),
        include_str!("../schema/2_deliveries.sql"),
        include_str!("../schema/3_heads.sql"),
        include_str!("../schema/4_batch.sql"),
        include_str!("../schema/5_refusals.sql"),
    ] {
        old.execute_batch(schema).unwrap();
    }
    old.execute_batch("PRAGMA application_id = 0x5267526c; PRAGMA user_version = 5; BEGIN").unwrap();
    let empty = in_use(&path);
    let kind = "fr.cnes.regards.lta.submission.response";
    let properties = message(1, 0).properties.to_json();
    for id in 1..=2_000_i64 {
        let body = body(id.cast_unsigned(), 160);
        let key = id.wrapping_mul(0x1e37_79b9_7f4a_7c15);
        let event_id = Uuid::from_u128(u128::from(key.cast_unsigned()));
        old.execute("INSERT INTO heads (id, sink, due) VALUES (?1, 'hook', ?1)", [id]).unwrap();
        let row = "INSERT INTO deliveries (id, sink, key, received, attempts, route, type, tenant, event_id, source, shard, size, properties, \
                   body) VALUES (?1, 'hook', ?2, 1681461977000, 0, 'all', ?3, 'esa', ?4, 'regards', 0, ?5, ?6, ?7)";
        let size = i64::try_from(1_024 + properties.len() + body.len()).unwrap();
        let values =
            rusqlite::params![id, key, kind, event_id.as_bytes().as_slice(), size, properties, body.as_bytes()];
        old.execute(row, values).unwrap();
    }
    old.execute_batch("COMMIT").unwrap();
    let deliveries = in_use(&path) - empty;
    old.execute_batch("BEGIN").unwrap();
    for id in 1..=2_000_i64 {
        let body = body(id.cast_unsigned(), 160);
        let correlation = format!("{:032x}", id.wrapping_mul(0x1e37_79b9_7f4a_7c15));
        let identity = Uuid::from_u128(u128::from(id.cast_unsigned()).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060));
        let row = "INSERT INTO dead_letters (id, at, reason, detail, sink, source, tenant, status, correlation_id, event_id, attempts, size, \
                   properties, body, identity, route, type) VALUES (?1, 1681461977000, 'refused', 'it answered 400', 'hook', 'regards', 'esa', \
                   'ERROR', ?2, ?3, 3, ?4, ?5, ?6, ?3, 'all', ?7)";
        let texts = "it answered 400esaERROR".len() + correlation.len();
        let size = i64::try_from(512 + texts + properties.len() + body.len()).unwrap();
        let identity = identity.as_bytes().as_slice();
        old.execute(row, rusqlite::params![id, correlation, identity, size, properties, body.as_bytes(), kind])
            .unwrap();
    }
    old.execute_batch("COMMIT").unwrap();
    let letters = in_use(&path) - empty - deliveries;
    let seen = waits(&path).unwrap();
    drop(old);

    let spool = setup.open();
    let said = spool.shares()[0].1.bytes();
    assert_within_a_fifth("deliveries", said, deliveries);
    assert_within_a_fifth("dead letters", spool.bytes(), letters);
    assert_eq!(seen[0].bytes, said, "also beside a relay that is older");
    // What goes, and what comes, is counted as it is.
    let mut watch = spool.watch(sink()).await.unwrap();
    let mut left = 2_000;
    while left > 0 {
        spool.take(sink(), Portion { count: 500, bytes: 1 << 20 });
        let Some(News::Due(due)) = watch.news.recv().await else { panic!() };
        left -= due.rows.len();
        for (id, _) in due.rows {
            spool.done(id, sink());
        }
    }
    let newest = Unwanted::Letters(Filter { limit: Some(1_999), ..Filter::default() });
    assert_eq!(spool.purge(newest, &Arc::default()).await, Ok(1_999));
    assert_eq!(spool.shares()[0].1.bytes(), 0);
    assert!(spool.bytes() < 1_500, "{}", spool.bytes());
    assert!(spool.redrive(Origin::Letter(1), Vec::new()).unwrap().await.unwrap());
    assert_eq!(spool.bytes(), 0);
    spool.close(GRACE).await;

    // The ids of old rows are not given again.
    let spool = setup.open();
    let (ids, settled) = super::deliveries::spill(&spool, [waiting(1, 1)]);
    all(settled).await;
    assert!(ids[0].number() > 2_000, "{ids:?}");
    let said = spool.shares()[0].1.bytes();
    assert!(said > 200, "{said}");
    assert_eq!(waits(&path).unwrap()[0].bytes, said);
    spool.close(GRACE).await;
}
