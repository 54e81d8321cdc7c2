//! The checker: takes what was published, what each sink received and the dead letters, and returns violations. It
//! knows neither brokers nor clocks.
//!
//! - Every confirmed event is at each sink where it is due. A confirmed event that cannot be delivered is a dead letter, once. Events that a
//!   sink refused are there too: they were redriven at the end.
//! - No sink has an event that was not published or is not due there. An unconfirmed publish may be there or not.
//! - The first copies of a key's events are in the order of publishing, at each sink.
//! - There are no more copies than attempts with an unknown result.
//! - An event is in one digest. A digest that comes again under its id has the same events in the same order. Exceptions: after a crash,
//!   redelivered messages may come in a second digest.
//! - A request without an end is raised as overdue, once, and resolved by a late end. No other request is raised, and none before its time.
//! - A dead letter has the reason and the sink that its message was made for. Exceptions: events whose row in the spool was damaged, and the
//!   few that a sink refused before its breaker opened.

mod alerts;
#[cfg(test)]
mod offline;

pub use alerts::{AlertRow, alerts_missing};

use std::collections::{BTreeSet, HashSet};
use std::fmt;

use super::alerts::Alerts;
use super::book::Book;
use super::digests::Digests;
use super::plan::{Cause, EventId, Plan, Sink, key_of};
use super::taken::{KEPT, Taken};

/// The reason of dead letters that a sink refused.
pub const REFUSED: &str = "refused";
/// The reason of dead letters whose row in the spool is unreadable.
const DAMAGED: &str = "render_failed";

/// One dead letter in the output of `dead-letters list --json`.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Letter {
    pub reason: String,
    pub sink: Option<String>,
    pub correlation_id: Option<String>,
    pub id: i64,
    /// Set only if the test read the body of the dead letter.
    #[serde(skip)]
    pub event: Option<EventId>,
}

/// What became of the events.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// In the order of [`Sink::ALL`].
    pub taken: [&'a Taken; Sink::ALL.len()],
    pub digests: &'a Digests,
    pub alerts: &'a Alerts,
    pub letters: &'a [Letter],
    pub damaged: &'a Damaged,
}

/// Events whose rows in the spool the test made unreadable, each for one sink.
pub type Damaged = BTreeSet<(Sink, EventId)>;

/// The largest number of duplicates that the faults of the run explain.
#[derive(Debug, Default, Clone, Copy)]
pub struct Bounds {
    /// Duplicates per sink, in the order of [`Sink::ALL`].
    pub sinks: [u64; Sink::ALL.len()],
    /// Digests that come again.
    pub digests: u64,
    /// Copies of alerts.
    pub alerts: u64,
    /// Requests that are raised again because their messages came again.
    pub raised_again: u64,
    pub letters: u64,
    /// Dead letters that the webhook refused before its breaker opened.
    pub blamed: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// The event was confirmed and is due at the sink, but the sink never received it.
    Lost(Sink, EventId),
    /// The sink received an event that was not published or is not due at this sink.
    Invented(Sink, String),
    /// The first copy of the event came after the first copy of a later event.
    Reordered(Sink, EventId, u8),
    TooManyCopies(Sink, u64, u64),
    /// A digest came again with other events.
    DigestChanged(String),
    /// Events came in a second digest: one of them, found, bound.
    InTwoDigests(EventId, u64, u64),
    TooManyDigests(u64, u64),
    /// The request of that key was overdue and was not raised.
    AlertLost(u32),
    /// The request was raised, and its end did not resolve the alert.
    NotResolved(u32),
    /// The request was raised although it ended in time.
    FalseAlarm(u32),
    RaisedEarly(u32),
    /// The request has no end and was raised more than once, under different ids.
    RaisedTwice(u32),
    /// Requests that have ended were raised more than once: found, bound.
    TooManyRaisedAgain(u64, u64),
    ResolvedWithoutEnd(u32),
    /// RESOLVED came before its RAISED.
    ResolvedFirst(u32),
    /// An alert about nothing that may be raised.
    AlertInvented(String),
    TooManyAlerts(u64, u64),
    /// The message was confirmed, cannot be delivered, and has no dead letter.
    LetterLost(EventId, &'static str),
    /// A dead letter whose event should not be one.
    LetterInvented(String),
    /// The reason or the sink of the dead letter differs from the plan.
    WrongReason(EventId, String),
    TooManyLetters(u64, u64),
    /// A webhook that refused every request created more dead letters than allowed: found, bound.
    TooManyBlamed(u64, u64),
}

/// The figures of one sink.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub due: u64,
    pub delivered: u64,
    pub duplicates: u64,
    pub bound: u64,
    pub lost: u64,
    pub reordered: u64,
    pub invented: u64,
    pub torn: u64,
}

