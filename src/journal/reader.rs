//! Reads the journal beside a running relay.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::database::{self, KIND};
use super::record::decode;
use super::{JournalError, Record, RequestKey};

/// The largest block after decompression, in bytes: a block ends after the record that fills it, and the largest record has the largest
/// body and properties of a message.
const MAX_BLOCK: usize = 256 * 1024 * 1024;

#[derive(Debug)]
pub struct JournalReader {
    connection: Connection,
    path: PathBuf,
}

impl JournalReader {
    /// `None`: nothing was ever recorded.
    pub fn open(path: &Path) -> Result<Option<Self>, JournalError> {
        let connection = KIND.open_to_read(path).map_err(JournalError::open(path))?;
        Ok(connection.map(|connection| Self { connection, path: path.to_owned() }))
    }

    /// When the oldest record was written, in milliseconds since 1970.
    pub fn oldest(&self) -> Result<Option<i64>, JournalError> {
        database::read::oldest(&self.connection).map_err(JournalError::sqlite(&self.path))
    }

    /// Calls `visit` with the records that have one of the keys, and with some others that are stored beside them, in the order in which
    /// they were recorded.
    pub fn find(&self, keys: &[RequestKey], mut visit: impl FnMut(Record<'_>)) -> Result<(), JournalError> {
        let mut blocks = BTreeSet::new();
        for key in keys {
            database::read::blocks_of(&self.connection, *key, |block| {
                blocks.insert(block);
            })
            .map_err(JournalError::sqlite(&self.path))?;
        }
        for block in blocks {
            let block = database::read::block(&self.connection, block).map_err(JournalError::sqlite(&self.path))?;
            if let Some(block) = block {
                self.visit_records(&block, &mut visit)?;
            }
        }
        Ok(())
    }

    fn visit_records(&self, block: &[u8], visit: &mut impl FnMut(Record<'_>)) -> Result<(), JournalError> {
        let damaged = |found: String| JournalError::Damaged { path: self.path.clone(), found };
        let records = decompress(block).map_err(|error| damaged(error.to_string()))?;
        let mut rest = records.as_slice();
        while let Some((length, after)) = rest.split_first_chunk() {
            let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
            let (record, after) =
                after.split_at_checked(length).ok_or_else(|| damaged("a record is incomplete".to_owned()))?;
            visit(decode(record).map_err(|error| damaged(error.to_string()))?);
            rest = after;
        }
        Ok(())
    }
}

fn decompress(block: &[u8]) -> std::io::Result<Vec<u8>> {
    // The frame says how large its content is.
    let size = zstd::zstd_safe::get_frame_content_size(block).ok().flatten().unwrap_or_default();
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if size > MAX_BLOCK {
        return Err(std::io::Error::other(format!("a block claims to have {size} bytes")));
    }
    zstd::bulk::decompress(block, size)
}
