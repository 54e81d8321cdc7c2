//! Limits of the dead letters: their size, their age, and purges.

use super::*;

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
    let mut setup = Setup::in_a_file();
    let spool = setup.open();
    let connection = Connection::open(setup.path()).unwrap();
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
    setup.execute(
        "UPDATE dead_letters SET at = at - 3600001; UPDATE dead_letters SET boot = boot + 2 WHERE id = 1; \
         UPDATE dead_letters SET boot = 0 WHERE id = 2; UPDATE dead_letters SET boot = 0, at = at + 7200000 WHERE id = 3",
    );

    setup.limits = DeadLettersConfig { keep: Some(Duration::from_hours(1)), max_size: 1 << 20, to: None };
    let spool = setup.open();
    assert_eq!(all(store(&spool, 4..5)).await, done(4..5));
    let mut kept = setup.ids(&DeadLetterFilter::default());
    // A list may be by the time, which the test has changed.
    kept.sort_unstable_by_key(|id| std::cmp::Reverse(*id));
    // In the first minutes of a machine, rows from other boots do not expire.
    let expected: &[i64] = if crate::clock::is_past_boot_grace() { &[5, 4, 3] } else { &[5, 4, 3, 2, 1] };
    assert_eq!(kept, expected);
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
