//! The checker with wrong records: it finds each violation, and none in a correct run.

mod alerts;

use super::{Bounds, Damaged, Letter, REFUSED, Report, Seen, Violation, check, letters_due, missing};
use crate::torture::alerts::{Alerts, Notice};
use crate::torture::book::Book;
use crate::torture::digests::Digests;
use crate::torture::plan::{EventId, Plan, Sink, Watched};
use crate::torture::taken::Taken;

const KEYS: u32 = 2_000;
/// The number of events per digest.
const PER_DIGEST: usize = 3;

/// One event of an alert about the request of that key.
#[derive(Debug, Clone, Copy)]
struct Told {
    key: u32,
    is_raised: bool,
    /// Which time of this key: an event and its copies have the same number.
    since: u32,
}

/// A run without violations. Each test adds one violation.
struct Run {
    plan: Plan,
    book: Book,
    /// The event copies that each sink received, in order.
    took: [Vec<EventId>; Sink::ALL.len()],
    /// Digests that the webhook accepts after those of `took`.
    more_digests: Vec<(String, Vec<EventId>)>,
    /// The received events of alerts, in order.
    told: Vec<Told>,
    letters: Vec<Letter>,
    damaged: Damaged,
    bounds: Bounds,
}

impl Run {
    fn right() -> Self {
        let plan = Plan::of(7);
        let mut run = Self {
            plan,
            book: Book::default(),
            took: Default::default(),
            more_digests: Vec::new(),
            told: Vec::new(),
            letters: Vec::new(),
            damaged: Damaged::default(),
            bounds: Bounds::default(),
        };
        for key in 0..KEYS {
            for id in (0..plan.length(key)).map(|seq| EventId { key, seq }) {
                run.publish(id);
                run.book.confirm(id);
            }
        }
        run
    }

    /// Publishes an event and delivers it to every sink.
    fn publish(&mut self, id: EventId) {
        self.book.publish(id);
        for (sink, took) in Sink::ALL.into_iter().zip(&mut self.took) {
            if self.plan.is_due(id, sink) {
                took.push(id);
            }
        }
        if let Some(watched) = self.plan.watched(id.key) {
            let told = Told { key: id.key, is_raised: id.seq == 0, since: 0 };
            self.told.extend(Some(told).filter(|_| watched != Watched::Quick));
        }
        if let Some(cause) = self.plan.cause(id.key).filter(|cause| cause.id == id) {
            self.letters.push(Letter {
                reason: cause.reason.to_owned(),
                sink: cause.sink.map(|sink| sink.name().to_owned()),
                correlation_id: Some(format!("torture-{}", id.key)),
                id: 1,
                event: None,
            });
        }
    }

    fn report(&self) -> Report {
        let mut digests = Digests::default();
        let taken = Sink::ALL.map(|sink| {
            let (mut taken, took) = (Taken::default(), &self.took[sink as usize]);
            if sink == Sink::Digest {
                for (id, events) in self.digests() {
                    digests.take(&mut taken, &id, &events);
                }
            } else {
                for &id in took {
                    taken.take(id);
                }
            }
            taken
        });
        let (taken, alerts) = (taken.each_ref(), self.alerts());
        let (letters, damaged) = (self.letters.as_slice(), &self.damaged);
        let seen = Seen { taken, digests: &digests, alerts: &alerts, letters, damaged };
        check(self.plan, &self.book, &seen, &self.bounds)
    }

    fn alerts(&self) -> Alerts {
        let mut alerts = Alerts::default();
        for &Told { key, is_raised, since } in &self.told {
            alerts.take(key, is_raised, Notice { id: format!("{is_raised} {since}"), since: since.to_string() });
        }
        alerts
    }

    /// The first key whose request ends like that, and where its first alert is in `told`.
    fn watched(&self, watched: Watched) -> (u32, Option<usize>) {
        let key = (0..KEYS).find(|&key| self.plan.watched(key) == Some(watched)).expect("such a key");
        (key, self.told.iter().position(|told| told.key == key))
    }

