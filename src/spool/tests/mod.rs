//! The promises of the spool as a whole.

mod copies;
mod deliveries;
mod orphans;
mod queue;
mod sizes;
mod unknown_commits;
mod unreadable;

use std::path::Path;

use rusqlite::Connection;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use uuid::Uuid;

use super::*;
use crate::clock::WallTime;
use crate::config::OnCorrupt;
use crate::event::{HeaderValue, Message, Properties, Reason, SourceName};
use crate::rules::SinkName;
use crate::source::{EntryId, Settlement};

const GRACE: Duration = Duration::from_secs(20);

struct Setup {
    directory: tempfile::TempDir,
    on_corrupt: OnCorrupt,
    max_size: u64,
    limits: DeadLettersConfig,
}

impl Setup {
    fn new() -> Self {
        let limits = DeadLettersConfig { keep: None, max_size: 1 << 30, to: None };
        Self { directory: tempfile::tempdir().unwrap(), on_corrupt: OnCorrupt::Stop, max_size: 1 << 30, limits }
    }

    fn config(&self) -> SpoolConfig {
        SpoolConfig {
            path: self.directory.path().join("data/spool.db"),
            on_corrupt: self.on_corrupt,
            max_size: self.max_size,
            max_share: 50,
        }
    }

    fn open(&self) -> Spool {
        Spool::open(&self.config(), &self.limits).unwrap()
    }

