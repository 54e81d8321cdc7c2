//! The keys by which records are found: 64-bit hashes of the ids that people know a request by.
//!
//! A key is stored in one of [`BUCKETS`], by its first bits, as a word of 64 bits: the next 48 bits of the hash, and 16 bits for the block
//! that has the record. A reader then decodes that block and compares the ids themselves. Each batch adds to every bucket, and so changes
//! a page of each: more buckets would make writing slower, fewer of them searching.

use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use crate::event::Event;

/// How many bits of a hash say which bucket it is in.
const BUCKET_BITS: u32 = 5;
pub(super) const BUCKETS: u8 = 1 << BUCKET_BITS;

/// The hash of a `correlationId`, a `productId` or the id of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestKey(pub(super) u64);

impl RequestKey {
    /// Of a `correlationId` or a `productId`.
    #[must_use]
    pub fn of_request(id: &str) -> Self {
        Self(xxh3_64(id.as_bytes()))
    }

    #[must_use]
    pub fn of_event_id(id: Uuid) -> Self {
        Self(xxh3_64(id.as_bytes()))
    }

    /// All keys of an event. An event without a `productId` has one twice.
    pub(super) fn of_event(event: &Event) -> [Self; 3] {
        let request = Self::of_request(&event.request_name());
        let product = event.product_id.as_deref().map_or(request, Self::of_request);
        [request, product, Self::of_event_id(event.id)]
    }

    pub(super) const fn bucket(self) -> u8 {
        (self.0 >> (64 - BUCKET_BITS)) as u8
    }

    /// The word that says that a block has this key.
    pub(super) const fn word(self, block: u16) -> u64 {
        (self.0 << BUCKET_BITS) & !0xffff | block as u64
    }

    /// The blocks that stored words name of this key. A word has 8 bytes, little-endian.
    pub(super) fn blocks(self, words: &[u8]) -> impl Iterator<Item = u16> {
        words.as_chunks().0.iter().filter_map(move |word| self.block(u64::from_le_bytes(*word)))
    }

    fn block(self, word: u64) -> Option<u16> {
        // The lower 16 bits are the block.
        (word & !0xffff == self.word(0)).then_some((word & 0xffff) as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_names_the_block_of_its_own_key_only() {
        let keys = ["order-1", "order-2", "P1"].map(RequestKey::of_request);
        for (number, key) in keys.iter().enumerate() {
            for block in [0, 1, u16::MAX] {
                let word = key.word(block);
                for (other, asked) in keys.iter().enumerate() {
                    assert_eq!(asked.block(word), (number == other).then_some(block));
                }
            }
        }
    }
}
