//! The computed sizes of rows, compared with the pages of the file that they use.

use super::deliveries::{delivery, sink};
use super::*;

const PAGE: u64 = 4_096;

/// The used pages of the file, in bytes.
pub(super) fn in_use(path: &Path) -> u64 {
    let file = Connection::open(path).unwrap();
    let pragma = |name| file.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(pragma("page_size"), i64::try_from(PAGE).unwrap());
    (pragma("page_count") - pragma("freelist_count")).cast_unsigned() * PAGE
}

pub(super) fn assert_within_a_fifth(what: &str, computed: u64, used: u64) {
    assert!(computed.abs_diff(used) * 5 <= used, "{what}: {computed} bytes are computed, and {used} are used");
}

/// A body as REGARDS sends it, with one long text.
fn body(number: u64, bytes: usize) -> String {
    format!(r#"{{"correlationId":"{:032}","message":"{}"}}"#, number, "x".repeat(bytes))
}

/// With the properties that REGARDS sets.
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

/// Sets of rows, by the lengths of their bodies.
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
async fn the_size_of_deliveries_matches_the_file() {
    let grouped = ("grouped, 236 bytes", vec![160; 4_000]);
    for (what, lengths) in lengths().into_iter().chain([grouped]) {
        let setup = Setup::in_a_file();
        let spool = setup.open();
        let empty = in_use(&setup.path());
        let (to, settled) = unbounded_channel();
        for (number, bytes) in (1_u64..).zip(&lengths) {
            // Random, as hashes of keys are.
            let key = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let group = what.starts_with("grouped").then(|| r#"{"status":"ERROR","tenant":"esa"}"#.into());
            let delivery = SpooledDelivery { message: message(number, *bytes), group, ..delivery(key, number) };
            spool.spill(delivery, Receipt::new(EntryId(number), to.clone()), false, SizeLimits::Enforced).unwrap();
        }
        drop(to);
        all(settled).await;
        let said = spool.sink_usage()[0].1.bytes();
        let taken = in_use(&setup.path()) - empty;
        assert_within_a_fifth(what, said, taken);
        assert_eq!(setup.reader().backlogs().unwrap()[0].bytes, said, "`SpoolReader::backlogs` shows the same");
        spool.close(GRACE).await;
        let spool = setup.open();
        assert_eq!(spool.sink_usage()[0].1.bytes(), said, "after a restart, too");
        spool.close(GRACE).await;
    }
}

#[tokio::test]
async fn the_size_of_dead_letters_matches_the_file() {
    let long_ids = ("long correlation ids", vec![160; 1_000]);
    for (what, lengths) in lengths().into_iter().chain([long_ids]) {
        let setup = Setup::in_a_file();
        let spool = setup.open();
        let empty = in_use(&setup.path());
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
            spool.store_dead_letter(letter, Receipt::new(EntryId(number), to.clone()));
        }
        drop(to);
        all(settled).await;
        let said = spool.dead_letter_bytes();
        let taken = in_use(&setup.path()) - empty;
        assert_within_a_fifth(what, said, taken);
        spool.close(GRACE).await;
        let spool = setup.open();
        assert_eq!(spool.dead_letter_bytes(), said, "after a restart, too");
        spool.close(GRACE).await;
    }
}
