//! Sinks with `group`.

use serde_json::Value;

use super::*;
use crate::config::Group;
use crate::rules::Field;

impl Setup {
    /// The sink gets digests of one tenant.
    fn grouped(max_size: u64, wait: Duration, max: usize) -> Self {
        let mut setup = Self::new(max_size);
        setup.config.sinks[0].group = Some(Group { by: vec![Field::Tenant], wait, max });
        setup
    }

    /// New settings with these groups, as after a reload.
    fn regroup(&mut self, hook: &RunningDispatcher, group: Option<Group>) {
        self.config.sinks[0].group = group;
        let settings = Settings { retry: SHORT, ..Settings::of(&self.config.sinks[0], &self.config) };
        hook.handle.commands.send(SinkCommand::Reload(Box::new(settings), None)).unwrap();
    }
}

/// The requests of a digest, or of a single event.
fn requests(outgoing: &RenderedDelivery) -> Vec<String> {
    let request = |event: &Value| event["correlationId"].as_str().unwrap().to_owned();
    match serde_json::from_slice(&outgoing.body).unwrap() {
        Value::Array(events) => events.iter().map(request).collect(),
        event => vec![request(&event)],
    }
}

fn delivered() -> Verdict {
    Verdict::Delivered(Confirmation::Stdout)
}

#[tokio::test]
async fn a_full_group_is_delivered_at_once_and_its_messages_are_settled_before() {
    let mut setup = Setup::grouped(1 << 20, HOUR, 3);
    let mut hook = setup.start_dispatcher(8, &LONG).await;
    for request in ["a", "b"] {
        setup.deliver(&hook, request);
        setup.settled().await;
    }
    hook.expect_no_attempt().await;
    for request in ["c", "d", "e"] {
        setup.deliver(&hook, request);
    }
    let (outgoing, first) = hook.attempt().await;
    assert_eq!(requests(&outgoing), ["a", "b", "c"]);
    setup.deliver(&hook, "f");
    hook.expect_no_attempt().await;
    first.end(delivered());
    let (outgoing, second) = hook.attempt().await;
    assert_eq!(requests(&outgoing), ["d", "e", "f"], "the next part is full, too");
    setup.deliver(&hook, "g");
    second.end(delivered());
    hook.expect_no_attempt().await;
    assert_eq!(setup.spooled(), 1, "the last one waits for others");
}

#[tokio::test]
async fn a_group_waits_from_the_receipt_of_its_first_event() {
    let mut setup = Setup::grouped(1 << 20, ATTEMPT_DELAY, 100);
    let mut hook = setup.start_dispatcher(8, &LONG).await;
    let begun = Instant::now();
    for request in ["a", "b", "c"] {
        setup.deliver(&hook, request);
    }
    let (outgoing, attempt) = hook.attempt().await;
    assert!(begun.elapsed() >= ATTEMPT_DELAY, "{:?}", begun.elapsed());
    assert_eq!(requests(&outgoing), ["a", "b", "c"]);
    attempt.end(delivered());
    hook.expect_no_attempt().await;
    assert_eq!(setup.spooled(), 0);
}

#[tokio::test]
async fn a_digest_keeps_its_events_and_its_id_across_failures_and_restarts() {
    let mut setup = Setup::grouped(1 << 20, Duration::ZERO, 100);
    let mut hook = setup.start_dispatcher(8, &SHORT).await;
    setup.deliver(&hook, "a");
    let (first, attempt) = hook.attempt().await;
    attempt.end(failed(Blame::Delivery));
    setup.deliver(&hook, "b");
    let (second, attempt) = hook.attempt().await;
    assert_eq!((second.id, &second.body), (first.id, &first.body));
    // As after a crash: nobody ends the attempt.
    hook.task.abort();
    drop(attempt);
    let mut hook = setup.start_dispatcher(8, &SHORT).await;
    let (third, attempt) = hook.attempt().await;
    assert_eq!((third.id, &third.body), (first.id, &first.body));
    attempt.end(delivered());
    let (other, attempt) = hook.attempt().await;
    assert_eq!(requests(&other), ["b"]);
    attempt.end(delivered());
    hook.expect_no_attempt().await;
    assert_eq!(setup.spooled(), 0);
}

