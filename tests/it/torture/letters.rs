//! The dead letters of a run: the relay's list, the events they belong to, and the ones that are redriven at the end.

use serde_json::Value;

use super::checker::{Letter, REFUSED};
use super::plan::{Plan, Sink};
use super::taken::event_of;
use crate::support::Home;

pub fn list(home: &Home) -> Vec<Letter> {
    let listed = home.does(&["dead-letters", "list", "--json"]);
    let letters = serde_json::Deserializer::from_str(&listed).into_iter();
    letters.map(|letter| letter.expect("a dead letter in JSON")).collect()
}

/// The number of dead letters of one sink.
pub fn count_of(letters: &[Letter], sink: Sink) -> usize {
    letters.iter().filter(|letter| letter.sink.as_deref() == Some(sink.name())).count()
}

/// Reads the body of each dead letter that belongs to one sink, to identify its event.
pub fn identify(plan: Plan, home: &Home, letters: &mut [Letter]) {
    for letter in letters.iter_mut().filter(|letter| letter.sink.is_some()) {
        let shown = home.does(&["dead-letters", "show", &letter.id.to_string(), "--json"]);
        let shown: Value = serde_json::from_str(&shown).expect("a dead letter in JSON");
        letter.event = shown["body"].as_str().and_then(|body| event_of(plan, body.as_bytes()));
    }
}

/// Redrives the dead letters that a sink refused. The error is the relay's: the spool may have no room for them yet.
pub fn redrive_refused(home: &Home) -> Result<(), String> {
    let redrive = home.run(&["dead-letters", "redrive", "--reason", REFUSED, "--yes"]);
    if redrive.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&redrive.stderr).trim().to_owned()) }
}

/// The number of dead letters that a sink refused and that were not redriven.
pub fn refused(home: &Home) -> usize {
    list(home).iter().filter(|letter| letter.reason == REFUSED).count()
}
