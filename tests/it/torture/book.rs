//! The published events, in two bytes a key: confirmed, or perhaps published.

use std::collections::HashSet;

use super::plan::EventId;

/// The events that were published so far.
#[derive(Debug, Default)]
pub struct Book {
    keys: Vec<Page>,
    /// Keys whose request ended before any alert could be raised about it, as the relay itself said.
    ended_in_time: HashSet<u32>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Page {
    /// The number of published events, which are the first ones of the key.
    published: u8,
    /// One bit per confirmed event.
    confirmed: u8,
}

impl Book {
    /// The publisher sends the event: from now on any sink may receive it.
    pub fn publish(&mut self, id: EventId) {
        let key = id.key as usize;
        if self.keys.len() <= key {
            self.keys.resize(key + 1, Page::default());
        }
        assert_eq!(self.keys[key].published, id.seq, "the events of a key are published in order: {id:?}");
        self.keys[key].published += 1;
    }

    /// The broker confirmed the event: from now on the relay must deliver it.
    pub fn confirm(&mut self, id: EventId) {
        self.keys[id.key as usize].confirmed |= 1 << id.seq;
    }

    pub fn is_published(&self, id: EventId) -> bool {
        self.keys.get(id.key as usize).is_some_and(|page| id.seq < page.published)
    }

    pub fn is_confirmed(&self, id: EventId) -> bool {
        self.keys.get(id.key as usize).is_some_and(|page| page.confirmed & (1 << id.seq) != 0)
    }

    /// The relay has stored the end of the request in time.
    pub fn end_in_time(&mut self, key: u32) {
        self.ended_in_time.insert(key);
    }

    pub fn ended_in_time(&self, key: u32) -> bool {
        self.ended_in_time.contains(&key)
    }

    /// The number of requests that [ended in time](Self::end_in_time).
    pub fn in_time(&self) -> u64 {
        self.ended_in_time.len() as u64
    }

    /// All keys up to the last one with a published event.
    pub fn keys(&self) -> impl Iterator<Item = u32> {
        (0_u32..).zip(&self.keys).map(|(key, _)| key)
    }

    /// All confirmed events, ordered by key.
    pub fn confirmed(&self) -> impl Iterator<Item = EventId> {
        let events = (0_u32..).zip(&self.keys).flat_map(|(key, page)| {
            let confirmed = page.confirmed;
            (0..page.published).filter(move |seq| confirmed & (1 << seq) != 0).map(move |seq| EventId { key, seq })
        });
        events.into_iter()
    }

    /// The numbers of published and of confirmed events.
    pub fn counts(&self) -> (u64, u64) {
        let counts = self.keys.iter().map(|page| (u64::from(page.published), u64::from(page.confirmed.count_ones())));
        counts.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }
}