#[tokio::test]
async fn a_refused_digest_becomes_a_dead_letter_for_each_event() {
    let mut setup = Setup::grouped(1 << 20, HOUR, 3);
    let mut hook = setup.start_dispatcher(8, &SHORT).await;
    for request in ["a", "b", "c", "d"] {
        setup.deliver(&hook, request);
    }
    for _ in 0..3 {
        assert_eq!(setup.dead_letters().await, 0);
        hook.attempt().await.1.end(refused());
    }
    hook.expect_no_attempt().await;
    assert_eq!((setup.dead_letters().await, setup.spooled()), (3, 1));
}

/// Other sinks have filled the spool: a group may use some of the disk all the same.
#[tokio::test]
async fn groups_wait_in_a_full_spool() {
    let mut setup = Setup::grouped(1, HOUR, 3);
    let mut hook = setup.start_dispatcher(8, &LONG).await;
    for request in ["a", "b", "c"] {
        setup.deliver(&hook, request);
    }
    let (outgoing, attempt) = hook.attempt().await;
    assert_eq!(requests(&outgoing).len(), 3);
    attempt.end(delivered());
}

#[tokio::test]
async fn a_resumed_sink_keeps_the_wait_of_its_groups() {
    let mut setup = Setup::grouped(1 << 20, HOUR, 3);
    let mut hook = setup.start_dispatcher(8, &LONG).await;
    setup.deliver(&hook, "a");
    setup.settled().await;
    hook.handle.commands.send(SinkCommand::Pause).unwrap();
    hook.handle.commands.send(SinkCommand::Resume).unwrap();
    hook.expect_no_attempt().await;
    setup.deliver(&hook, "b");
    setup.deliver(&hook, "c");
    assert_eq!(requests(&hook.attempt().await.0), ["a", "b", "c"]);
}

#[tokio::test]
async fn after_a_reload_what_waits_by_the_old_groups_comes_first() {
    let mut setup = Setup::grouped(1 << 20, HOUR, 3);
    let mut hook = setup.start_dispatcher(8, &SHORT).await;
    for request in ["a", "b"] {
        setup.deliver(&hook, request);
        setup.settled().await;
    }
    setup.regroup(&hook, None);
    setup.deliver(&hook, "c");
    let (outgoing, first) = hook.attempt().await;
    assert_eq!(requests(&outgoing), ["a"], "in the order of the group");
    hook.expect_no_attempt().await;
    first.end(failed(Blame::Delivery));
    let (outgoing, first) = hook.attempt().await;
    assert_eq!(requests(&outgoing), ["a"]);
    first.end(delivered());
    let (outgoing, second) = hook.attempt().await;
    assert_eq!(requests(&outgoing), ["b"]);
    hook.expect_no_attempt().await;
    // In the meantime there are groups again: by another field.
    setup.regroup(&hook, Some(Group { by: vec![Field::Status], wait: HOUR, max: 2 }));
    setup.deliver(&hook, "d");
    setup.deliver(&hook, "e");
    hook.expect_no_attempt().await;
    second.end(delivered());
    let (outgoing, third) = hook.attempt().await;
    assert_eq!(requests(&outgoing), ["c"]);
    hook.expect_no_attempt().await;
    third.end(delivered());
    assert_eq!(requests(&hook.attempt().await.0), ["d", "e"]);
}

