//! The promises of the spool as a whole.

mod copies;
mod dead_letter_limits;
mod dead_letters;
mod deliveries;
mod digests;
mod file;
mod orphans;
mod plans;
mod queue;
mod requests;
mod sizes;
mod space;
mod unknown_commits;
mod unreadable;

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use uuid::Uuid;

use super::*;
use crate::clock::WallTime;
use crate::config::{OnCorrupt, PostgresConfig, SqliteConfig, UNDIVIDED};
use crate::event::{HeaderValue, Message, Properties, Reason, SourceName};
use crate::rules::SinkName;
use crate::source::{EntryId, Settlement};

const GRACE: Duration = Duration::from_secs(20);

struct Setup {
    directory: tempfile::TempDir,
    on_corrupt: OnCorrupt,
    max_size: u64,
    limits: DeadLettersConfig,
    database: Option<PostgresConfig>,
}

impl Setup {
    fn new() -> Self {
        Self { database: crate::postgres::testing::schema(), ..Self::in_a_file() }
    }

    /// For what only a spool in a file does.
    fn in_a_file() -> Self {
        let limits = DeadLettersConfig { keep: None, max_size: 1 << 30, to: None };
        let directory = tempfile::tempdir().unwrap();
        Self { directory, on_corrupt: OnCorrupt::Stop, max_size: 1 << 30, limits, database: None }
    }

    fn config(&self) -> SpoolConfig {
        let file = || StoreConfig::Sqlite(SqliteConfig { path: self.path(), on_corrupt: self.on_corrupt });
        let store =
            self.database.as_ref().map_or_else(file, |database| StoreConfig::Postgres(Box::new(database.clone())));
        SpoolConfig { store, max_size: self.max_size, max_share: 50 }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("data/spool.db")
    }

    /// Executes statements on the stored data.
    fn execute(&self, statements: &str) {
        match &self.database {
            None => Connection::open(self.path()).unwrap().execute_batch(statements).unwrap(),
            Some(database) => postgres::execute(database, statements).unwrap(),
        }
    }

    fn reader(&self) -> SpoolReader {
        SpoolReader::new(&self.config().store)
    }

    fn open(&self) -> Spool {
        Spool::open(&self.config(), &self.limits).unwrap()
    }

    fn read(&self) -> DeadLetters {
        self.reader().dead_letters().unwrap()
    }

    fn ids(&self, filter: &DeadLetterFilter) -> Vec<i64> {
        let mut ids = Vec::new();
        let gather = |letter: DeadLetterSummary| -> Result<(), SpoolError> {
            ids.push(letter.id);
            Ok(())
        };
        self.read().list(filter, gather).unwrap();
        ids
    }
}

fn letter(body: &str) -> DeadLetter {
    DeadLetter {
        reason: Reason::NotJson,
        detail: "found `<`".to_owned(),
        sink: None,
        tenant: Some("esa".to_owned()),
        status: None,
        correlation_id: None,
        event_id: None,
        kind: None,
        route: None,
        attempts: 0,
        message: Arc::new(Message {
            source: SourceName::new("regards"),
            body: bytes::Bytes::copy_from_slice(body.as_bytes()),
            properties: Properties::default(),
            redelivered: false,
        }),
    }
}

/// Stores that many dead letters, the message of each with its own number.
fn store(spool: &Spool, numbers: std::ops::Range<u64>) -> UnboundedReceiver<Settlement> {
    let (to, settled) = unbounded_channel();
    for number in numbers {
        spool.store_dead_letter(letter(&format!("<{number}>")), Receipt::new(EntryId(number), to.clone()));
    }
    settled
}

async fn all(mut settled: UnboundedReceiver<Settlement>) -> Vec<Settlement> {
    let mut all = Vec::new();
    while let Some(one) = tokio::time::timeout(GRACE, settled.recv()).await.expect("settled in time") {
        all.push(one);
    }
    all
}

/// Waits until the spool has a problem, or none.
async fn problem(spool: &Spool, is_there: bool) -> Option<String> {
    let until = Instant::now() + GRACE;
    while spool.problem().is_some() != is_there {
        assert!(Instant::now() < until, "{:?}", spool.problem());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    spool.problem()
}

fn done(numbers: std::ops::Range<u64>) -> Vec<Settlement> {
    numbers.map(|number| Settlement::Done(EntryId(number))).collect()
}

/// Holds the lock that SQLite needs to write.
fn hold(path: &Path) -> Connection {
    let other = Connection::open(path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    other
}

/// A guard lives to the end of its statement. If the file were read in the same statement, the only worker thread might wait for the disk.
#[test]
fn no_lock_is_held_while_the_file_is_read() {
    let sources = [
        include_str!("../writer/mod.rs"),
        include_str!("../writer/inbox.rs"),
        include_str!("../writer/upkeep.rs"),
        include_str!("../writer/transaction.rs"),
        include_str!("../change/mod.rs"),
        include_str!("../change/steps.rs"),
        include_str!("../shared.rs"),
        include_str!("../mod.rs"),
    ];
    for source in sources {
        for statement in source.split(';') {
            let locked =
                ["shared.budget()", "shared.dead_letter_counts()", "shared.states()", "shared.copy_sink()", ".lock()"]
                    .iter()
                    .any(|it| statement.contains(it));
            let reads = ["database.", "connection."].iter().any(|it| statement.contains(it));
            assert!(!(locked && reads), "a lock is held across SQL: {statement}");
        }
    }
}