/// The figures of the dead letters.
#[derive(Debug, Default, Clone, Copy)]
pub struct LetterRow {
    pub due: u64,
    pub found: u64,
    pub duplicates: u64,
    pub bound: u64,
    pub lost: u64,
    pub wrong: u64,
    /// Dead letters of a webhook that refused every request. They are part of `found`, like `damaged`.
    pub blamed: u64,
    pub most_blamed: u64,
    pub damaged: u64,
}

/// The figures of the digests.
#[derive(Debug, Clone, Copy)]
pub struct DigestRow {
    pub digests: u64,
    /// They have as many events as a digest can have.
    pub full: u64,
    pub repeats: u64,
    pub bound: u64,
    pub changed: u64,
}

#[derive(Debug)]
pub struct Report {
    /// In the order of [`Sink::ALL`].
    pub sinks: Vec<Row>,
    pub digests: DigestRow,
    pub alerts: AlertRow,
    pub letters: LetterRow,
    /// The first few violations of each kind and sink. Empty if the run is correct.
    pub violations: Vec<Violation>,
}

/// Checks a run, finished or interrupted.
pub fn check(plan: Plan, book: &Book, seen: &Seen<'_>, bounds: &Bounds) -> Report {
    let mut violations = Vec::new();
    let sinks = Sink::ALL.into_iter().zip(seen.taken).zip(bounds.sinks);
    let sinks = sinks
        .map(|((sink, taken), bound)| sink_row(plan, book, (sink, taken), seen.damaged, bound, &mut violations))
        .collect();
    let digests = digest_row(seen, bounds, &mut violations);
    let alerts = alerts::alert_row(plan, book, seen.alerts, bounds, &mut violations);
    let letters = letter_row(plan, book, seen.letters, seen.damaged, bounds, &mut violations);
    Report { sinks, digests, alerts, letters, violations }
}

/// The number of confirmed events that are due at a sink and have not arrived.
pub fn missing(plan: Plan, book: &Book, sink: Sink, taken: &Taken) -> usize {
    book.confirmed().filter(|&id| plan.is_due(id, sink) && !taken.has(id)).count()
}

/// The number of dead letters that the plan requires.
pub fn letters_due(plan: Plan, book: &Book) -> usize {
    book.confirmed().filter(|&id| plan.cause(id.key).is_some_and(|cause| cause.id == id)).count()
}

fn sink_row(
    plan: Plan,
    book: &Book,
    (sink, taken): (Sink, &Taken),
    damaged: &Damaged,
    bound: u64,
    violations: &mut Vec<Violation>,
) -> Row {
    let (mut due, mut lost) = (0, Few::of(violations));
    // A damaged row becomes a dead letter that cannot be redriven.
    for id in book.confirmed().filter(|&id| plan.is_due(id, sink) && !damaged.contains(&(sink, id))) {
        due += 1;
        if !taken.has(id) {
            lost.add(|| Violation::Lost(sink, id));
        }
    }
    let lost = lost.count;

    violations.extend(taken.strange.first.iter().map(|body| Violation::Invented(sink, body.clone())));
    let mut invented = Few::of(violations);
    for id in taken.events().filter(|&id| !book.is_published(id) || !plan.is_due(id, sink)) {
        invented.add(|| Violation::Invented(sink, id.to_string()));
    }
    let invented = invented.count + taken.strange.count;

    let reordered = taken.reordered.first.iter().map(|&(id, after)| Violation::Reordered(sink, id, after));
    violations.extend(reordered);
    let both = damaged.iter().filter(|&&(of, id)| of == sink && taken.has(id)).count() as u64;
    let duplicates = taken.duplicates() + both;
    // Of digests, each is a violation of its own kind.
    if duplicates > bound && sink != Sink::Digest {
        violations.push(Violation::TooManyCopies(sink, duplicates, bound));
    }
    let (delivered, reordered, torn) = (taken.distinct, taken.reordered.count, taken.torn);
    Row { due, delivered, duplicates, bound, lost, reordered, invented, torn }
}

