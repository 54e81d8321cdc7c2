//! The digests that the webhook accepted, reduced while they are read: the events of each, and whether a repeated digest
//! was the same one.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use serde_json::value::RawValue;
use xxhash_rust::xxh3::Xxh3;

use super::plan::{EventId, Plan};
use super::taken::{Kept, Taken, event_of};
use super::world::MOST_OF_A_DIGEST;

/// The accepted digests.
#[derive(Debug, Default)]
pub struct Digests {
    /// A hash of the events of each digest in their order, by the digest's id.
    by_id: HashMap<String, u64>,
    /// Requests beyond the first one of each digest.
    pub repeats: u64,
    /// Digests that hold as many events as they may.
    pub full: u64,
    /// Ids of digests whose repetition had other events, or the same ones in another order.
    pub changed: Kept<String>,
    /// Events that came in a second digest.
    pub again: Kept<EventId>,
}

impl Digests {
    /// The number of different digests.
    pub fn count(&self) -> u64 {
        self.by_id.len() as u64
    }

    /// Records the next accepted request: `ID BODY`. `taken` gets the events of a digest once.
    pub fn take_line(&mut self, plan: Plan, taken: &mut Taken, line: &[u8]) {
        let strange = |taken: &mut Taken, what: &str| {
            let shown = String::from_utf8_lossy(&line[..line.len().min(200)]).into_owned();
            taken.strange.push(format!("a digest {what}: {shown}"));
        };
        let end = line.iter().position(|&byte| byte == b' ').unwrap_or(line.len());
        let (id, body) = (String::from_utf8_lossy(&line[..end]), &line[end..]);
        let Ok(bodies) = serde_json::from_slice::<Vec<&RawValue>>(body) else {
            return strange(taken, "that is no JSON array");
        };
        let events = bodies.iter().map(|body| event_of(plan, body.get().as_bytes()));
        let Some(events) = events.collect::<Option<Vec<_>>>() else {
            return strange(taken, "with an event that is none of the plan");
        };
        match events.as_slice() {
            [] => return strange(taken, "without events"),
            [first, others @ ..] if others.iter().any(|id| plan.tenant(id.key) != plan.tenant(first.key)) => {
                strange(taken, "of more than one tenant");
            }
            events if events.len() > MOST_OF_A_DIGEST => {
                strange(taken, "with more events than the configuration allows");
            }
            _ => {}
        }
        self.take(taken, &id, &events);
    }

    /// Records the next copy of a digest with these events.
    pub fn take(&mut self, taken: &mut Taken, id: &str, events: &[EventId]) {
        let composition = composition(events);
        match self.by_id.entry(id.to_owned()) {
            Entry::Occupied(known) => {
                self.repeats += 1;
                if *known.get() == composition {
                    return;
                }
                self.changed.push(id.to_owned());
            }
            Entry::Vacant(new) => {
                new.insert(composition);
                self.full += u64::from(events.len() == MOST_OF_A_DIGEST);
            }
        }
        for &event in events {
            if taken.has(event) {
                self.again.push(event);
            }
            taken.take(event);
        }
    }
}

fn composition(events: &[EventId]) -> u64 {
    let mut hash = Xxh3::new();
    for event in events {
        hash.update(&event.key.to_le_bytes());
        hash.update(&[event.seq]);
    }
    hash.digest()
}