/// A digest that was attempted is delivered event by event once its sink has no groups any more.
#[tokio::test]
async fn digests_of_a_sink_without_groups_are_single_events_in_order() {
    let mut setup = Setup::grouped(1 << 20, HOUR, 2);
    let mut hook = setup.start_dispatcher(8, &LONG).await;
    for request in ["a", "b", "c", "d"] {
        setup.deliver(&hook, request);
    }
    let (outgoing, attempt) = hook.attempt().await;
    assert_eq!(requests(&outgoing), ["a", "b"]);
    setup.regroup(&hook, None);
    attempt.end(failed(Blame::Delivery));
    for request in ["a", "b", "c", "d"] {
        let (outgoing, attempt) = hook.attempt().await;
        assert_eq!(requests(&outgoing), [request]);
        hook.expect_no_attempt().await;
        attempt.end(delivered());
    }
    hook.expect_no_attempt().await;
    assert_eq!(setup.spooled(), 0);
}

#[tokio::test]
async fn groups_are_changed_while_the_relay_is_stopped() {
    let mut setup = Setup::new(1 << 20);
    let mut hook = setup.start_dispatcher(8, &LONG).await;
    hook.handle.commands.send(SinkCommand::Pause).unwrap();
    for request in ["a", "b"] {
        setup.deliver(&hook, request);
        setup.settled().await;
    }
    hook.handle.commands.send(SinkCommand::Resume).unwrap();
    let attempts = [hook.attempt().await.1, hook.attempt().await.1];
    hook.task.abort();
    drop(attempts);
    setup.config.sinks[0].group = Some(Group { by: vec![Field::Tenant], wait: HOUR, max: 2 });
    let mut hook = setup.start_dispatcher(8, &LONG).await;
    setup.deliver(&hook, "c");
    setup.deliver(&hook, "d");
    let mut first = [hook.attempt().await, hook.attempt().await];
    first.sort_by_key(|(outgoing, _)| requests(outgoing));
    let [(one, first), (other, second)] = first;
    assert_eq!((requests(&one), requests(&other)), (vec!["a".to_owned()], vec!["b".to_owned()]));
    hook.expect_no_attempt().await;
    first.end(delivered());
    second.end(delivered());
    assert_eq!(requests(&hook.attempt().await.0), ["c", "d"]);
}

/// The events of one digest are in the window of the sink, which bounds the duplicates after a crash.
#[tokio::test]
async fn at_most_a_thousand_events_are_taken_from_the_spool() {
    let mut setup = Setup::grouped(1 << 30, HOUR, 400);
    setup.config.sinks[0].group.as_mut().unwrap().by = vec![Field::CorrelationId];
    let mut hook = setup.start_dispatcher(1_000, &LONG).await;
    for number in 0..4 * 400 {
        setup.deliver(&hook, &(number % 4).to_string());
    }
    let attempts = [hook.attempt().await, hook.attempt().await];
    hook.expect_no_attempt().await;
    for (outgoing, attempt) in attempts {
        assert_eq!(requests(&outgoing).len(), 400);
        attempt.end(delivered());
    }
    for _ in 0..2 {
        hook.attempt().await.1.end(delivered());
    }
    hook.expect_no_attempt().await;
    assert_eq!(setup.spooled(), 0);
}

/// As after a crash: nobody ends what is under way.
async fn restart(hook: RunningDispatcher, setup: &Setup, retry: &Retry) -> RunningDispatcher {
    hook.task.abort();
    // The spool takes back what the aborted dispatcher held.
    setup.start_dispatcher(8, retry).await
}

#[tokio::test]
async fn a_group_that_is_full_with_events_of_an_earlier_run_is_delivered_at_once() {
    let mut setup = Setup::grouped(1 << 20, HOUR, 3);
    let hook = setup.start_dispatcher(8, &LONG).await;
    for request in ["a", "b"] {
        setup.deliver(&hook, request);
        setup.settled().await;
    }
    let mut hook = restart(hook, &setup, &LONG).await;
    hook.expect_no_attempt().await;
    setup.deliver(&hook, "c");
    assert_eq!(requests(&hook.attempt().await.0), ["a", "b", "c"]);
}

