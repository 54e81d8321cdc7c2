//! The space that a drained backlog leaves.

use super::*;
use crate::spool::postgres::PostgresStore;
use crate::spool::store::Store;
use crate::storage::DiskSpace;

/// Rows whose indexes alone take more than 32 MiB.
const MANY: u32 = 700_000;

#[test]
fn tables_of_postgres_are_small_again_when_many_rows_are_gone() {
    let setup = Setup::new();
    let Some(database) = &setup.database else {
        println!("the tests of SQLite's store are beside it");
        return;
    };
    PostgresStore::open(database, Arc::default()).unwrap().give_up(true);
    let check = |condition: &str| postgres::execute(database, &format!("DO $$ BEGIN ASSERT {condition}; END $$"));
    setup.execute(&format!("INSERT INTO heads SELECT id, 'gone', id, 0 FROM generate_series(1, {MANY}) id"));
    setup.execute("DELETE FROM heads");
    check("pg_total_relation_size('heads') > 32 << 20").unwrap();

    let mut store = PostgresStore::open(database, Arc::default()).unwrap();
    let until = Instant::now() + GRACE;
    loop {
        // Also autovacuum comes again if the server counts the deleted rows late.
        setup.execute("VACUUM heads");
        store.release_free_space(DiskSpace::Plenty, true).unwrap();
        match check("pg_total_relation_size('heads') < 1 << 20") {
            Ok(()) => break,
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
    }
    store.give_up(true);
}
