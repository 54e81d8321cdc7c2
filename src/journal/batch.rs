//! The records that are written in one transaction.

use super::keys::BUCKETS;

/// With this size, in bytes before they are compressed, the records of a batch are written at once.
const FULL_BATCH: usize = 2 * 1024 * 1024;

/// The keys of a batch in one of the buckets have the id `bucket * BUCKET + batch`.
pub(super) const BUCKET: i64 = 1 << 48;
/// The blocks of a batch have the ids from `batch * BLOCK`.
pub(super) const BLOCK: i64 = 1 << 16;

#[derive(Debug)]
pub(super) struct Batch {
    /// By which a store recognizes it. No two have the same.
    pub(super) mark: i64,
    pub(super) records: u32,
    /// Their size before they were compressed, in bytes.
    pub(super) uncompressed: usize,
    /// The earliest and the latest receipt of its events.
    pub(super) received: Option<(i64, i64)>,
    /// Compressed.
    pub(super) blocks: Vec<Vec<u8>>,
    /// The words of each bucket.
    pub(super) keys: [Vec<u64>; BUCKETS as usize],
}

impl Default for Batch {
    fn default() -> Self {
        let (blocks, keys) = (Vec::new(), std::array::from_fn(|_| Vec::new()));
        Self { mark: fastrand::i64(..), records: 0, uncompressed: 0, received: None, blocks, keys }
    }
}

impl Batch {
    pub(super) const fn is_full(&self) -> bool {
        self.uncompressed >= FULL_BATCH
    }

    /// The buckets that have keys, and their words as bytes, each word once.
    pub(super) fn buckets(&mut self) -> impl Iterator<Item = (i64, Vec<u8>)> {
        (0..).zip(&mut self.keys).filter(|(_, words)| !words.is_empty()).map(|(bucket, words)| {
            // An event and the ends of its deliveries have keys in common.
            words.sort_unstable();
            words.dedup();
            (bucket, words.iter().flat_map(|word| word.to_le_bytes()).collect())
        })
    }
}