    fn read(&self) -> DeadLetters {
        DeadLetters::open_read_only(&self.config().path).unwrap()
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

#[tokio::test]
async fn a_settled_dead_letter_can_be_read_beside_the_relay() {
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
    assert_eq!(shown.event_id, whole.event_id);
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
    Connection::open(setup.config().path).unwrap().execute("DELETE FROM dead_letters WHERE id = 3", []).unwrap();

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
async fn a_second_relay_waits_for_the_first() {
    let setup = Setup::new();
    let spool = Arc::new(setup.open());
    let Err(held) = Spool::open(&setup.config(), &setup.limits) else { panic!("opened twice") };
    let pid = std::process::id();
    assert!(held.to_string().contains(&format!("is in use by the process {pid}")), "{held}");

    let first = Arc::clone(&spool);
    let mut told = 0;
    let config = setup.config();
    let second = Spool::open_when_free(&config, &setup.limits, |_| {
        told += 1;
        let first = Arc::clone(&first);
        tokio::spawn(async move { first.close(GRACE).await });
    });
    second.await.unwrap().close(GRACE).await;
    assert!(told > 0);
}

/// Holds the lock that SQLite needs to write.
fn hold(path: &Path) -> Connection {
    let other = Connection::open(path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    other
}

#[tokio::test]
async fn dead_letters_that_can_not_be_stored_are_kept_and_stored_once() {
    let setup = Setup::new();
    let spool = setup.open();
    let other = hold(&setup.config().path);
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
    let setup = Setup::new();
    let spool = setup.open();
    let other = hold(&setup.config().path);
    let settled = store(&spool, 0..2);
    spool.close(Duration::from_millis(1)).await;
    let late = store(&spool, 2..3);
    assert_eq!(all(settled).await, [Settlement::Abandoned(EntryId(0)), Settlement::Abandoned(EntryId(1))]);
    assert_eq!(all(late).await, [Settlement::Abandoned(EntryId(2))]);
    assert!(spool.problem().is_some());
    drop(other);
    assert_eq!(setup.ids(&DeadLetterFilter::default()), [0; 0]);
}

#[tokio::test]
async fn dead_letters_written_to_a_deleted_file_are_written_again() {
    let setup = Setup::new();
    let spool = setup.open();
    assert_eq!(all(store(&spool, 0..1)).await, done(0..1));
    for file in std::fs::read_dir(setup.directory.path().join("data")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension != "lock") {
            std::fs::remove_file(path).unwrap();
        }
    }
    assert_eq!(all(store(&spool, 1..2)).await, done(1..2));
    assert_eq!(setup.ids(&DeadLetterFilter::default()), [2], "in the file that is there now");
    spool.close(GRACE).await;
}

#[tokio::test]
async fn full_dead_letters_block_and_report_a_problem() {
    let mut setup = Setup::new();
    // Room for two dead letters.
    setup.limits.max_size = 530;
    let spool = setup.open();
    let mut settled = store(&spool, 0..3);
    let trouble = problem(&spool, true).await.unwrap();
    assert!(trouble.contains("have reached `dead_letters.max_size` (530 bytes"), "{trouble}");
    assert_eq!(settled.try_recv(), Ok(Settlement::Done(EntryId(0))));
    assert_eq!(settled.try_recv(), Ok(Settlement::Done(EntryId(1))));
    assert!(settled.try_recv().is_err());
    assert_eq!(setup.ids(&DeadLetterFilter::default()), [2, 1]);
    // No room will come, so closing takes less than its grace.
    let asked = Instant::now();
    spool.close(Duration::from_hours(1)).await;
    assert!(asked.elapsed() < Duration::from_hours(1));
    assert_eq!(settled.try_recv(), Ok(Settlement::Abandoned(EntryId(2))));
}

#[tokio::test]
async fn expired_dead_letters_are_purged_and_make_room() {
    let mut setup = Setup::new();
    let spool = setup.open();
    let connection = Connection::open(setup.config().path).unwrap();
    let pages = || -> i64 { connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap() };
    let empty = pages();
    assert_eq!(all(store(&spool, 0..1_200)).await, done(0..1_200));
    spool.close(GRACE).await;
    let before = pages();
    connection
        .execute("UPDATE dead_letters SET at = at - 3600001, uptime = uptime - 3600001 WHERE id <= 1199", [])
        .unwrap();

    setup.limits = DeadLettersConfig { keep: Some(Duration::from_hours(1)), max_size: 530, to: None };
    let spool = setup.open();
    assert_eq!(all(store(&spool, 1_200..1_201)).await, done(1_200..1_201));
    assert_eq!(setup.ids(&DeadLetterFilter::default()), [1_201, 1_200]);
    assert_eq!(spool.dead_letter_counts(), [(Reason::NotJson, None, DeadLetterCount { total: 1, stored: 2 })]);
    assert!(pages() - empty < (before - empty) / 10, "its pages are given back");
    spool.close(GRACE).await;
}

/// In one boot, age is counted by the time since boot; only the wall clock knows the age of rows from other boots.
#[tokio::test]
async fn the_wall_clock_expires_only_dead_letters_of_other_boots() {
    let mut setup = Setup::new();
    let spool = setup.open();
    assert_eq!(all(store(&spool, 0..4)).await, done(0..4));
    spool.close(GRACE).await;
    let connection = Connection::open(setup.config().path).unwrap();
    connection.execute("UPDATE dead_letters SET at = at - 3600001", []).unwrap();
    connection.execute("UPDATE dead_letters SET boot = boot + 2 WHERE id = 1", []).unwrap();
    connection.execute("UPDATE dead_letters SET boot = 0 WHERE id = 2", []).unwrap();
    connection.execute("UPDATE dead_letters SET boot = 0, at = at + 7200000 WHERE id = 3", []).unwrap();

    setup.limits = DeadLettersConfig { keep: Some(Duration::from_hours(1)), max_size: 1 << 20, to: None };
    let spool = setup.open();
    assert_eq!(all(store(&spool, 4..5)).await, done(4..5));
    let kept = setup.ids(&DeadLetterFilter::default());
    // In the first minutes of a machine, rows from other boots do not expire.
    let expected: &[i64] = if crate::clock::is_past_boot_grace() { &[5, 4, 3] } else { &[5, 4, 3, 2, 1] };
    assert_eq!(kept, expected);
    spool.close(GRACE).await;
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

#[tokio::test]
async fn a_purge_deletes_what_the_filter_selects() {
    let setup = Setup::new();
    let spool = setup.open();
    // More than one transaction has.
    assert_eq!(all(store(&spool, 0..1_200)).await, done(0..1_200));
    let seen = |limit| DeadLetterFilter { up_to: Some(1_100), limit, ..DeadLetterFilter::default() };
    assert_eq!(
        spool
            .purge(
                PurgeTarget::DeadLetters(DeadLetterFilter { reason: Some(Reason::Refused), ..seen(None) }),
                &Arc::default()
            )
            .await,
        Ok(0)
    );
    assert_eq!(spool.purge(PurgeTarget::DeadLetters(seen(Some(2))), &Arc::default()).await, Ok(2));
    assert_eq!(setup.ids(&DeadLetterFilter { limit: Some(101), ..DeadLetterFilter::default() })[99..], [1_101, 1_098]);
    assert_eq!(spool.purge(PurgeTarget::DeadLetters(seen(None)), &Arc::default()).await, Ok(1_098));
    assert_eq!(setup.ids(&DeadLetterFilter::default()), (1_101..=1_200).rev().collect::<Vec<_>>());
    assert_eq!(spool.dead_letter_counts(), [(Reason::NotJson, None, DeadLetterCount { total: 1_200, stored: 100 })]);
    spool.close(GRACE).await;
    assert!(spool.purge(PurgeTarget::DeadLetters(seen(None)), &Arc::default()).await.unwrap_err().contains("stopped"));
}

#[tokio::test]
async fn a_purge_makes_room_in_a_full_spool() {
    let mut setup = Setup::new();
    setup.limits.max_size = 530;
    let spool = setup.open();
    let settled = store(&spool, 0..3);
    problem(&spool, true).await;
    assert_eq!(
        spool
            .purge(
                PurgeTarget::DeadLetters(DeadLetterFilter { limit: Some(1), ..DeadLetterFilter::default() }),
                &Arc::default()
            )
            .await,
        Ok(1)
    );
    assert_eq!(all(settled).await, done(0..3));
    problem(&spool, false).await;
    spool.close(GRACE).await;
}

#[test]
fn an_unused_spool_has_no_dead_letters() {
    let setup = Setup::new();
    assert!(!setup.read().exists());
    assert!(setup.ids(&DeadLetterFilter::default()).is_empty());
    assert!(!setup.directory.path().join("data").exists(), "reading creates nothing");
}

#[test]
fn dead_letters_are_read_after_a_crash() {
    let setup = Setup::new();
    let database = database::Database::open(&database::Database::locate(&setup.config().path).unwrap()).unwrap();
    let insert = "INSERT INTO dead_letters (at, boot, uptime, reason, detail, source, identity, attempts, size, properties, body) \
                  VALUES (1, 0, 0, 'not_json', '', 's', x'', 0, 0, '{}', x'')";
    database.connection.execute(insert, []).unwrap();
    // As after a kill: a copy of the file and its log, without the shared memory.
    let data = setup.directory.path().join("data");
    let crashed = setup.directory.path().join("crashed");
    std::fs::create_dir(&crashed).unwrap();
    for name in ["spool.db", "spool.db-wal"] {
        std::fs::copy(data.join(name), crashed.join(name)).unwrap();
    }
    let letters = DeadLetters::open_read_only(&crashed.join("spool.db")).unwrap();
    assert!(letters.show(1).unwrap().is_some());
}

/// Leaves a spool as a killed relay does, with the second third of the file overwritten.
async fn leave_damaged(setup: &Setup) -> Vec<u8> {
    let spool = setup.open();
    let settled = store(&spool, 0..500);
    spool.close(GRACE).await;
    assert_eq!(all(settled).await.len(), 500);
    let path = setup.config().path;
    let mut bytes = std::fs::read(&path).unwrap();
    let third = bytes.len() / 3;
    bytes[third..2 * third].fill(0xa5);
    std::fs::write(&path, &bytes).unwrap();
    // Any log will do: a log shows that the file was not closed.
    std::fs::write(path.with_file_name("spool.db-wal"), [0; 32]).unwrap();
    bytes
}

#[tokio::test]
async fn a_damaged_file_is_refused_and_left_alone() {
    let setup = Setup::new();
    let bytes = leave_damaged(&setup).await;
    let refused = Spool::open(&setup.config(), &setup.limits).unwrap_err().to_string();
    assert!(refused.contains("spool.db is damaged ("), "{refused}");
    assert!(refused.contains("on_corrupt: quarantine"), "{refused}");
    assert!(has_same_pages(&setup.config().path, &bytes), "it can still be recovered from");
}

/// Without the first page, which may count that the file was opened.
fn has_same_pages(path: &Path, bytes: &[u8]) -> bool {
    std::fs::read(path).unwrap()[4096..] == bytes[4096..]
}

#[tokio::test]
async fn a_damaged_file_is_quarantined_where_configured() {
    let mut setup = Setup::new();
    let bytes = leave_damaged(&setup).await;
    setup.on_corrupt = OnCorrupt::Quarantine;
    let spool = setup.open();
    assert_eq!(spool.problem(), None);
    assert_eq!(all(store(&spool, 0..1)).await, done(0..1));
    assert_eq!(setup.ids(&DeadLetterFilter::default()), [1], "in a new file");
    spool.close(GRACE).await;
    let names = std::fs::read_dir(setup.config().path.parent().unwrap()).unwrap().map(|file| file.unwrap().path());
    let aside: Vec<_> = names.filter(|path| path.to_string_lossy().contains("spool.db.corrupt-2")).collect();
    assert!(aside.iter().any(|path| has_same_pages(path, &bytes)), "kept as it was: {aside:?}");
}

#[tokio::test]
async fn the_file_of_a_killed_relay_is_checked_and_used() {
    let setup = Setup::new();
    let spool = setup.open();
    assert_eq!(all(store(&spool, 0..3)).await, done(0..3));
    let data = setup.config().path;
    let killed = Setup::new();
    std::fs::create_dir_all(killed.config().path.parent().unwrap()).unwrap();
    for name in ["spool.db", "spool.db-wal"] {
        std::fs::copy(data.with_file_name(name), killed.config().path.with_file_name(name)).unwrap();
    }
    assert!(corruption::was_left_open(&killed.config().path));
    let next = killed.open();
    assert_eq!(killed.ids(&DeadLetterFilter::default()), [3, 2, 1]);
    next.close(GRACE).await;
    assert!(!corruption::was_left_open(&killed.config().path), "a clean end leaves no log");
    spool.close(GRACE).await;
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
    let page = setup.read().page(&DeadLetterFilter::default(), None, 500).unwrap();
    assert_eq!(page.len(), 8, "8 MiB");
    assert_eq!(setup.ids(&DeadLetterFilter::default()).len(), 20);
    spool.close(GRACE).await;
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
