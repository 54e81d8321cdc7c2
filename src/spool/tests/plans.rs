//! The plans that PostgreSQL chooses.

use super::deliveries::{delivery, sink, spill, take};
use super::*;

const MANY: u64 = 10_000;
const KEYS: u64 = 1_000;

/// The plan of a statement is made when its table is still empty, and is kept for about a minute, until autovacuum has looked at it.
#[tokio::test]
async fn a_new_spool_finds_the_deliveries_of_a_key_without_reading_those_of_others() {
    let setup = Setup::new();
    let Some(database) = &setup.database else {
        println!("SQLite has other plans");
        return;
    };
    let spool = setup.open();
    let mut subscription = spool.subscribe(sink()).await.unwrap();
    let (_, settled) = spill(&spool, (0..MANY).map(|number| delivery(number % KEYS, number)));
    assert_eq!(all(settled).await.len() as u64, MANY);
    let mut left = MANY;
    while left > 0 {
        for (id, _) in take(&spool, &mut subscription, 500).await {
            spool.complete(id, sink());
            left -= 1;
        }
    }
    spool.close(GRACE).await;
    let check = |condition: &str| postgres::execute(database, &format!("DO $$ BEGIN ASSERT {condition}; END $$"));
    let read = "(SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE schemaname = current_schema() AND relname = 'deliveries')";
    // The server counts when the connection has ended.
    let until = Instant::now() + GRACE;
    while let Err(error) = check(&format!("{read} >= {}", 3 * MANY)) {
        assert!(Instant::now() < until, "{error}");
    }
    check(&format!("{read} <= {}", 20 * MANY)).expect("a few for each");
}
