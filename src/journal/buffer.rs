//! The records that are not in the file yet, in memory.
//!
//! Each is a frame: the number of its keys (1 byte), the keys (8 bytes each), the time of receipt of an event (8 bytes; 0 for other
//! records), the length of the record (4 bytes), and the encoded record. Numbers are little-endian.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::keys::RequestKey;
use super::record::Record;

/// Records that would make the buffer larger are left out. In bytes; while a batch is written, there is another buffer of this size.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// With this size, in bytes, the buffer is written at once.
const FULL_BATCH: usize = 2 * 1024 * 1024;

#[derive(Debug, Default)]
pub(super) struct Buffer(Mutex<Vec<u8>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    Stored,
    /// There is enough for a batch now.
    Filled,
    /// There is no room for the record.
    Skipped,
}

impl Buffer {
    pub(super) fn push(&self, keys: &[RequestKey], record: &Record<'_>) -> Pushed {
        let mut frames = self.lock();
        let begin = frames.len();
        if push_frame(&mut frames, keys, record).is_none() || frames.len() > MAX_BYTES {
            frames.truncate(begin);
            return Pushed::Skipped;
        }
        if begin < FULL_BATCH && frames.len() >= FULL_BATCH { Pushed::Filled } else { Pushed::Stored }
    }

    pub(super) fn is_full_batch(&self) -> bool {
        self.lock().len() >= FULL_BATCH
    }

    /// Takes all frames, and leaves `empty` in their place.
    pub(super) fn take(&self, empty: Vec<u8>) -> Vec<u8> {
        std::mem::replace(&mut self.lock(), empty)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        // A panic may leave a part of a frame, which then ends the batch.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn push_frame(frames: &mut Vec<u8>, keys: &[RequestKey], record: &Record<'_>) -> Option<()> {
    frames.push(u8::try_from(keys.len()).ok()?);
    for key in keys {
        frames.extend_from_slice(&key.0.to_le_bytes());
    }
    let received = if let Record::Event(event) = record { event.received } else { 0 };
    frames.extend_from_slice(&received.to_le_bytes());
    let length_at = frames.len();
    frames.extend_from_slice(&[0; 4]);
    record.encode(frames).ok()?;
    let length = u32::try_from(frames.len() - length_at - 4).ok()?;
    frames.get_mut(length_at..length_at + 4)?.copy_from_slice(&length.to_le_bytes());
    Some(())
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'a> {
    keys: &'a [[u8; 8]],
    /// When an event was received; `None`: it is another record.
    pub(super) received: Option<i64>,
    pub(super) record: &'a [u8],
}

impl<'a> Frame<'a> {
    pub(super) fn keys(&self) -> impl Iterator<Item = RequestKey> + use<'a> {
        self.keys.iter().map(|key| RequestKey(u64::from_le_bytes(*key)))
    }
}

pub(super) fn frames(mut bytes: &[u8]) -> impl Iterator<Item = Frame<'_>> {
    std::iter::from_fn(move || {
        let (count, rest) = bytes.split_first()?;
        let (keys, rest) = rest.split_at_checked(usize::from(*count) * 8)?;
        let (received, rest) = rest.split_first_chunk()?;
        let received = Some(i64::from_le_bytes(*received)).filter(|received| *received != 0);
        let (length, rest) = rest.split_first_chunk()?;
        let (record, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        bytes = rest;
        Some(Frame { keys: keys.as_chunks().0, received, record })
    })
}
