//! The journal as a whole: what is recorded is found, the file keeps its limits, and nothing stops because of it.

mod postgres;

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use tempfile::TempDir;

use super::buffer::Pushed::{Filled, Skipped, Stored};
use super::*;
use crate::config::JournalStoreConfig;
use crate::event::{DecodeOptions, ExpectedFamily, HeaderValue, Properties, SourceName, Validation};
use crate::postgres::{BlockingConnection, PostgresError, testing};

/// The end of a test that waits for the journal's thread.
const PATIENCE: Duration = Duration::from_mins(1);

struct Setup {
    directory: TempDir,
    config: JournalConfig,
}

impl Setup {
    fn new() -> Self {
        Self::in_postgres().unwrap_or_else(Self::in_a_file)
    }

    fn in_postgres() -> Option<Self> {
        let store = JournalStoreConfig::Postgres(Box::new(testing::schema()?));
        let Self { directory, config } = Self::in_a_file();
        Some(Self { directory, config: JournalConfig { store, ..config } })
    }

    /// For what only a journal in a file does.
    fn in_a_file() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = JournalStoreConfig::Sqlite(directory.path().join("journal.db"));
        let config = JournalConfig { store, keep: Duration::from_hours(1), max_size: 64 << 20, bodies: true };
        Self { directory, config }
    }

    fn file(&self) -> &Path {
        self.config.store.file().expect("a file")
    }

    fn start(&self) -> Journal {
        Journal::start(Some(&self.config)).unwrap()
    }

    async fn record(&self, events: impl IntoIterator<Item = (Event, Message)>) {
        let journal = self.start();
        for (event, message) in events {
            journal.record_event(&event, &message, ["everything"].into_iter(), ["pipeline"].into_iter());
        }
        journal.close(PATIENCE).await;
        assert_eq!(journal.stats().unwrap().skipped(), 0);
    }

    fn reader(&self) -> JournalReader {
        JournalReader::open(&self.config.store).unwrap().expect("a journal")
    }

    fn found(&self, id: &str) -> Vec<String> {
        let mut found = Vec::new();
        let describe = |record: Record<'_>| match record {
            Record::Event(event) if [Some(event.correlation_id), event.product_id].contains(&Some(id)) => {
                found.push(format!("{} {}", event.correlation_id, event.status));
            }
            _ => {}
        };
        self.reader().find(&[RequestKey::of_request(id)], describe).unwrap();
        found
    }

    /// The file and its log, or the content of the tables.
    fn size(&self) -> u64 {
        if self.config.store.file().is_none() {
            let size = "SELECT (SELECT sum(length(records)) FROM journal_blocks) + (SELECT sum(length(words)) FROM journal_keys)";
            return self.number(size).cast_unsigned();
        }
        let beside = |suffix| PathBuf::from(format!("{}{suffix}", self.file().display()));
        ["", "-wal"].map(|suffix| beside(suffix).metadata().map_or(0, |file| file.len())).iter().sum()
    }

    /// What a statement on the tables finds.
    fn number(&self, statement: &str) -> i64 {
        let JournalStoreConfig::Postgres(database) = &self.config.store else { panic!("it is in a file") };
        let connection = BlockingConnection::open(database, "the journal").unwrap();
        let number = connection.run(async |connection| {
            let found = connection.rows(statement, &[]).await?;
            Ok::<i64, PostgresError>(connection.decode(&found, |row| row.try_get(0))?[0])
        });
        number.unwrap()
    }
}

fn message(correlation_id: &str, status: &str) -> Message {
    let body = format!(r#"{{"correlationId":"{correlation_id}","productId":"P1","responseStatus":"{status}"}}"#);
    let headers = vec![("regards.tenant".to_owned(), HeaderValue::Text("cnes-a".to_owned()))];
    Message {
        source: SourceName::new("regards"),
        body: Bytes::from(body),
        properties: Properties { headers, timestamp: Some(1_681_461_977), ..Properties::default() },
        redelivered: false,
    }
}

fn received(correlation_id: &str, status: &str) -> (Event, Message) {
    let message = message(correlation_id, status);
    let family = crate::event::FAMILIES.iter().find(|family| family.name == "lta").unwrap();
    let options = DecodeOptions {
        expects: ExpectedFamily::One(family),
        validation: Validation::Lenient,
        tenant: None,
        max_body: 1 << 20,
    };
    (Event::decode(&message, &options).unwrap(), message)
}

#[tokio::test]
async fn a_request_is_found_by_its_ids_with_all_that_was_recorded() {
    let setup = Setup::new();
    let journal = setup.start();
    let (granted, message) = received("order-1", "GRANTED");
    journal.record_event(&granted, &message, ["everything", "failures"].into_iter(), ["pipeline"].into_iter());
    let destination = Destination::Kafka { topic: "regards.cnes-a", partition: 3, offset: 42 };
    let delivery = DeliveryRecord {
        event: granted.id.into_bytes(),
        sink: Some("pipeline"),
        attempts: 2,
        at: 1_700_000_000_000,
        replayed: false,
        duration: Some(12),
        last_error: Some("503"),
        end: DeliveryEnd::Delivered(destination),
    };
    journal.record_delivery(&granted.correlation_id, &delivery);
    let (other, other_message) = received("order-2", "ERROR");
    journal.record_event(&other, &other_message, std::iter::empty(), std::iter::empty());
    journal.close(PATIENCE).await;

    assert_eq!(setup.found("order-1"), ["order-1 GRANTED"]);
    assert_eq!(setup.found("P1"), ["order-1 GRANTED", "order-2 ERROR"]);
    assert_eq!(setup.found("order-3"), [""; 0]);
    let mut events = 0;
    let mut deliveries = 0;
    let check = |record: Record<'_>| match record {
        Record::Event(event) if event.id == granted.id.into_bytes() => {
            events += 1;
            assert_eq!(event.routes, ["everything", "failures"]);
            assert_eq!(event.sinks, ["pipeline"]);
            assert_eq!((event.tenant, event.outcome, event.redelivered), ("cnes-a", "accepted", false));
            let stored = event.message.unwrap().to_message(event.source, event.redelivered).unwrap();
            assert_eq!((stored.body, stored.properties), (message.body.clone(), message.properties.clone()));
        }
        Record::Event(_) => {}
        Record::Delivery(found) => {
            deliveries += 1;
            assert_eq!(found, delivery);
        }
    };
    setup.reader().find(&[RequestKey::of_event_id(granted.id)], check).unwrap();
    assert_eq!((events, deliveries), (1, 1));
}

