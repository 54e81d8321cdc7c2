//! Reads the journal beside a running relay.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::record::decode;
use super::store::{StoreReader, open_to_read};
use super::{EventRecord, JournalError, Record, RequestKey};
use crate::config::JournalStoreConfig;

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

/// A search for events, block by block.
#[derive(Debug)]
pub struct Scan {
    filter: EventFilter,
    /// The last block that was read.
    after: i64,
    /// The blocks that may have events of the request that is looked for; none: no request is given.
    blocks: Option<BTreeSet<i64>>,
}

#[derive(Debug)]
pub struct JournalReader {
    store: Box<dyn StoreReader>,
    /// Of the store, for people.
    name: String,
}

impl JournalReader {
    /// `None`: nothing was ever recorded.
    pub fn open(config: &JournalStoreConfig) -> Result<Option<Self>, JournalError> {
        Ok(open_to_read(config)?.map(|store| Self { store, name: config.to_string() }))
    }

    /// When the oldest record was written, in milliseconds since 1970.
    pub fn oldest(&self) -> Result<Option<i64>, JournalError> {
        self.store.oldest()
    }

    /// Begins a search for the events that match, but for tests of sinks, in the order of receipt.
    pub fn scan(&self, filter: EventFilter) -> Result<Scan, JournalError> {
        let key = filter.correlation_id.as_deref().map(RequestKey::of_request);
        let blocks = key.map(|key| self.blocks_of(&[key])).transpose()?;
        Ok(Scan { filter, after: 0, blocks })
    }

    /// Calls `visit` with the events of the next block that may have some. False: there is no further one.
    pub fn scan_next(&self, scan: &mut Scan, mut visit: impl FnMut(EventRecord<'_>)) -> Result<bool, JournalError> {
        let next = match &mut scan.blocks {
            None => {
                let times = (scan.filter.since.unwrap_or(i64::MIN), scan.filter.until.unwrap_or(i64::MAX));
                self.store.next_block(scan.after, times)?
            }
            Some(blocks) => self.first_block(blocks)?,
        };
        let Some((id, block)) = next else { return Ok(false) };
        scan.after = id;
        self.visit_records(&block, &mut |record| match record {
            Record::Event(event) if scan.filter.matches(&event) => visit(event),
            _ => {}
        })?;
        Ok(true)
    }

    /// Removes blocks up to the first one that was not deleted, and reads that.
    fn first_block(&self, blocks: &mut BTreeSet<i64>) -> Result<Option<(i64, Vec<u8>)>, JournalError> {
        while let Some(block) = blocks.pop_first() {
            if let Some(records) = self.store.block(block)? {
                return Ok(Some((block, records)));
            }
        }
        Ok(None)
    }

    /// The blocks that may have records with one of the keys.
    fn blocks_of(&self, keys: &[RequestKey]) -> Result<BTreeSet<i64>, JournalError> {
        let mut blocks = BTreeSet::new();
        for key in keys {
            blocks.extend(self.store.blocks_of(*key)?);
        }
        Ok(blocks)
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
        for block in self.blocks_of(keys)? {
            if let Some(block) = self.store.block(block)? {
                self.visit_records(&block, &mut visit)?;
            }
        }
        Ok(())
    }

    fn visit_records(&self, block: &[u8], visit: &mut impl FnMut(Record<'_>)) -> Result<(), JournalError> {
        let damaged = |found: String| JournalError::Damaged { journal: self.name.clone(), found };
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