    fn digests(&self) -> Vec<(String, Vec<EventId>)> {
        let digests = self.took[Sink::Digest as usize].chunks(PER_DIGEST);
        let digests = digests.enumerate().map(|(number, events)| (format!("digest-{number}"), events.to_vec()));
        digests.chain(self.more_digests.iter().cloned()).collect()
    }

    fn violations(&self) -> Vec<Violation> {
        self.report().violations
    }

    /// Positions of two consecutive events of one key, near the middle of the sink's copies.
    fn pair(&self, sink: usize) -> (usize, usize) {
        let took = &self.took[sink];
        let middle = took.len() / 2;
        let first =
            (middle..took.len() - 1).find(|&place| took[place].key == took[place + 1].key).expect("two of a key");
        (first, first + 1)
    }
}

#[test]
fn a_correct_run_has_no_violation() {
    let report = Run::right().report();
    assert_eq!(report.violations, []);
    assert!(report.sinks.iter().all(|row| row.due > 500 && row.delivered == row.due && row.duplicates == 0));
    assert!(report.alerts.due > 50 && report.alerts.raised == report.alerts.due, "{:?}", report.alerts);
    assert!(report.letters.due > 20 && report.letters.found == report.letters.due, "{:?}", report.letters);
}

#[test]
fn a_lost_event_is_found_at_each_sink() {
    for (number, sink) in Sink::ALL.into_iter().enumerate() {
        let mut run = Run::right();
        let id = run.took[number].remove(300);
        assert_eq!(run.violations(), [Violation::Lost(sink, id)]);
    }
}

#[test]
fn an_unconfirmed_event_may_be_there_or_not() {
    let mut run = Run::right();
    let key = (KEYS..2 * KEYS).find(|&key| run.plan.is_everywhere(key)).expect("such a key");
    run.publish(EventId { key, seq: 0 });
    assert_eq!(run.violations(), []);
    run.took.iter_mut().for_each(|took| took.retain(|id| id.key != key));
    assert_eq!(run.violations(), []);
}

#[test]
fn an_invented_event_is_found() {
    let mut run = Run::right();
    let never_published = EventId { key: KEYS + 5, seq: 0 };
    run.took[0].push(never_published);
    assert_eq!(run.violations(), [Violation::Invented(Sink::Kafka, never_published.to_string())]);
}

#[test]
fn an_event_at_a_sink_that_it_is_not_for_is_found() {
    let mut run = Run::right();
    let not_due = run.took[0].iter().copied().find(|&id| !run.plan.is_due(id, Sink::File)).expect("such an event");
    run.took[3].push(not_due);
    let violations = run.violations();
    assert!(violations.contains(&Violation::Invented(Sink::File, not_due.to_string())), "{violations:?}");
}

