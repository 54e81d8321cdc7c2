//! Reads the journal beside a running relay.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::database::{self, KIND};
use super::record::decode;
use super::{EventRecord, JournalError, Record, RequestKey};

/// The largest block after decompression, in bytes: a block ends after the record that fills it, and the largest record has the largest
/// body and properties of a message.
const MAX_BLOCK: usize = 256 * 1024 * 1024;

/// Selects the events to which everything applies that is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventFilter {
    /// Received at this time or later, in milliseconds since 1970.
    pub since: Option<i64>,
    /// Received at this time or earlier.
    pub until: Option<i64>,
    pub tenant: Option<String>,
    pub status: Option<String>,
    pub correlation_id: Option<String>,
}

impl EventFilter {
    fn matches(&self, event: &EventRecord<'_>) -> bool {
        let is_equal = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        !event.is_test
            && self.since.is_none_or(|since| event.received >= since)
            && self.until.is_none_or(|until| event.received <= until)
            && is_equal(&self.tenant, event.tenant)
            && is_equal(&self.status, event.status)
            && is_equal(&self.correlation_id, event.correlation_id)
    }
}

/// Where a scan has come to. It begins with the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BlockId(i64);

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

    /// Calls `visit` with the events that match, but for tests of sinks, in the next block after `after` that may have some, in the order of receipt. Returns that
    /// block; `None`: there is no further one.
    pub fn scan(
        &self,
        filter: &EventFilter,
        after: BlockId,
        mut visit: impl FnMut(EventRecord<'_>),
    ) -> Result<Option<BlockId>, JournalError> {
        let next = match &filter.correlation_id {
            None => {
                let times = (filter.since.unwrap_or(i64::MIN), filter.until.unwrap_or(i64::MAX));
                database::read::next_block(&self.connection, after.0, times)
            }
            Some(correlation_id) => self.next_block_of(RequestKey::of_request(correlation_id), after),
        };
        let Some((id, block)) = next.map_err(JournalError::sqlite(&self.path))? else { return Ok(None) };
        self.visit_records(&block, &mut |record| match record {
            Record::Event(event) if filter.matches(&event) => visit(event),
            _ => {}
        })?;
        Ok(Some(BlockId(id)))
    }

    fn next_block_of(&self, key: RequestKey, after: BlockId) -> rusqlite::Result<Option<(i64, Vec<u8>)>> {
        let mut blocks = BTreeSet::new();
        database::read::blocks_of(&self.connection, key, |block| {
            blocks.insert(block);
        })?;
        for block in blocks.range(after.0.saturating_add(1)..) {
            if let Some(records) = database::read::block(&self.connection, *block)? {
                return Ok(Some((*block, records)));
            }
        }
        Ok(None)
    }

    /// Whether the event with this id was recorded before `received`, so that its message was redelivered then.
    pub fn is_recorded_before(&self, id: [u8; 16], received: i64) -> Result<bool, JournalError> {
        let mut found = false;
        self.find(&[RequestKey::of_event_id(Uuid::from_bytes(id))], |record| {
            found |= matches!(record, Record::Event(other) if other.id == id && other.received < received);
        })?;
        Ok(found)
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
