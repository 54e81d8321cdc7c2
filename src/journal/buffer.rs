//! The records that are not compressed yet, in memory.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::keys::RequestKey;
use super::record::RecordRef;

/// Records that would make the buffer larger are left out. In bytes.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// A block gets no further record when it has this size, in bytes: a reader decompresses whole blocks, and some of them stay in a
/// processor's cache until they are compressed.
const BLOCK_SIZE: usize = 128 * 1024;
/// What a block has room for from the beginning, in bytes: few records are larger than the rest.
const BLOCK_CAPACITY: usize = BLOCK_SIZE + 16 * 1024;
/// How many empty blocks are kept to be filled again: about as many as are filled while a batch is written.
const SPARE_BLOCKS: usize = 8;

/// Records that are compressed together.
#[derive(Debug)]
pub(super) struct Block {
    /// Each record follows its length (4 bytes, little-endian).
    pub(super) bytes: Vec<u8>,
    pub(super) records: u32,
    /// The earliest and the latest receipt of its events.
    pub(super) received: Option<(i64, i64)>,
    pub(super) keys: Vec<RequestKey>,
}

impl Default for Block {
    fn default() -> Self {
        Self { bytes: Vec::with_capacity(BLOCK_CAPACITY), records: 0, received: None, keys: Vec::new() }
    }
}

impl Block {
    /// False: the block would be larger than `max_size`, in bytes, and is left as it was.
    fn push(&mut self, keys: &[RequestKey], record: RecordRef<'_>, max_size: usize) -> bool {
        let begin = self.bytes.len();
        if self.append(record).is_none() || self.bytes.len() > max_size {
            self.bytes.truncate(begin);
            return false;
        }
        self.keys.extend_from_slice(keys);
        self.records += 1;
        if let RecordRef::Event(event) = record {
            self.received = span(self.received, Some((event.received, event.received)));
        }
        true
    }

    /// An error leaves a part of the record behind.
    fn append(&mut self, record: RecordRef<'_>) -> Option<()> {
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        record.encode(&mut self.bytes).ok()?;
        let length = u32::try_from(self.bytes.len() - begin - 4).ok()?;
        self.bytes.get_mut(begin..begin + 4)?.copy_from_slice(&length.to_le_bytes());
        Some(())
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.keys.clear();
        (self.records, self.received) = (0, None);
    }
}

/// From the earliest to the latest time of both.
pub(super) fn span(one: Option<(i64, i64)>, other: Option<(i64, i64)>) -> Option<(i64, i64)> {
    let (Some((first, last)), Some((other_first, other_last))) = (one, other) else { return one.or(other) };
    Some((first.min(other_first), last.max(other_last)))
}

#[derive(Debug, Default)]
pub(super) struct Buffer(Mutex<Blocks>);

#[derive(Debug, Default)]
struct Blocks {
    full: Vec<Block>,
    /// All bytes of the full ones.
    full_bytes: usize,
    growing: Block,
    spare: Vec<Block>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    Stored,
    /// A block is full now.
    Filled,
    /// There is no room for the record.
    Skipped,
}

impl Buffer {
    pub(super) fn push(&self, keys: &[RequestKey], record: RecordRef<'_>) -> Pushed {
        let mut blocks = self.lock();
        let Blocks { full, full_bytes, growing, spare } = &mut *blocks;
        if !growing.push(keys, record, MAX_BYTES - *full_bytes) {
            return Pushed::Skipped;
        }
        if growing.bytes.len() < BLOCK_SIZE {
            return Pushed::Stored;
        }
        *full_bytes += growing.bytes.len();
        full.push(std::mem::replace(growing, spare.pop().unwrap_or_default()));
        Pushed::Filled
    }

    pub(super) fn has_full_block(&self) -> bool {
        !self.lock().full.is_empty()
    }

    /// Takes the full blocks, and with `growing` also the one that is not.
    pub(super) fn take(&self, growing: bool) -> Vec<Block> {
        let mut blocks = self.lock();
        blocks.full_bytes = 0;
        let mut taken = std::mem::take(&mut blocks.full);
        if growing && blocks.growing.records > 0 {
            let empty = blocks.spare.pop().unwrap_or_default();
            taken.push(std::mem::replace(&mut blocks.growing, empty));
        }
        taken
    }

    /// Takes back a block, to fill it again. One that large records have made larger is freed.
    pub(super) fn reuse(&self, mut block: Block) {
        block.clear();
        let mut blocks = self.lock();
        if blocks.spare.len() < SPARE_BLOCKS && block.bytes.capacity() <= BLOCK_CAPACITY {
            blocks.spare.push(block);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Blocks> {
        // A panic may leave a part of a record, which then ends its block.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
