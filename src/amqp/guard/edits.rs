//! The record of the guard's edits in a message, kept until the message is handed over.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// The edits of one message that are kept with their original bytes; further ones are only counted.
const MAX_EDITS: usize = 16;
/// The bytes that are kept of properties that can't be read at all.
const MAX_UNREADABLE: usize = 1_024;
/// The bytes of originals that are kept for all messages of a connection together.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// The messages of a connection whose edits are kept: as many as a prefetch allows. One more displaces the oldest.
const MAX_MESSAGES: usize = 65_536;

/// Where a short string is in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextLocation {
    /// A property, by its name in AMQP.
    Property(&'static str),
    /// The name of a header, at any depth.
    HeaderName,
    /// The argument of a method, which is not part of a message.
    Argument,
}

/// One short string that was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    pub location: TextLocation,
    /// As long as the original, with `?` for each byte that is not UTF-8.
    pub replacement: String,
    pub original: Box<[u8]>,
    offset: usize,
}

/// All that was changed in one message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MessageEdits {
    /// The names of properties that were not UTF-8.
    properties: Vec<&'static str>,
    listed: Vec<Edit>,
    unlisted: usize,
    too_deep: bool,
    unreadable_value: bool,
    unreadable: Option<Box<[u8]>>,
}

impl MessageEdits {
    /// The edits of a message whose properties can't be read at all.
    pub(super) fn unreadable(properties: &[u8]) -> Self {
        let kept = properties.get(..MAX_UNREADABLE).unwrap_or(properties);
        Self { unreadable: Some(kept.into()), ..Self::default() }
    }

    /// Whether this property was not UTF-8.
    #[must_use]
    pub fn has_property(&self, property: &str) -> bool {
        self.properties.contains(&property)
    }

    /// The first 16 edits, in the order of the message.
    #[must_use]
    pub fn listed(&self) -> &[Edit] {
        &self.listed
    }

    /// The number of edits that are not among the [`listed`](Self::listed) ones.
    #[must_use]
    pub fn unlisted(&self) -> usize {
        self.unlisted
    }

    /// Whether an array or table became a byte array because it was nested too deep.
    #[must_use]
    pub fn is_too_deep(&self) -> bool {
        self.too_deep
    }

    /// Whether an array or table became a byte array because it could not be read.
    #[must_use]
    pub fn has_unreadable_value(&self) -> bool {
        self.unreadable_value
    }

    /// The first bytes of the properties, if none of them could be read. The message then has made-up properties.
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

    pub(super) fn add(&mut self, location: TextLocation, offset: usize, original: Box<[u8]>, replacement: &[u8]) {
        if let TextLocation::Property(name) = location {
            self.properties.push(name);
        }
        if self.listed.len() < MAX_EDITS {
            let replacement = String::from_utf8_lossy(replacement).into_owned();
            self.listed.push(Edit { location, replacement, original, offset });
        } else {
            self.unlisted += 1;
        }
    }

    /// A point to go back to by [`undo`](Self::undo).
    pub(super) fn mark(&self) -> (usize, usize) {
        (self.listed.len(), self.unlisted)
    }

    /// Removes the edits since the mark and returns their offsets and original bytes. The unlisted ones can't be restored: they stay
    /// in the message.
    pub(super) fn undo(&mut self, (listed, unlisted): (usize, usize)) -> Vec<(usize, Box<[u8]>)> {
        self.unlisted = unlisted;
        self.listed.drain(listed..).map(|edit| (edit.offset, edit.original)).collect()
    }

    fn size(&self) -> usize {
        let originals: usize = self.listed.iter().map(|edit| 2 * edit.original.len()).sum();
        originals + self.unreadable.as_ref().map_or(0, |bytes| bytes.len())
    }

    /// What is kept when there is no room for the original bytes.
    fn without_originals(mut self) -> Self {
        self.unlisted += self.listed.len();
        self.listed = Vec::new();
        self.unreadable = self.unreadable.map(|_| Box::default());
        self
    }
}

/// The edits of one connection's messages: its stream writes them, the consumer of the messages takes them.
#[derive(Debug, Default)]
pub struct EditLog {
    /// Shows without a lock that there are no entries, which is the usual case.
    length: AtomicUsize,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    /// By channel and delivery tag.
    queue: VecDeque<(u16, u64, MessageEdits)>,
    bytes: usize,
}

impl Entries {
    fn remove(&mut self, index: usize) -> Option<MessageEdits> {
        let (_, _, edits) = self.queue.remove(index)?;
        self.bytes = self.bytes.saturating_sub(edits.size());
        Some(edits)
    }
}

impl EditLog {
    /// Removes and returns the edits of a message. The search is short if a channel's messages are taken in the order of
    /// their delivery tags.
    pub fn take(&self, channel: u16, delivery_tag: u64) -> Option<MessageEdits> {
        if self.length.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.with(|entries| {
            let index = entries.queue.iter().position(|(of, tag, _)| (*of, *tag) == (channel, delivery_tag))?;
            entries.remove(index)
        })
    }

    pub(super) fn insert(&self, channel: u16, delivery_tag: u64, edits: MessageEdits) {
        self.with(|entries| {
            if entries.queue.len() >= MAX_MESSAGES {
                entries.remove(0);
            }
            let fits = entries.bytes + edits.size() <= MAX_BYTES;
            let edits = if fits { edits } else { edits.without_originals() };
            entries.bytes += edits.size();
            entries.queue.push_back((channel, delivery_tag, edits));
        });
    }

    pub(super) fn remove_channel(&self, channel: u16) {
        if self.length.load(Ordering::Acquire) == 0 {
            return;
        }
        self.with(|entries| {
            entries.queue.retain(|(of, ..)| *of != channel);
            entries.bytes = entries.queue.iter().map(|(.., edits)| edits.size()).sum();
        });
    }

    fn with<T>(&self, then: impl FnOnce(&mut Entries) -> T) -> T {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let done = then(&mut entries);
        self.length.store(entries.queue.len(), Ordering::Release);
        done
    }

    /// The number of entries, and of bytes.
    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        self.with(|entries| (entries.queue.len(), entries.bytes))
    }
}