fn digest_row(seen: &Seen<'_>, bounds: &Bounds, violations: &mut Vec<Violation>) -> DigestRow {
    let digests = seen.digests;
    violations.extend(digests.changed.first.iter().cloned().map(Violation::DigestChanged));
    let bound = bounds.sinks[Sink::Digest as usize];
    if let Some(&id) = digests.again.first.first().filter(|_| digests.again.count > bound) {
        violations.push(Violation::InTwoDigests(id, digests.again.count, bound));
    }
    if digests.repeats > bounds.digests {
        violations.push(Violation::TooManyDigests(digests.repeats, bounds.digests));
    }
    DigestRow {
        digests: digests.count(),
        full: digests.full,
        repeats: digests.repeats,
        bound: bounds.digests,
        changed: digests.changed.count,
    }
}

fn letter_row(
    plan: Plan,
    book: &Book,
    letters: &[Letter],
    damaged: &Damaged,
    bounds: &Bounds,
    violations: &mut Vec<Violation>,
) -> LetterRow {
    let mut row = LetterRow { bound: bounds.letters, most_blamed: bounds.blamed, ..LetterRow::default() };
    let mut found = HashSet::new();
    let mut wrong = Few::of(violations);
    for letter in letters {
        match verdict(plan, book, letter, damaged) {
            Ok((death, sink, id)) if found.insert((sink, id)) => match death {
                Death::Meant => {}
                Death::Blamed => row.blamed += 1,
                Death::Damaged => row.damaged += 1,
            },
            Ok(_) => row.duplicates += 1,
            Err(violation) => wrong.add(|| violation),
        }
    }
    row.wrong = wrong.count;
    row.found = found.len() as u64;

    let mut lost = Few::of(violations);
    let causes = book.confirmed().filter_map(|id| plan.cause(id.key).filter(|cause| cause.id == id));
    let causes = causes.map(|cause| (cause.sink, cause.id, cause.reason));
    for (sink, id, reason) in causes.chain(damaged.iter().map(|&(sink, id)| (Some(sink), id, DAMAGED))) {
        row.due += 1;
        if !found.contains(&(sink, id)) {
            lost.add(|| Violation::LetterLost(id, reason));
        }
    }
    row.lost = lost.count;
    if row.duplicates > bounds.letters {
        violations.push(Violation::TooManyLetters(row.duplicates, bounds.letters));
    }
    if row.blamed > bounds.blamed {
        violations.push(Violation::TooManyBlamed(row.blamed, bounds.blamed));
    }
    row
}

/// Why an event may be a dead letter.
enum Death {
    /// The plan requires this dead letter.
    Meant,
    /// The webhook refused every request when it refused this event.
    Blamed,
    Damaged,
}

