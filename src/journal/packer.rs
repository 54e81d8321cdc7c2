//! Packs records into a batch: compressed blocks, and the keys of each.

use std::io;

use zstd::bulk::Compressor;

use super::buffer::frames;
use super::database::Batch;
use super::keys::MAX_BLOCKS;

/// A block of records gets no further one when it has this size, in bytes. A reader decompresses whole blocks.
const BLOCK_SIZE: usize = 128 * 1024;
/// The fastest of zstd's levels: higher ones save little space, because the records of a block are much alike.
const COMPRESSION: i32 = 1;

#[derive(Default)]
pub(super) struct Packer {
    /// It is made for the first block, and used for all.
    compressor: Option<Compressor<'static>>,
}

impl Packer {
    pub(super) fn pack(&mut self, taken: &[u8]) -> io::Result<Batch> {
        let mut batch = Batch::default();
        let mut block = Vec::with_capacity(BLOCK_SIZE);
        for frame in frames(taken) {
            let number = batch.blocks.len();
            for key in frame.keys() {
                // A batch has far fewer blocks than a number can count.
                let word = key.word(u16::try_from(number).unwrap_or(u16::MAX));
                if let Some(words) = batch.keys.get_mut(usize::from(key.bucket())) {
                    words.push(word);
                }
            }
            batch.records += 1;
            if let Some(received) = frame.received {
                let (first, last) = batch.received.unwrap_or((received, received));
                batch.received = Some((first.min(received), last.max(received)));
            }
            let length = u32::try_from(frame.record.len()).unwrap_or(u32::MAX);
            block.extend_from_slice(&length.to_le_bytes());
            block.extend_from_slice(frame.record);
            if block.len() >= BLOCK_SIZE && number + 1 < MAX_BLOCKS {
                batch.blocks.push(self.compress(&block)?);
                block.clear();
            }
        }
        if !block.is_empty() {
            batch.blocks.push(self.compress(&block)?);
        }
        // An event and the ends of its deliveries have keys in common.
        for words in &mut batch.keys {
            words.sort_unstable();
            words.dedup();
        }
        Ok(batch)
    }

    fn compress(&mut self, block: &[u8]) -> io::Result<Vec<u8>> {
        let compressor = match &mut self.compressor {
            Some(compressor) => compressor,
            none => {
                let mut compressor = Compressor::new(COMPRESSION)?;
                // Damage is then noticed when a block is read.
                compressor.include_checksum(true)?;
                none.insert(compressor)
            }
        };
        compressor.compress(block)
    }
}
