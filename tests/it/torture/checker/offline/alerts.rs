//! Alerts: the checker finds each one that is missing, false or wrong.

use super::{KEYS, Run, Told};
use crate::torture::alerts::{Alerts, Pairs};
use crate::torture::checker::{Seen, Violation, alerts_missing, check};
use crate::torture::digests::Digests;
use crate::torture::plan::{EventId, Sink, Watched};
use crate::torture::taken::Taken;

#[test]
fn an_alert_that_never_came_is_found() {
    for watched in [Watched::Silent, Watched::Late] {
        let mut run = Run::right();
        let (key, _) = run.watched(watched);
        run.told.retain(|told| told.key != key);
        assert_eq!(run.violations(), [Violation::AlertLost(key)]);
        assert_eq!(alerts_missing(run.plan, &run.book, &run.alerts()), 1);
    }
    let mut run = Run::right();
    let (key, _) = run.watched(Watched::Late);
    run.told.retain(|told| told.key != key || told.is_raised);
    assert_eq!(run.violations(), [Violation::NotResolved(key)]);
    assert_eq!(alerts_missing(run.plan, &run.book, &run.alerts()), 1);
}

#[test]
fn an_unconfirmed_request_may_be_raised_or_not_and_an_unconfirmed_end_may_resolve_it_or_not() {
    let mut run = Run::right();
    let plan = run.plan;
    let key_of = |watched| (KEYS..2 * KEYS).find(|&key| plan.watched(key) == Some(watched)).expect("such a key");
    let (silent, quick) = (key_of(Watched::Silent), key_of(Watched::Quick));
    run.publish(EventId { key: silent, seq: 0 });
    run.publish(EventId { key: quick, seq: 0 });
    run.book.confirm(EventId { key: quick, seq: 0 });
    run.publish(EventId { key: quick, seq: 1 });
    assert_eq!(run.violations(), []);
    run.told.retain(|told| told.key != silent);
    assert_eq!(run.violations(), []);
    run.told.push(Told { key: quick, is_raised: true, since: 0 });
    assert_eq!(run.violations(), []);
    run.told.push(Told { key: quick, is_raised: false, since: 0 });
    assert_eq!(run.violations(), []);
}

#[test]
fn a_quick_request_may_be_raised_while_the_relay_was_down_and_not_if_its_end_was_stored_in_time() {
    let mut run = Run::right();
    let (key, _) = run.watched(Watched::Quick);
    run.told.push(Told { key, is_raised: true, since: 0 });
    assert_eq!(run.violations(), [Violation::NotResolved(key)]);
    run.told.push(Told { key, is_raised: false, since: 0 });
    assert_eq!(run.violations(), []);
    run.book.end_in_time(key);
    assert_eq!(run.violations(), [Violation::FalseAlarm(key)]);
}

#[test]
fn a_false_alarm_is_found() {
    let mut run = Run::right();
    let plan = run.plan;
    let unpublished = (KEYS..2 * KEYS).find(|&key| plan.watched(key) == Some(Watched::Silent)).expect("a key");
    run.told.push(Told { key: unpublished, is_raised: true, since: 0 });
    assert_eq!(run.violations(), [Violation::FalseAlarm(unpublished)]);
    let mut run = Run::right();
    let (key, _) = run.watched(Watched::Silent);
    run.told.push(Told { key, is_raised: false, since: 0 });
    assert_eq!(run.violations(), [Violation::ResolvedWithoutEnd(key)]);
}

#[test]
fn a_second_alert_of_one_request_is_found_and_a_copy_is_counted() {
    let mut run = Run::right();
    let (key, place) = run.watched(Watched::Silent);
    let first = run.told[place.expect("an alert")];
    run.told.push(first);
    assert_eq!(run.violations(), [Violation::TooManyAlerts(1, 0)]);
    run.bounds.alerts = 1;
    assert_eq!(run.violations(), []);
    run.told.push(Told { since: 1, ..first });
    assert_eq!(run.violations(), [Violation::RaisedTwice(key)]);
}

#[test]
fn a_request_that_is_raised_again_after_its_end_is_found() {
    let mut run = Run::right();
    let (key, _) = run.watched(Watched::Late);
    run.told.extend([true, false].map(|is_raised| Told { key, is_raised, since: 1 }));
    assert_eq!(run.violations(), [Violation::TooManyRaisedAgain(1, 0)]);
    run.bounds.raised_again = 1;
    assert_eq!(run.violations(), []);
}

#[test]
fn an_alert_that_is_resolved_before_it_is_raised_is_found() {
    let mut run = Run::right();
    let (key, place) = run.watched(Watched::Late);
    let raised = run.told.remove(place.expect("an alert"));
    run.told.push(raised);
    assert_eq!(run.violations(), [Violation::ResolvedFirst(key)]);
    let mut run = Run::right();
    let resolved = run.told.iter_mut().find(|told| told.key == key && !told.is_raised).expect("resolved");
    resolved.since = 1;
    assert_eq!(run.violations(), [Violation::ResolvedFirst(key)], "of another moment than the RAISED");
}

#[test]
fn an_alert_about_nothing_that_may_be_raised_is_found() {
    let run = Run::right();
    let (key, _) = run.watched(Watched::Silent);
    let other = (0..KEYS).find(|&key| run.plan.watched(key).is_none()).expect("a key");
    let body = |alert: &str, key: u32, tenant: &str, status: &str| {
        let extra = serde_json::json!({ "alert": alert, "since": "x" });
        let id = format!("torture-{key}");
        let body =
            serde_json::json!({ "id": "1", "status": status, "tenant": tenant, "correlationId": id, "extra": extra });
        body.to_string()
    };
    let tenant = run.plan.tenant(key);
    let wrong = [
        body("never", key, &tenant, "RAISED"),
        body("silent", other, &run.plan.tenant(other), "RAISED"),
        body("silent", key, "plain-1", "RAISED"),
        body("silent", key, &tenant, "GRANTED"),
        "{".to_owned(),
    ];
    let mut alerts = Alerts::default();
    for wrong in &wrong {
        alerts.take_body(run.plan, wrong.as_bytes(), |_| false);
    }
    assert_eq!((alerts.invented.count, alerts.of(key).is_none()), (wrong.len() as u64, true));
    alerts.take_body(run.plan, body("silent", key, &tenant, "RAISED").as_bytes(), |_| true);
    assert_eq!((alerts.early.first.as_slice(), alerts.of(key).map(Pairs::raised)), (&[key][..], Some(1)));

    let (none, digests) = (Taken::default(), Digests::default());
    let taken = [&none; Sink::ALL.len()];
    let seen = Seen { taken, digests: &digests, alerts: &alerts, letters: &run.letters, damaged: &run.damaged };
    let violations = check(run.plan, &run.book, &seen, &run.bounds).violations;
    let invented = violations.iter().filter(|violation| matches!(violation, Violation::AlertInvented(_)));
    assert_eq!(invented.count(), wrong.len());
    assert!(violations.contains(&Violation::RaisedEarly(key)));
}