/// The event of a dead letter and why it may be one, or the violation.
fn verdict(
    plan: Plan,
    book: &Book,
    letter: &Letter,
    damaged: &Damaged,
) -> Result<(Death, Option<Sink>, EventId), Violation> {
    let sink = letter.sink.as_deref().and_then(|name| Sink::ALL.into_iter().find(|sink| sink.name() == name));
    let key = letter.event.map(|id| id.key).or_else(|| letter.correlation_id.as_deref().and_then(key_of));
    let cause = key.and_then(|key| plan.cause(key));
    let is_of = |cause: &Cause| letter.event.is_none_or(|id| id == cause.id) && book.is_published(cause.id);
    if let Some(cause) = cause.filter(is_of) {
        return if letter.reason == cause.reason && sink == cause.sink {
            Ok((Death::Meant, sink, cause.id))
        } else {
            Err(Violation::WrongReason(cause.id, format!("{letter:?}, not {cause:?}")))
        };
    }
    let of_sink = sink.zip(letter.event).filter(|&(sink, id)| book.is_published(id) && plan.is_due(id, sink));
    match (of_sink, letter.reason.as_str()) {
        (Some((Sink::Webhook, id)), REFUSED) => Ok((Death::Blamed, sink, id)),
        (Some(row), DAMAGED) if damaged.contains(&row) => Ok((Death::Damaged, sink, row.1)),
        _ => Err(Violation::LetterInvented(format!("{letter:?}"))),
    }
}

/// Keeps the first few violations of a kind and counts all of them.
struct Few<'a> {
    violations: &'a mut Vec<Violation>,
    count: u64,
}

impl<'a> Few<'a> {
    fn of(violations: &'a mut Vec<Violation>) -> Self {
        Self { violations, count: 0 }
    }

    fn add(&mut self, violation: impl FnOnce() -> Violation) {
        if self.count < KEPT as u64 {
            self.violations.push(violation());
        }
        self.count += 1;
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "event {} of key {}", self.seq, self.key)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(sink, id) => write!(f, "{}: {id} was confirmed and is lost", sink.name()),
            Self::Invented(sink, what) => write!(f, "{}: what nobody sent there: {what}", sink.name()),
            Self::Reordered(sink, id, after) => {
                write!(f, "{}: {id} came first after event {after} of that key", sink.name())
            }
            Self::TooManyCopies(sink, copies, bound) => {
                write!(f, "{}: {copies} duplicates; at most {bound} can be of unknown ends", sink.name())
            }
            Self::DigestChanged(id) => write!(f, "digests: {id} came again with other events"),
            Self::InTwoDigests(id, times, bound) => {
                write!(
                    f,
                    "digests: {times} events came in a second digest, as {id} did; at most {bound} were redelivered"
                )
            }
            Self::TooManyDigests(repeats, bound) => {
                write!(f, "digests: {repeats} came again; at most {bound} can be of unknown ends")
            }
            Self::AlertLost(key) => write!(f, "alerts: the request of key {key} has no end and was not raised"),
            Self::NotResolved(key) => write!(f, "alerts: the end of key {key} did not resolve its alert"),
            Self::FalseAlarm(key) => {
                write!(f, "alerts: the request of key {key} was raised, and it ended in time or was never published")
            }
            Self::RaisedEarly(key) => write!(f, "alerts: the request of key {key} was raised before it was overdue"),
            Self::RaisedTwice(key) => write!(f, "alerts: the request of key {key} was raised more than once"),
            Self::TooManyRaisedAgain(times, bound) => {
                write!(
                    f,
                    "alerts: requests that have ended were raised more than once: {times} times; at most {bound} came again"
                )
            }
            Self::ResolvedWithoutEnd(key) => write!(f, "alerts: key {key} has no end and was resolved"),
            Self::ResolvedFirst(key) => write!(f, "alerts: key {key} was resolved before it was raised"),
            Self::AlertInvented(body) => write!(f, "alerts: about nothing that may be raised: {body}"),
            Self::TooManyAlerts(copies, bound) => {
                write!(f, "alerts: {copies} duplicates; at most {bound} can be of unknown ends")
            }
            Self::LetterLost(id, reason) => write!(f, "dead letters: {id} should be there as {reason}"),
            Self::LetterInvented(letter) => write!(f, "dead letters: of nothing that should be one: {letter}"),
            Self::WrongReason(id, letter) => write!(f, "dead letters: {id} is there as {letter}"),
            Self::TooManyBlamed(found, most) => {
                write!(f, "dead letters: {found} of a sink that refused everything; {most} at most are the events' own")
            }
            Self::TooManyLetters(copies, bound) => write!(f, "dead letters: {copies} duplicates of at most {bound}"),
        }
    }
}