#[test]
fn a_body_of_no_event_is_found() {
    let (run, mut taken) = (Run::right(), Taken::default());
    for wrong in [
        r#"{"correlationId":"torture-1","status":"GRANTED"}"#,
        r#"{"correlationId":"other-1","status":"GRANTED","message":"0 "}"#,
        r#"{"correlationId":"torture-1","status":"ERROR","message":"0 "}"#,
        r#"{"correlationId":"torture-1","status":"GRANTED","message":"9 "}"#,
    ] {
        taken.take_body(run.plan, wrong.as_bytes());
    }
    assert_eq!((taken.strange.count, taken.copies, taken.torn), (4, 0, 0));
    taken.take_body(run.plan, br#"{"correlationId":"torture-1","sta"#);
    taken.take_body(run.plan, br#"{"correlationId":"torture-1","status":"GRANTED","message":"0 "}"#);
    assert_eq!((taken.strange.count, taken.copies, taken.torn), (4, 1, 1));
    let none = Taken::default();
    let (taken, digests) = ([&taken, &none, &none, &none, &none], Digests::default());
    let alerts = run.alerts();
    let seen = Seen { taken, digests: &digests, alerts: &alerts, letters: &run.letters, damaged: &run.damaged };
    let report = check(run.plan, &run.book, &seen, &run.bounds);
    assert_eq!(report.sinks[0].invented, 4);
}

#[test]
fn every_published_body_is_read_as_its_event() {
    let plan = Plan::of(7);
    let mut taken = Taken::default();
    let ids: Vec<_> = (0..KEYS).flat_map(|key| (0..plan.length(key)).map(move |seq| EventId { key, seq })).collect();
    for &id in ids.iter().filter(|&&id| plan.is_due(id, Sink::Kafka)) {
        taken.take_body(plan, &plan.response(id).body);
        assert!(taken.has(id), "{id}");
    }
    assert_eq!((taken.strange.count, taken.torn, taken.duplicates()), (0, 0, 0));
}

#[test]
fn a_reordered_pair_is_found_at_each_sink() {
    for (number, sink) in Sink::ALL.into_iter().enumerate() {
        let mut run = Run::right();
        let (first, second) = run.pair(number);
        run.took[number].swap(first, second);
        let (late, early) = (run.took[number][second], run.took[number][first]);
        assert_eq!(run.violations(), [Violation::Reordered(sink, late, early.seq)]);
    }
}

#[test]
fn a_late_copy_is_a_duplicate_and_no_disorder() {
    let mut run = Run::right();
    let (first, _) = run.pair(0);
    let again = run.took[0][first];
    run.took[0].push(again);
    run.bounds.sinks[0] = 1;
    assert_eq!(run.violations(), []);
    run.took[0].push(again);
    assert_eq!(run.violations(), [Violation::TooManyCopies(Sink::Kafka, 2, 1)]);
}

#[test]
fn a_lost_dead_letter_is_found() {
    let mut run = Run::right();
    let lost = run.letters.pop().expect("a letter");
    let violations = run.violations();
    assert!(matches!(&violations[..], [Violation::LetterLost(_, reason)] if *reason == lost.reason), "{violations:?}");
}

#[test]
fn a_wrong_reason_or_sink_is_found() {
    let spoils: [fn(&mut Letter); 2] =
        [|letter| letter.reason = "gave_up".to_owned(), |letter| letter.sink = Some("archive".to_owned())];
    for spoil in spoils {
        let mut run = Run::right();
        spoil(&mut run.letters[3]);
        let violations = run.violations();
        assert!(matches!(violations[..], [Violation::WrongReason(..), Violation::LetterLost(..)]), "{violations:?}");
    }
}

#[test]
fn a_dead_letter_of_a_good_event_is_found() {
    let mut run = Run::right();
    let good = (0..KEYS).find(|&key| run.plan.cause(key).is_none()).expect("a good key");
    run.letters.push(Letter {
        reason: "refused".to_owned(),
        sink: Some("on_call".to_owned()),
        correlation_id: Some(format!("torture-{good}")),
        id: 1,
        event: None,
    });
    assert!(matches!(run.violations()[..], [Violation::LetterInvented(_)]));
}

/// The last regular event that the webhook received, and a dead letter of it with that reason.
fn letter_of_the_last(run: &Run, reason: &str) -> (EventId, Letter) {
    let id = *run.took[Sink::Webhook as usize].iter().rev().find(|id| run.plan.cause(id.key).is_none()).expect("one");
    let (sink, reason) = (Some(Sink::Webhook.name().to_owned()), reason.to_owned());
    (id, Letter { reason, sink, correlation_id: None, id: 1, event: Some(id) })
}

#[test]
fn a_sink_that_refuses_everything_makes_few_dead_letters() {
    let mut run = Run::right();
    let (_, letter) = letter_of_the_last(&run, REFUSED);
    run.letters.push(letter);
    assert_eq!(run.violations(), [Violation::TooManyBlamed(1, 0)]);
    run.bounds.blamed = 1;
    assert_eq!(run.violations(), []);
}

#[test]
fn only_damaged_events_are_dead_letters_and_each_once() {
    let mut run = Run::right();
    let (id, letter) = letter_of_the_last(&run, "render_failed");
    run.letters.push(letter);
    assert!(matches!(run.violations()[..], [Violation::LetterInvented(_)]));
    run.damaged.insert((Sink::Webhook, id));
    assert_eq!(run.violations(), [Violation::TooManyCopies(Sink::Webhook, 1, 0)]);
    run.took[Sink::Webhook as usize].retain(|taken| *taken != id);
    assert_eq!(run.violations(), []);
    run.letters.pop();
    assert_eq!(run.violations(), [Violation::LetterLost(id, "render_failed")]);
}

#[test]
fn a_redriven_dead_letter_may_be_out_of_order() {
    let plan = Plan::of(7);
    let key = (0..KEYS).find(|&key| plan.cause(key).is_some_and(|cause| cause.sink.is_some())).expect("one to refuse");
    let mut taken = Taken::default();
    taken.letters.insert(EventId { key, seq: 1 });
    for seq in [0, 2, 3, 1] {
        taken.take(EventId { key, seq });
    }
    assert_eq!(taken.reordered.count, 0);
}

#[test]
fn repeated_dead_letters_are_counted() {
    let mut run = Run::right();
    run.letters.push(run.letters[0].clone());
    assert_eq!(run.violations(), [Violation::TooManyLetters(1, 0)]);
    run.bounds.letters = 1;
    assert_eq!(run.violations(), []);
}

#[test]
fn missing_events_are_counted_during_the_run() {
    let run = Run::right();
    let none = Taken::default();
    let due = run.book.confirmed().filter(|&id| run.plan.is_due(id, Sink::Webhook)).count();
    assert_eq!(missing(run.plan, &run.book, Sink::Webhook, &none), due);
    assert_eq!(letters_due(run.plan, &run.book), run.letters.len());
}

#[test]
fn an_event_in_a_second_digest_is_found() {
    let mut run = Run::right();
    let (_, events) = run.digests().swap_remove(7);
    run.more_digests.push(("another".to_owned(), vec![events[1]]));
    assert_eq!(run.violations(), [Violation::InTwoDigests(events[1], 1, 0)]);
    run.bounds.sinks[Sink::Digest as usize] = 1;
    assert_eq!(run.violations(), []);
}

#[test]
fn a_digest_that_comes_again_is_counted_once_and_not_by_its_events() {
    let mut run = Run::right();
    run.more_digests.push(run.digests().swap_remove(7));
    assert_eq!(run.violations(), [Violation::TooManyDigests(1, 0)]);
    run.bounds.digests = 1;
    assert_eq!(run.violations(), []);
    assert_eq!(run.report().sinks[Sink::Digest as usize].duplicates, 0);
}

#[test]
fn a_digest_that_comes_again_with_other_events_is_found() {
    let other = |events: &mut Vec<EventId>| events[0].key = KEYS + 1;
    let fewer = |events: &mut Vec<EventId>| events.truncate(1);
    let reordered = |events: &mut Vec<EventId>| events.swap(0, 1);
    for change in [other, fewer, reordered] {
        let mut run = Run::right();
        run.bounds.digests = 1;
        let (id, mut events) = run.digests().swap_remove(7);
        change(&mut events);
        run.more_digests.push((id.clone(), events));
        let violations = run.violations();
        assert!(violations.contains(&Violation::DigestChanged(id)), "{violations:?}");
    }
}

#[test]
fn a_digest_that_is_none_is_found() {
    let plan = Plan::of(7);
    let body = |id: EventId| String::from_utf8(plan.response(id).body).expect("a text");
    let of = |tenant: &str| {
        let key = (0..KEYS).find(|&key| plan.tenant(key) == tenant && plan.cause(key).is_none()).expect("a key");
        body(EventId { key, seq: 0 })
    };
    let (mut digests, mut taken) = (Digests::default(), Taken::default());
    let (one, other) = (of("plain-1"), of("plain-2"));
    let wrong = [
        format!("a {one}"),
        "b []".to_owned(),
        r#"c [{"correlationId":"torture-1"}]"#.to_owned(),
        format!("d [{one},{other}]"),
        format!("e [{}]", [one.as_str(); 9].join(",")),
    ];
    for line in &wrong {
        digests.take_line(plan, &mut taken, line.as_bytes());
    }
    assert_eq!(taken.strange.count, wrong.len() as u64, "{:?}", taken.strange.first);
    let (mut digests, mut taken) = (Digests::default(), Taken::default());
    digests.take_line(plan, &mut taken, format!("f [{one}]").as_bytes());
    assert_eq!((taken.strange.count, taken.distinct, digests.count()), (0, 1, 1));
}
