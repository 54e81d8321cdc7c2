//! What one sink received, reduced while it is read: copies of each event, and whether the first copies of each key
//! were in order.

use std::borrow::Cow;
use std::collections::HashSet;

use serde::Deserialize;

use super::plan::{EventId, MOST_EVENTS, Plan, id_of};

/// The number of entries kept per kind of violation. The others are only counted.
pub const KEPT: usize = 10;

/// The events that one sink received.
#[derive(Debug, Default)]
pub struct Taken {
    keys: Vec<Copies>,
    /// All copies, first ones and duplicates.
    pub copies: u64,
    /// Events with at least one copy.
    pub distinct: u64,
    pub reordered: Kept<(EventId, u8)>,
    /// Dead letters of this sink. A redrive delivers them out of order.
    pub letters: HashSet<EventId>,
    /// Bodies that match no event of the plan.
    pub strange: Kept<String>,
    /// Lines that are not JSON. A writer leaves them if it is killed or the disk is full.
    pub torn: u64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Copies {
    times: [u8; MOST_EVENTS],
    /// The highest event number with a copy, plus one.
    reached: u8,
}

/// The first few entries and the number of all.
#[derive(Debug)]
pub struct Kept<T> {
    pub first: Vec<T>,
    pub count: u64,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { first: Vec::new(), count: 0 }
    }
}

impl<T> Kept<T> {
    pub fn push(&mut self, one: T) {
        self.count += 1;
        if self.first.len() < KEPT {
            self.first.push(one);
        }
    }
}

/// Fields that every event format has. `original` names the status `responseStatus`.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, rename = "correlationId")]
    correlation_id: Cow<'a, str>,
    #[serde(borrow, alias = "responseStatus")]
    status: Cow<'a, str>,
    #[serde(borrow)]
    message: Cow<'a, str>,
}

impl Body<'_> {
    fn event(&self, plan: Plan) -> Option<EventId> {
        id_of(&self.correlation_id, &self.message).filter(|&id| plan.status(id) == self.status)
    }
}

/// The event of a body in any format.
pub fn event_of(plan: Plan, body: &[u8]) -> Option<EventId> {
    serde_json::from_slice::<Body<'_>>(body).ok()?.event(plan)
}

impl Taken {
    /// Records the next body that the sink received.
    pub fn take_body(&mut self, plan: Plan, body: &[u8]) {
        let strange = || String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
        match serde_json::from_slice::<Body<'_>>(body) {
            Err(error) if !error.is_data() => self.torn += 1,
            Err(_) => self.strange.push(strange()),
            Ok(read) => match read.event(plan) {
                Some(id) => self.take(id),
                None => self.strange.push(strange()),
            },
        }
    }

    /// Records the next copy of an event.
    pub fn take(&mut self, id: EventId) {
        let key = id.key as usize;
        if self.keys.len() <= key {
            self.keys.resize(key + 1, Copies::default());
        }
        let copies = &mut self.keys[key];
        let times = &mut copies.times[usize::from(id.seq)];
        self.copies += 1;
        if *times == 0 {
            self.distinct += 1;
            if !self.letters.contains(&id) {
                if id.seq < copies.reached {
                    self.reordered.push((id, copies.reached - 1));
                }
                copies.reached = copies.reached.max(id.seq + 1);
            }
        }
        *times = times.saturating_add(1);
    }

    pub fn has(&self, id: EventId) -> bool {
        self.keys.get(id.key as usize).is_some_and(|copies| copies.times[usize::from(id.seq)] > 0)
    }

    /// Every event with at least one copy.
    pub fn events(&self) -> impl Iterator<Item = EventId> {
        (0_u32..).zip(&self.keys).flat_map(|(key, copies)| {
            (0_u8..).zip(copies.times).filter(|(_, times)| *times > 0).map(move |(seq, _)| EventId { key, seq })
        })
    }

    pub fn duplicates(&self) -> u64 {
        self.copies - self.distinct
    }
}