/// A digest that is fetched again and again counts its events once.
#[tokio::test]
async fn a_group_is_full_at_once_behind_a_digest_that_was_given_back() {
    let mut setup = Setup::grouped(1 << 20, HOUR, 2);
    let mut hook = setup.start_dispatcher(8, &SHORT).await;
    for request in ["a", "b", "c"] {
        setup.deliver(&hook, request);
        setup.settled().await;
    }
    for _ in 0..3 {
        hook.attempt().await.1.end(failed(Blame::Relay));
    }
    hook.attempt().await.1.end(delivered());
    hook.expect_no_attempt().await;
    setup.deliver(&hook, "d");
    assert_eq!(requests(&hook.attempt().await.0), ["c", "d"]);
}

#[tokio::test]
async fn a_smaller_max_or_wait_takes_effect_for_the_events_that_wait() {
    let group = |wait, max| Some(Group { by: vec![Field::Tenant], wait, max });
    let mut setup = Setup::grouped(1 << 20, HOUR, 100);
    let mut hook = setup.start_dispatcher(8, &LONG).await;
    for request in ["a", "b"] {
        setup.deliver(&hook, request);
        setup.settled().await;
    }
    setup.regroup(&hook, group(HOUR, 2));
    let (outgoing, attempt) = hook.attempt().await;
    assert_eq!(requests(&outgoing), ["a", "b"], "by a reload");
    attempt.end(delivered());
    setup.deliver(&hook, "c");
    setup.settled().await;
    hook.expect_no_attempt().await;
    setup.config.sinks[0].group = group(Duration::ZERO, 2);
    let mut hook = restart(hook, &setup, &LONG).await;
    assert_eq!(requests(&hook.attempt().await.0), ["c"], "by a restart");
}

/// The relay ends while the dead letters find no room: all of them are written, or none and the digest stays as it is.
#[tokio::test]
async fn the_dead_letters_of_a_digest_are_written_together() {
    // Enough for two.
    let mut setup = Setup::with_dead_letters(1 << 20, 1_000);
    setup.config.sinks[0].group = Some(Group { by: vec![Field::Tenant], wait: HOUR, max: 3 });
    let mut hook = setup.start_dispatcher(8, &SHORT).await;
    for request in ["a", "b", "c"] {
        setup.deliver(&hook, request);
    }
    let mut ids = Vec::new();
    for _ in 0..3 {
        let (outgoing, attempt) = hook.attempt().await;
        ids.push(outgoing.id);
        attempt.end(refused());
    }
    hook.expect_no_attempt().await;
    assert_eq!(setup.dead_letters().await, 0);
    assert!(
        setup.spool.problem().is_some_and(|problem| problem.contains("dead letters")),
        "{:?}",
        setup.spool.problem()
    );
    hook.task.abort();
    setup.reopen_spool(1 << 20).await;
    let mut hook = setup.start_dispatcher(8, &SHORT).await;
    let (outgoing, attempt) = hook.attempt().await;
    assert_eq!((outgoing.id, requests(&outgoing).len()), (ids[0], 3), "the same digest again");
    attempt.end(refused());
    hook.expect_no_attempt().await;
    assert_eq!((setup.dead_letters().await, setup.spooled()), (3, 0));
}

/// Two groups of different times have the same key.
#[tokio::test]
async fn a_digest_has_no_events_from_after_a_change_of_its_group() {
    let by_tenant = || Some(Group { by: vec![Field::Tenant], wait: HOUR, max: 2 });
    let mut setup = Setup::grouped(1 << 20, HOUR, 3);
    let mut hook = setup.start_dispatcher(8, &LONG).await;
    hook.handle.commands.send(SinkCommand::Pause).unwrap();
    setup.deliver(&hook, "1");
    setup.settled().await;
    setup.regroup(&hook, None);
    setup.deliver(&hook, "2");
    setup.settled().await;
    setup.regroup(&hook, by_tenant());
    for request in ["3", "4"] {
        setup.deliver(&hook, request);
        setup.settled().await;
    }
    hook.handle.commands.send(SinkCommand::Resume).unwrap();
    for expected in [vec!["1"], vec!["2"], vec!["3", "4"]] {
        let (outgoing, attempt) = hook.attempt().await;
        assert_eq!(requests(&outgoing), expected);
        hook.expect_no_attempt().await;
        attempt.end(delivered());
    }
}

