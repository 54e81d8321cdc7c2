//! Checks the alerts about requests. Whether one is due follows from what was published: a request is open from its
//! GRANTED to its end, and an unconfirmed publish may have happened or not.

use super::{Bounds, Few, Violation};
use crate::torture::alerts::Alerts;
use crate::torture::book::Book;
use crate::torture::plan::{EventId, Plan, Watched};

/// The figures of the alerts.
#[derive(Debug, Default, Clone, Copy)]
pub struct AlertRow {
    /// Requests that must be raised.
    pub due: u64,
    pub raised: u64,
    pub resolved: u64,
    /// How often a request was raised again after its end. Only messages that come again can explain that.
    pub again: u64,
    pub most_again: u64,
    pub duplicates: u64,
    pub bound: u64,
    pub lost: u64,
    pub false_alarms: u64,
    /// Requests whose end the relay is known to have stored in time, so they must not be raised.
    pub in_time: u64,
}

/// What must be said about a request, by what was published of it.
struct Due {
    must_be_raised: bool,
    may_be_raised: bool,
    end: End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    None,
    Unconfirmed,
    Confirmed,
}

impl Due {
    fn of(plan: Plan, book: &Book, key: u32) -> Option<Self> {
        let watched = plan.watched(key)?;
        let [granted, end] = [0, 1].map(|seq| EventId { key, seq });
        let end = match (book.is_published(end), book.is_confirmed(end)) {
            (false, _) => End::None,
            (true, false) => End::Unconfirmed,
            (true, true) => End::Confirmed,
        };
        // A late end is published when the request was raised.
        let must_be_raised = book.is_confirmed(granted) && (end == End::None || watched == Watched::Late);
        let may_be_raised = book.is_published(granted) && !book.ended_in_time(key);
        Some(Self { must_be_raised, may_be_raised, end })
    }
}

/// The number of alerts that must come and have not.
pub fn alerts_missing(plan: Plan, book: &Book, alerts: &Alerts) -> usize {
    let missing = |key: &u32| {
        let Some(due) = Due::of(plan, book, *key) else { return false };
        let (raised, resolved) = alerts.of(*key).map_or((0, 0), |pairs| (pairs.raised(), pairs.resolved()));
        (due.must_be_raised && raised == 0) || (due.end == End::Confirmed && resolved < raised)
    };
    book.keys().filter(missing).count()
}

pub fn alert_row(
    plan: Plan,
    book: &Book,
    alerts: &Alerts,
    bounds: &Bounds,
    violations: &mut Vec<Violation>,
) -> AlertRow {
    let mut row = AlertRow {
        duplicates: alerts.duplicates,
        bound: bounds.alerts,
        most_again: bounds.raised_again,
        in_time: book.in_time(),
        ..AlertRow::default()
    };
    let mut lost = Few::of(violations);
    for key in book.keys() {
        let Some(due) = Due::of(plan, book, key) else { continue };
        row.due += u64::from(due.must_be_raised);
        let (raised, resolved) = alerts.of(key).map_or((0, 0), |pairs| (pairs.raised(), pairs.resolved()));
        if due.must_be_raised && raised == 0 {
            lost.add(|| Violation::AlertLost(key));
        } else if due.end == End::Confirmed && resolved < raised {
            lost.add(|| Violation::NotResolved(key));
        }
    }
    row.lost = lost.count;
    let mut wrong = Few::of(violations);
    for key in alerts.keys() {
        let Some((pairs, due)) = alerts.of(key).zip(Due::of(plan, book, key)) else { continue };
        let (raised, resolved) = (pairs.raised(), pairs.resolved());
        (row.raised, row.resolved) = (row.raised + raised as u64, row.resolved + resolved as u64);
        if raised > 0 && !due.may_be_raised {
            wrong.add(|| Violation::FalseAlarm(key));
        }
        if resolved > 0 && due.end == End::None {
            wrong.add(|| Violation::ResolvedWithoutEnd(key));
        }
        if pairs.is_out_of_order || resolved > raised {
            wrong.add(|| Violation::ResolvedFirst(key));
        }
        // A request without an end stays raised, whatever comes again.
        if raised > 1 && due.end == End::None {
            wrong.add(|| Violation::RaisedTwice(key));
        } else if raised > 1 {
            row.again += raised as u64 - 1;
        }
    }
    if row.again > bounds.raised_again {
        wrong.add(|| Violation::TooManyRaisedAgain(row.again, bounds.raised_again));
    }
    for key in &alerts.early.first {
        wrong.add(|| Violation::RaisedEarly(*key));
    }
    for body in &alerts.invented.first {
        wrong.add(|| Violation::AlertInvented(body.clone()));
    }
    row.false_alarms = wrong.count;
    if alerts.duplicates > bounds.alerts {
        violations.push(Violation::TooManyAlerts(alerts.duplicates, bounds.alerts));
    }
    row
}
