//! The file of the spool: in use, deleted, damaged, or left by a killed relay.

use super::*;

#[tokio::test]
async fn a_second_relay_waits_for_the_first() {
    let setup = Setup::in_a_file();
    let spool = Arc::new(setup.open());
    let Err(held) = Spool::open(&setup.config(), &setup.limits) else { panic!("opened twice") };
    let pid = std::process::id();
    assert!(held.to_string().contains(&format!("is in use by the process {pid}")), "{held}");

    let first = Arc::clone(&spool);
    let mut told = 0;
    let config = setup.config();
    let instances = Arc::default();
    let second = Spool::open_when_free(&config, &setup.limits, &instances, |_| {
        told += 1;
        let first = Arc::clone(&first);
        tokio::spawn(async move { first.close(GRACE).await });
    });
    second.await.unwrap().close(GRACE).await;
    assert!(told > 0);
}

#[tokio::test]
async fn dead_letters_written_to_a_deleted_file_are_written_again() {
    let setup = Setup::in_a_file();
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

/// Leaves a spool as a killed relay does, with the second third of the file overwritten.
async fn leave_damaged(setup: &Setup) -> Vec<u8> {
    let spool = setup.open();
    let settled = store(&spool, 0..500);
    spool.close(GRACE).await;
    assert_eq!(all(settled).await.len(), 500);
    let path = setup.path();
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
    let setup = Setup::in_a_file();
    let bytes = leave_damaged(&setup).await;
    let refused = Spool::open(&setup.config(), &setup.limits).unwrap_err().to_string();
    assert!(refused.contains("spool.db is damaged ("), "{refused}");
    assert!(refused.contains("on_corrupt: quarantine"), "{refused}");
    assert!(has_same_pages(&setup.path(), &bytes), "it can still be recovered from");
}

/// Without the first page, which may count that the file was opened.
fn has_same_pages(path: &Path, bytes: &[u8]) -> bool {
    std::fs::read(path).unwrap()[4096..] == bytes[4096..]
}

#[tokio::test]
async fn a_damaged_file_is_quarantined_where_configured() {
    let mut setup = Setup::in_a_file();
    let bytes = leave_damaged(&setup).await;
    setup.on_corrupt = OnCorrupt::Quarantine;
    let spool = setup.open();
    assert_eq!(spool.problem(), None);
    assert_eq!(all(store(&spool, 0..1)).await, done(0..1));
    assert_eq!(setup.ids(&DeadLetterFilter::default()), [1], "in a new file");
    spool.close(GRACE).await;
    let names = std::fs::read_dir(setup.path().parent().unwrap()).unwrap().map(|file| file.unwrap().path());
    let aside: Vec<_> = names.filter(|path| path.to_string_lossy().contains("spool.db.corrupt-2")).collect();
    assert!(aside.iter().any(|path| has_same_pages(path, &bytes)), "kept as it was: {aside:?}");
}

#[tokio::test]
async fn the_file_of_a_killed_relay_is_checked_and_used() {
    let setup = Setup::in_a_file();
    let spool = setup.open();
    assert_eq!(all(store(&spool, 0..3)).await, done(0..3));
    let data = setup.path();
    let killed = Setup::in_a_file();
    std::fs::create_dir_all(killed.path().parent().unwrap()).unwrap();
    for name in ["spool.db", "spool.db-wal"] {
        std::fs::copy(data.with_file_name(name), killed.path().with_file_name(name)).unwrap();
    }
    assert!(sqlite::corruption::was_left_open(&killed.path()));
    let next = killed.open();
    assert_eq!(killed.ids(&DeadLetterFilter::default()), [3, 2, 1]);
    next.close(GRACE).await;
    assert!(!sqlite::corruption::was_left_open(&killed.path()), "a clean end leaves no log");
    spool.close(GRACE).await;
}
