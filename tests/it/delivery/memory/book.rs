//! The published messages, and where each of them arrived.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::support::Home;

/// The key under which the book records dead letters.
const DEAD: &str = "dead letters";

/// The correlation ids that were seen at each place. Clones share the same data.
#[derive(Clone, Default)]
pub struct Book(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    valid: BTreeSet<String>,
    invalid: BTreeSet<String>,
    seen: BTreeMap<&'static str, BTreeSet<String>>,
    /// Number of events that were seen again at the same place.
    repeated: usize,
}

impl Book {
    pub fn count(&self) -> usize {
        let inner = self.0.lock().expect("no holder panics");
        inner.valid.len() + inner.invalid.len()
    }

    pub fn published(&self, id: String, is_valid: bool) {
        let mut inner = self.0.lock().expect("no holder panics");
        if is_valid {
            inner.valid.insert(id)
        } else {
            inner.invalid.insert(id)
        };
    }

    /// Records an event that arrived at this place.
    pub fn delivered(&self, place: &'static str, body: &[u8]) {
        let event: Value = serde_json::from_slice(body).expect("JSON");
        self.seen(place, event["correlationId"].as_str().expect("an id"));
    }

    fn seen(&self, place: &'static str, id: &str) {
        let mut inner = self.0.lock().expect("no holder panics");
        if !inner.seen.entry(place).or_default().insert(id.to_owned()) {
            inner.repeated += 1;
        }
    }

    /// Records the current dead letters, which are the oldest, and purges them to make room for more.
    pub fn take_dead_letters(&self, home: &Home) {
        let listed = home.does(&["dead-letters", "list", "--json"]);
        let letters: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect();
        for letter in &letters {
            assert_eq!(letter["reason"], "missing_field", "{letter}");
            self.seen(DEAD, letter["correlationId"].as_str().expect("an id"));
        }
        if !letters.is_empty() {
            home.does(&["dead-letters", "purge", "--yes", "--limit", &letters.len().to_string()]);
        }
    }

    /// Describes the events that have not arrived at a place where they are expected.
    pub fn missing(&self, sinks: &[&'static str]) -> Option<String> {
        let inner = self.0.lock().expect("no holder panics");
        let none = BTreeSet::new();
        let places = sinks.iter().map(|sink| (*sink, &inner.valid)).chain([(DEAD, &inner.invalid)]);
        let missing: Vec<String> = places
            .filter_map(|(place, expected)| {
                let seen = inner.seen.get(place).unwrap_or(&none);
                assert!(seen.is_subset(expected), "{place} got what it shouldn't: {:?}", seen.difference(expected));
                let first = expected.difference(seen).next()?;
                Some(format!("{place}: {} of {}, not {first}", seen.len(), expected.len()))
            })
            .collect();
        (!missing.is_empty()).then(|| missing.join("; "))
    }
}

impl fmt::Display for Book {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.0.lock().expect("no holder panics");
        let (valid, invalid) = (inner.valid.len(), inner.invalid.len());
        write!(f, "{valid} valid and {invalid} invalid messages of 1 MiB, {} came twice", inner.repeated)
    }
}
