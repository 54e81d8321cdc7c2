//! A delivery in the spool, and the events that its sink's dispatcher gets.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::row_size::{DeliveryLengths, RowSize, field_size};
use crate::clock::{MonotonicTime, Timestamp};
use crate::event::Message;
use crate::rules::{RouteName, SinkName};

/// The error of the last attempt is cut to this length, in bytes.
pub(super) const MAX_ERROR: usize = 512;

/// The id of a delivery in the spool. Of one sink, a later delivery has a higher id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RowId(pub(super) i64);

impl RowId {
    #[must_use]
    pub fn number(self) -> i64 {
        self.0
    }
}

/// One delivery, to be written to the spool or read from it.
#[derive(Debug, Clone)]
pub struct SpooledDelivery {
    pub sink: SinkName,
    /// The hash of its ordering key.
    pub key: u64,
    /// When its message was received.
    pub received: Timestamp,
    /// When it is attempted next, unless others of its key are before it.
    pub due: MonotonicTime,
    /// How many attempts have ended.
    pub attempts: u32,
    /// How many of them the sink refused.
    pub refusals: u32,
    /// How the last of them failed.
    pub last_error: Option<String>,
    /// None: `unrouted:` names the sink.
    pub route: Option<RouteName>,
    pub kind: String,
    pub tenant: Arc<str>,
    pub event_id: Uuid,
    pub message: Arc<Message>,
    /// What it is grouped by, as JSON, if its sink has `group`: it is delivered in a digest with others that have the same.
    pub group: Option<Arc<str>>,
    /// The first delivery of the digest that it was put into when it was fetched.
    pub digest: Option<RowId>,
    /// Its message was redelivered, so an earlier run may have spooled the delivery already.
    pub may_be_known: bool,
    /// It is one of a replay, which is marked.
    pub replayed: bool,
}

impl SpooledDelivery {
    /// Its size on disk with `properties`, which are JSON.
    pub(super) fn row_size(&self, properties: &str) -> RowSize {
        let texts = [
            self.last_error.as_deref().unwrap_or_default(),
            self.route.as_ref().map_or("", RouteName::as_str),
            &self.kind,
            &self.tenant,
            self.message.source.as_str(),
            properties,
            self.group.as_deref().unwrap_or_default(),
        ];
        let texts: usize = texts.into_iter().map(|text| field_size(text.len())).sum();
        RowSize::of_delivery(DeliveryLengths {
            is_grouped: self.group.is_some(),
            sink: self.sink.as_str().len(),
            others: texts + field_size(self.message.body.len()),
        })
    }
}

/// A delivery with the values of its row.
#[derive(Debug)]
pub(super) struct DeliveryRow {
    pub(super) id: RowId,
    pub(super) delivery: SpooledDelivery,
    /// JSON. It is made once; the row may be written repeatedly.
    pub(super) properties: String,
    /// Its size on disk, in bytes.
    pub(super) size: u64,
}

/// How much may be fetched from the spool at once.
#[derive(Debug, Clone, Copy, Default)]
pub struct FetchLimit {
    pub count: usize,
    /// In memory, in bytes; a first delivery that alone is larger is fetched all the same.
    pub bytes: usize,
    /// Fetch digests.
    pub digests: Option<DigestLimit>,
    /// Only deliveries up to this one are fetched.
    pub up_to: Option<RowId>,
}

/// How much goes into one digest. A group that has as much is full.
#[derive(Debug, Clone, Copy)]
pub struct DigestLimit {
    pub count: usize,
    /// Of the rows, in bytes, as `spool.max_size` counts them; a first one that alone is larger is a digest of its own.
    pub bytes: u64,
}

/// When the next digest of a group is due.
#[derive(Debug, Clone, Copy)]
pub struct GroupTiming {
    /// So long after the receipt of its first event …
    pub wait: Duration,
    /// … or as soon as the group is full.
    pub limit: DigestLimit,
    /// Deliveries up to this one are from before a change of `group`. They wait for no more events: later ones wait for them.
    pub at_once_up_to: Option<RowId>,
}

impl GroupTiming {
    pub const AT_ONCE: Self =
        Self { wait: Duration::ZERO, limit: DigestLimit { count: 1, bytes: 0 }, at_once_up_to: None };
}

/// Deliveries that are not due yet, by what they wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitsFor {
    Anything,
    /// The end of a back-off.
    BackOff,
    /// More events of their group.
    Group,
}

impl WaitsFor {
    /// Whether such a delivery waits for its group; none: it makes no difference.
    pub(super) fn in_group(self) -> Option<bool> {
        match self {
            Self::Anything => None,
            Self::BackOff => Some(false),
            Self::Group => Some(true),
        }
    }
}

#[derive(Debug)]
pub enum Groups {
    All,
    /// Those with these keys.
    Of(Vec<u64>),
}

#[derive(Debug)]
pub struct DueDeliveries {
    /// In the order of their due times; those of a digest behind each other, in the order of receipt.
    pub rows: Vec<(RowId, SpooledDelivery)>,
    /// The due time of the first delivery that is not among them.
    pub next: Option<MonotonicTime>,
}

/// An event of the deliveries of a sink, for the sink's dispatcher.
#[derive(Debug)]
pub enum SpoolEvent {
    /// The answer to a fetch. The dispatcher holds these deliveries until it completes, reschedules or dead-letters each of them.
    Due(DueDeliveries),
    /// A delivery that the dispatcher spilled was in the spool already: its message was redelivered.
    AlreadySpooled { key: u64 },
    /// The dead letter that replaces a delivery is on disk.
    DeadLettered {
        id: RowId,
        /// None: the delivery was gone already.
        key: Option<u64>,
    },
    /// A delivery was added that the dispatcher did not spill: it was redriven, or is the copy of a dead letter.
    Added { key: u64 },
    /// Deliveries may be due that an earlier fetch did not find: a group is full, or they were written late.
    MoreDue,
    /// The dead letter with this id was to be copied to the sink, and the spool has no room for the copy.
    NotCopied { dead_letter: i64 },
}
