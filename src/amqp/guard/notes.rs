//! What was changed in messages, kept until these are handed over.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// So many originals of one message are kept; of others only that there were some.
const MAX_ORIGINALS: usize = 16;
/// So many bytes of properties that can't be read at all are kept.
const MAX_UNREADABLE: usize = 1_024;
/// So many bytes of originals are kept for all messages of a connection together.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// So many messages have a note at once, at most: as many as a prefetch allows. With one more the oldest is forgotten.
const MAX_NOTES: usize = 65_536;

/// Where a short string stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A property of that name, by AMQP's own.
    Property(&'static str),
    /// The name of a header, at any depth.
    HeaderName,
    /// A method's argument, which is no part of a message.
    Argument,
}

/// What stood in a message before it was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Original {
    /// Where.
    pub place: Place,
    /// What the message has instead: as long, with `?` for each byte that is no UTF-8.
    pub instead: String,
    /// What it had.
    pub bytes: Box<[u8]>,
    at: usize,
}

/// What was changed in one message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Note {
    /// Properties that were no UTF-8, by name.
    properties: Vec<&'static str>,
    originals: Vec<Original>,
    more: usize,
    too_deep: bool,
    unreadable_value: bool,
    unreadable: Option<Box<[u8]>>,
}

impl Note {
    /// Of properties that can't be read at all.
    pub(super) fn unreadable(properties: &[u8]) -> Self {
        let kept = properties.get(..MAX_UNREADABLE).unwrap_or(properties);
        Self { unreadable: Some(kept.into()), ..Self::default() }
    }

    /// Whether that property was no UTF-8.
    #[must_use]
    pub fn has(&self, property: &str) -> bool {
        self.properties.contains(&property)
    }

    /// What was changed, in the order of the message; 16 at most.
    #[must_use]
    pub fn originals(&self) -> &[Original] {
        &self.originals
    }

    /// How many changes are not among the [`originals`](Self::originals).
    #[must_use]
    pub fn more(&self) -> usize {
        self.more
    }

    /// An array or table that was nested too deep is a byte array now.
    #[must_use]
    pub fn is_too_deep(&self) -> bool {
        self.too_deep
    }

    /// An array or table that couldn't be read is a byte array now.
    #[must_use]
    pub fn has_unreadable_value(&self) -> bool {
        self.unreadable_value
    }

    /// None of the properties could be read: the first of their bytes. Those that the message has were made up.
    #[must_use]
    pub fn unreadable_properties(&self) -> Option<&[u8]> {
        self.unreadable.as_deref()
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn set_too_deep(&mut self) {
        self.too_deep = true;
    }

    pub(super) fn set_unreadable_value(&mut self) {
        self.unreadable_value = true;
    }

    pub(super) fn add(&mut self, place: Place, at: usize, bytes: Box<[u8]>, instead: &[u8]) {
        if let Place::Property(name) = place {
            self.properties.push(name);
        }
        if self.originals.len() < MAX_ORIGINALS {
            let instead = String::from_utf8_lossy(instead).into_owned();
            self.originals.push(Original { place, instead, bytes, at });
        } else {
            self.more += 1;
        }
    }

    /// For [`undo`](Self::undo).
    pub(super) fn mark(&self) -> (usize, usize) {
        (self.originals.len(), self.more)
    }

    /// Forgets what was added since, and says where it stood. Those that were only counted stay as they were made.
    pub(super) fn undo(&mut self, (originals, more): (usize, usize)) -> Vec<(usize, Box<[u8]>)> {
        self.more = more;
        self.originals.drain(originals..).map(|original| (original.at, original.bytes)).collect()
    }

    fn size(&self) -> usize {
        let originals: usize = self.originals.iter().map(|original| 2 * original.bytes.len()).sum();
        originals + self.unreadable.as_ref().map_or(0, |bytes| bytes.len())
    }

    /// What is kept where there is no room for more.
    fn without_originals(mut self) -> Self {
        self.more += self.originals.len();
        self.originals = Vec::new();
        self.unreadable = self.unreadable.map(|_| Box::default());
        self
    }
}

/// The notes of one connection: its stream writes them, whoever takes its messages reads them.
#[derive(Debug, Default)]
pub struct Notes {
    /// So that whoever takes a message needs no lock where there is no note.
    length: AtomicUsize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    notes: VecDeque<(u16, u64, Note)>,
    bytes: usize,
}

impl Kept {
    fn remove(&mut self, at: usize) -> Option<Note> {
        let (_, _, note) = self.notes.remove(at)?;
        self.bytes = self.bytes.saturating_sub(note.size());
        Some(note)
    }
}

impl Notes {
    /// The note on a message, which is then no longer kept. Messages of a channel are taken in the order they came.
    pub fn take(&self, channel: u16, delivery_tag: u64) -> Option<Note> {
        if self.length.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.with(|kept| {
            let at = kept.notes.iter().position(|(known, tag, _)| (*known, *tag) == (channel, delivery_tag))?;
            kept.remove(at)
        })
    }

    pub(super) fn put(&self, channel: u16, delivery_tag: u64, note: Note) {
        self.with(|kept| {
            if kept.notes.len() >= MAX_NOTES {
                kept.remove(0);
            }
            let fits = kept.bytes + note.size() <= MAX_BYTES;
            let note = if fits { note } else { note.without_originals() };
            kept.bytes += note.size();
            kept.notes.push_back((channel, delivery_tag, note));
        });
    }

    pub(super) fn forget(&self, channel: u16) {
        if self.length.load(Ordering::Acquire) == 0 {
            return;
        }
        self.with(|kept| {
            kept.notes.retain(|(known, ..)| *known != channel);
            kept.bytes = kept.notes.iter().map(|(.., note)| note.size()).sum();
        });
    }

    fn with<T>(&self, then: impl FnOnce(&mut Kept) -> T) -> T {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let done = then(&mut kept);
        self.length.store(kept.notes.len(), Ordering::Release);
        done
    }

    #[cfg(test)]
    pub(super) fn kept(&self) -> (usize, usize) {
        self.with(|kept| (kept.notes.len(), kept.bytes))
    }
}
