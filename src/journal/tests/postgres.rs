//! What only a journal in PostgreSQL does. Without a server for the tests, there is nothing to test.

use super::*;
use crate::journal::store::Store;

#[tokio::test]
async fn relays_that_write_at_the_same_time_share_one_journal() {
    let Some(setup) = Setup::in_postgres() else { return };
    let journals = [setup.start(), setup.start(), setup.start()];
    for number in 0..300 {
        let (event, message) = received(&format!("order-{number}"), "GRANTED");
        journals[number % 3].record_event(&event, &message, std::iter::empty(), std::iter::empty());
        if number % 30 == 0 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    for journal in &journals {
        journal.close(PATIENCE).await;
        assert_eq!(journal.stats().unwrap().skipped(), 0);
    }
    for number in 0..300 {
        let name = format!("order-{number}");
        assert_eq!(setup.found(&name), [format!("{name} GRANTED")]);
    }
    assert_eq!(setup.found("P1").len(), 300);
    let numbers = "SELECT count(*) - max(id) + (SELECT records FROM journal) FROM journal_batches";
    assert_eq!(setup.number(numbers), 300, "the numbers of batches are consecutive");
}

/// Whether it was, is not known after a COMMIT without an answer.
#[tokio::test]
async fn a_batch_that_is_stored_is_not_stored_again() {
    let Some(setup) = Setup::in_postgres() else { return };
    let mut batch = batch("order-1");
    let write = |batch: &mut Batch| open(&setup).write(batch, &setup.config).unwrap();
    let first = write(&mut batch);
    assert_eq!((first.records, write(&mut batch).records), (1, 1));
    assert_eq!(setup.found("order-1"), ["order-1 GRANTED"]);
    assert_eq!(write(&mut self::batch("order-2")).records, 2);
}

#[tokio::test]
async fn a_journal_of_another_version_is_not_written() {
    let Some(setup) = Setup::in_postgres() else { return };
    setup.record([received("order-1", "GRANTED")]).await;
    setup.number(
        "WITH changed AS (UPDATE journal SET version = 7 RETURNING version) SELECT version::bigint FROM changed",
    );
    let journal = setup.start();
    let (event, message) = received("order-2", "GRANTED");
    journal.record_event(&event, &message, std::iter::empty(), std::iter::empty());
    journal.close(PATIENCE).await;
    assert_eq!(journal.stats().unwrap().skipped(), 1);
    let error = JournalReader::open(&setup.config.store).unwrap_err().to_string();
    assert!(error.ends_with("has version 7, and this regards-relay can only use version 1"), "{error}");
}

fn open(setup: &Setup) -> Box<dyn Store> {
    store::open(&setup.config.store).unwrap()
}

fn batch(correlation_id: &str) -> Batch {
    let (event, message) = received(correlation_id, "GRANTED");
    let buffer = Buffer::default();
    let record = EventRecord { correlation_id, ..EventRecord::of(&event, &message, true) };
    buffer.push(&RequestKey::of_event(&event), RecordRef::Event(&record));
    let mut batch = Batch::default();
    for block in buffer.take(true) {
        Packer::default().add(&block, &mut batch).unwrap();
    }
    batch
}