async fn wait_until_written(journal: &Journal) {
    let begun = Instant::now();
    while journal.stats().unwrap().records() == 0 {
        assert!(begun.elapsed() < PATIENCE, "nothing was written");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_record_is_in_the_file_soon_and_without_a_close() {
    let setup = Setup::new();
    let journal = setup.start();
    let (event, message) = received("order-1", "GRANTED");
    journal.record_event(&event, &message, std::iter::empty(), std::iter::empty());
    wait_until_written(&journal).await;
    assert_eq!(setup.found("order-1"), ["order-1 GRANTED"]);
    journal.close(PATIENCE).await;
}

#[tokio::test]
async fn without_bodies_no_message_is_recorded() {
    let mut setup = Setup::new();
    setup.config.bodies = false;
    setup.record([received("order-1", "ERROR")]).await;
    let check = |record: Record<'_>| assert!(matches!(record, Record::Event(EventRecord { message: None, .. })));
    setup.reader().find(&[RequestKey::of_request("order-1")], check).unwrap();
}

#[tokio::test]
async fn a_test_is_recorded_beside_a_running_relay_and_never_replayed() {
    let setup = Setup::new();
    let journal = setup.start();
    let (event, message) = received("order-1", "GRANTED");
    journal.record_event(&event, &message, std::iter::empty(), std::iter::empty());
    wait_until_written(&journal).await;
    let (test, test_message) = received("test-1", "ERROR");
    let delivery = DeliveryRecord {
        event: test.id.into_bytes(),
        sink: Some("pipeline"),
        attempts: 1,
        at: 0,
        replayed: false,
        duration: None,
        last_error: None,
        end: DeliveryEnd::Failed { error: "401" },
    };
    record_test(&setup.config, &test, &test_message, &delivery).unwrap();
    let (later, later_message) = received("order-2", "GRANTED");
    journal.record_event(&later, &later_message, std::iter::empty(), std::iter::empty());
    journal.close(PATIENCE).await;
    assert_eq!(journal.stats().unwrap().skipped(), 0);

    assert_eq!(setup.found("test-1"), ["test-1 ERROR"]);
    let scanned = |correlation_id: Option<&str>| {
        let filter = EventFilter { correlation_id: correlation_id.map(str::to_owned), ..EventFilter::default() };
        let (reader, mut scanned) = (setup.reader(), Vec::new());
        let mut scan = reader.scan(filter).unwrap();
        while reader.scan_next(&mut scan, |event| scanned.push(event.correlation_id.to_owned())).unwrap() {}
        scanned
    };
    assert_eq!(scanned(None), ["order-1", "order-2"]);
    assert_eq!(scanned(Some("order-2")), ["order-2"]);
    assert!(scanned(Some("test-1")).is_empty());
}

#[tokio::test]
async fn the_event_of_a_large_message_is_recorded_without_it() {
    let setup = Setup::new();
    let (event, mut message) = received("large", "GRANTED");
    message.body = "x".repeat(8 << 20).into();
    setup.record([(event, message)]).await;
    let mut events = 0;
    let check = |record: Record<'_>| {
        assert!(matches!(record, Record::Event(EventRecord { message: None, .. })));
        events += 1;
    };
    setup.reader().find(&[RequestKey::of_request("large")], check).unwrap();
    assert_eq!(events, 1);
}

#[tokio::test]
async fn without_a_journal_there_is_no_file() {
    let setup = Setup::in_a_file();
    let journal = Journal::start(None).unwrap();
    let (event, message) = received("order-1", "GRANTED");
    journal.record_event(&event, &message, std::iter::empty(), std::iter::empty());
    journal.close(PATIENCE).await;
    assert!(journal.stats().is_none());
    assert_eq!(setup.directory.path().read_dir().unwrap().count(), 0);
    assert!(JournalReader::open(&setup.config.store).unwrap().is_none());
}

/// Bodies that can hardly be compressed fill the file quickly.
fn random_events(run: u64, count: u64) -> impl Iterator<Item = (Event, Message)> {
    (0..count).map(move |number| {
        let (event, mut message) = received(&format!("order-{run}-{number}"), "GRANTED");
        let random: Vec<u8> = (0..8_000).flat_map(|_| fastrand::u64(..).to_le_bytes()).collect();
        message.body = STANDARD.encode(random).into();
        (event, message)
    })
}

#[tokio::test]
async fn at_its_limit_the_oldest_records_are_removed() {
    let setup = Setup::new();
    let limit = setup.config.max_size;
    let (mut largest, mut runs) = (0, 0);
    setup.record([received("the first", "GRANTED")]).await;
    while runs < 30 {
        setup.record(random_events(runs, 40)).await;
        largest = largest.max(setup.size());
        runs += 1;
    }
    assert!(largest > limit / 2 && largest <= limit + limit / 10, "{largest} of {limit}");
    assert_eq!(setup.found("the first"), [""; 0]);
    assert_eq!(setup.found("order-0-0"), [""; 0]);
    assert_eq!(setup.found("order-29-39"), ["order-29-39 GRANTED"]);
    // A smaller limit takes effect, too: pages go back to the disk.
    let mut setup = setup;
    setup.config.max_size = limit / 4;
    for run in 30..36 {
        setup.record(random_events(run, 40)).await;
    }
    assert!(setup.size() <= limit / 4 + limit / 40, "{}", setup.size());
}

#[tokio::test]
async fn old_records_are_removed() {
    let mut setup = Setup::new();
    setup.record([received("old", "GRANTED")]).await;
    assert_eq!(setup.found("old"), ["old GRANTED"]);
    setup.config.keep = Duration::ZERO;
    let begun = Instant::now();
    while !setup.found("old").is_empty() {
        assert!(begun.elapsed() < PATIENCE, "it is still there");
        setup.record([]).await;
    }
}

#[tokio::test]
async fn a_damaged_file_is_renamed_and_a_new_one_begun() {
    let setup = Setup::in_a_file();
    setup.record([received("before", "GRANTED")]).await;
    std::fs::write(setup.file(), "not a database, but long enough to be looked at as one\n".repeat(100)).unwrap();
    setup.record([received("after", "GRANTED")]).await;
    assert_eq!(setup.found("before"), [""; 0]);
    assert_eq!(setup.found("after"), ["after GRANTED"]);
    let names: Vec<_> = setup.directory.path().read_dir().unwrap().map(|file| file.unwrap().file_name()).collect();
    let renamed = names.iter().filter(|name| name.to_string_lossy().starts_with("journal.db.corrupt-")).count();
    assert_eq!(renamed, 1, "{names:?}");
}

#[tokio::test]
async fn damage_that_is_found_while_the_journal_is_written_costs_one_batch() {
    let setup = Setup::in_a_file();
    setup.record((0..200).map(|number| received(&format!("before-{number}"), "GRANTED"))).await;
    let mut file = std::fs::read(setup.file()).unwrap();
    // The header stays; all pages after the first are overwritten.
    file[4_096..].fill(0xa5);
    std::fs::write(setup.file(), file).unwrap();
    let journal = setup.start();
    let begun = Instant::now();
    let mut number = 0;
    while journal.stats().unwrap().records() == 0 {
        assert!(begun.elapsed() < PATIENCE, "no new journal was begun");
        let (event, message) = received(&format!("after-{number}"), "GRANTED");
        journal.record_event(&event, &message, std::iter::empty(), std::iter::empty());
        number += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    journal.close(PATIENCE).await;
    let last = format!("after-{}", number - 1);
    assert_eq!(setup.found(&last), [format!("{last} GRANTED")]);
}

#[test]
fn records_that_find_no_room_in_memory_are_counted() {
    let buffer = Buffer::default();
    let (event, _) = received("order-1", "GRANTED");
    let record = |body: &'static str| DeliveryRecord {
        event: event.id.into_bytes(),
        sink: Some(body),
        attempts: 1,
        at: 0,
        replayed: false,
        duration: None,
        last_error: None,
        end: DeliveryEnd::Dropped,
    };
    let large: &'static str = Box::leak("x".repeat(1 << 20).into_boxed_str());
    let push = |body| buffer.push(&[RequestKey::of_request("order-1")], RecordRef::Delivery(&record(body)));
    let pushed: Vec<_> = (0..5).map(|_| push(large)).collect();
    assert_eq!(pushed, [Filled, Filled, Filled, Skipped, Skipped]);
    assert_eq!(push("small"), Stored, "a record that fits is still taken");
    assert!(buffer.has_full_block());
    let records = |growing| buffer.take(growing).iter().map(|block| block.records).collect::<Vec<_>>();
    assert_eq!(records(false), [1, 1, 1]);
    assert_eq!((records(true), records(true)), (vec![1], vec![]));
    assert_eq!(push(large), Filled, "there is room again");
}