#[tokio::test]
async fn changes_of_the_groups_are_told_apart_also_after_a_restart() {
    let mut setup = Setup::grouped(1 << 20, HOUR, 100);
    let hook = setup.start_dispatcher(8, &LONG).await;
    hook.handle.commands.send(SinkCommand::Pause).unwrap();
    for (request, group) in [
        ("1", Some(Group { by: vec![Field::Status], wait: HOUR, max: 100 })),
        ("2", None),
        ("3", Some(Group { by: vec![Field::Tenant], wait: HOUR, max: 100 })),
    ] {
        setup.deliver(&hook, request);
        setup.settled().await;
        setup.regroup(&hook, group);
    }
    setup.deliver(&hook, "4");
    setup.settled().await;
    let mut hook = restart(hook, &setup, &LONG).await;
    hook.handle.commands.send(SinkCommand::Resume).unwrap();
    for expected in ["1", "2", "3"] {
        let (outgoing, attempt) = hook.attempt().await;
        assert_eq!(requests(&outgoing), [expected]);
        hook.expect_no_attempt().await;
        attempt.end(delivered());
    }
    hook.expect_no_attempt().await;
    assert_eq!(setup.spooled(), 1, "the last one waits for others");
}

/// The rest of a group from before a change is delivered at once: what came after the change waits for it.
#[tokio::test]
async fn all_digests_from_before_a_change_of_the_groups_are_delivered_at_once() {
    let mut setup = Setup::grouped(1 << 20, HOUR, 100);
    let mut hook = setup.start_dispatcher(8, &LONG).await;
    for request in ["1", "2", "3"] {
        setup.deliver(&hook, request);
        setup.settled().await;
    }
    setup.regroup(&hook, Some(Group { by: vec![Field::Status], wait: HOUR, max: 2 }));
    for expected in [vec!["1", "2"], vec!["3"]] {
        let (outgoing, attempt) = hook.attempt().await;
        assert_eq!(requests(&outgoing), expected);
        attempt.end(delivered());
    }
    hook.expect_no_attempt().await;
}

/// Kafka takes records of 1 MB by default, and many proxies requests of 1 MiB.
#[tokio::test]
async fn a_digest_of_many_small_events_has_less_than_a_megabyte() {
    let mut setup = Setup::grouped(1 << 30, HOUR, 1_000);
    let mut hook = setup.start_dispatcher(8, &LONG).await;
    let text = "x".repeat(440);
    for number in 0..1_000 {
        setup.deliver_with(&hook, &number.to_string(), &text);
    }
    let (outgoing, _attempt) = hook.attempt().await;
    let (count, bytes) = (requests(&outgoing).len(), outgoing.body.len());
    assert!(bytes < 1_000_000 && count > 700, "{bytes} bytes, {count} events");
}

/// No attempt fails meanwhile: the breaker is open for an hour.
#[tokio::test]
async fn a_digest_is_given_up_as_a_whole() {
    let retry = Retry { give_up_after: Some(Duration::from_secs(1)), ..LONG };
    let mut setup = Setup::grouped(1 << 20, HOUR, 2);
    setup.config.sinks[0].group.as_mut().unwrap().by = vec![Field::CorrelationId];
    let mut hook = setup.start_dispatcher(8, &retry).await;
    for number in 0..10 {
        setup.deliver(&hook, &(number / 2).to_string());
    }
    let mut attempts = Vec::new();
    for _ in 0..5 {
        attempts.push(hook.attempt().await.1);
    }
    for attempt in attempts {
        attempt.end(failed(Blame::Sink));
    }
    // The failure of one has opened the breaker; the others have a back-off.
    let until = Instant::now() + PATIENCE;
    while setup.dead_letters().await < 2 {
        assert!(Instant::now() < until, "{} dead letters", setup.dead_letters().await);
        hook.expect_no_attempt().await;
    }
    assert_eq!((setup.dead_letters().await, setup.spooled()), (2, 8));
}
