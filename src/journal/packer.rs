//! Packs blocks into a batch: compresses them, and puts their keys into buckets.

use std::io;

use zstd::bulk::Compressor;

use super::batch::Batch;
use super::buffer::{Block, span};

/// zstd's level: 1 takes half as long again and saves 4 % of the space, because the records of a block are much alike; -3 would need a
/// third more space.
const COMPRESSION: i32 = -1;

#[derive(Default)]
pub(super) struct Packer {
    /// It is made for the first block, and used for all.
    compressor: Option<Compressor<'static>>,
    /// The last block that was compressed.
    compressed: Vec<u8>,
}

impl Packer {
    /// Adds the block. It is left out at an error.
    pub(super) fn add(&mut self, block: &Block, batch: &mut Batch) -> io::Result<()> {
        self.compress(&block.bytes)?;
        // A batch has far fewer blocks than a number can count.
        let number = u16::try_from(batch.blocks.len()).unwrap_or(u16::MAX);
        batch.blocks.push(self.compressed.clone());
        for key in &block.keys {
            if let Some(words) = batch.keys.get_mut(usize::from(key.bucket())) {
                words.push(key.word(number));
            }
        }
        batch.uncompressed += block.bytes.len();
        batch.records += block.records;
        batch.received = span(batch.received, block.received);
        Ok(())
    }

    fn compress(&mut self, block: &[u8]) -> io::Result<()> {
        let compressor = match &mut self.compressor {
            Some(compressor) => compressor,
            none => {
                let mut compressor = Compressor::new(COMPRESSION)?;
                // Damage is then noticed when a block is read.
                compressor.include_checksum(true)?;
                none.insert(compressor)
            }
        };
        self.compressed.clear();
        self.compressed.reserve(zstd::zstd_safe::compress_bound(block.len()));
        compressor.compress_to_buffer(block, &mut self.compressed).map(|_| ())
    }
}
