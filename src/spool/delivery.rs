//! A delivery that waits on disk: how it is handed in, and how it comes back.

use std::sync::Arc;

use uuid::Uuid;

use super::footprint::{DeliveryLengths, Footprint, field};
use crate::clock::{MonotonicTime, Timestamp};
use crate::event::Message;
use crate::rules::{RouteName, SinkName};

/// The cause of the last failure is kept so far, in bytes.
pub(super) const MAX_CAUSE: usize = 512;

/// The number of a delivery in the spool. Of one sink, a later delivery has a higher one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowId(pub(super) i64);

impl RowId {
    /// As the file has it.
    #[must_use]
    pub fn number(self) -> i64 {
        self.0
    }
}

/// One delivery for the spool, as it is put there and as it comes back.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// Which sink it is for.
    pub sink: SinkName,
    /// The hash of what is kept in order.
    pub key: u64,
    /// When its message was received.
    pub received: Timestamp,
    /// When it is to be attempted, unless others of its key are before it.
    pub due: MonotonicTime,
    /// How many attempts have ended.
    pub attempts: u32,
    /// How many of them the destination refused.
    pub refusals: u32,
    /// How the last of them ended.
    pub cause: Option<String>,
    /// The route that chose the sink.
    pub route: Option<RouteName>,
    /// The event's type.
    pub kind: String,
    /// The event's tenant.
    pub tenant: Arc<str>,
    /// The event's id.
    pub event_id: Uuid,
    /// As received.
    pub message: Arc<Message>,
    /// Its message was redelivered, and an earlier run may have put it here already.
    pub may_be_known: bool,
}

impl Waiting {
    /// What it will take on disk, once its properties are JSON.
    pub(super) fn footprint(&self, properties: &str) -> Footprint {
        let texts = [
            self.cause.as_deref().unwrap_or_default(),
            self.route.as_ref().map_or("", RouteName::as_str),
            &self.kind,
            &self.tenant,
            self.message.source.as_str(),
            properties,
        ];
        let texts: usize = texts.into_iter().map(|text| field(text.len())).sum();
        Footprint::of_delivery(DeliveryLengths {
            sink: self.sink.as_str().len(),
            others: texts + field(self.message.body.len()),
        })
    }
}

/// How much may be taken out of the spool at once.
#[derive(Debug, Clone, Copy)]
pub struct Portion {
    /// So many deliveries.
    pub count: usize,
    /// So many bytes in memory, unless the first delivery alone has more.
    pub bytes: usize,
}

/// Deliveries that are due.
#[derive(Debug)]
pub struct Due {
    /// The oldest due time first.
    pub rows: Vec<(RowId, Waiting)>,
    /// When the next one is due that is not among them.
    pub next: Option<MonotonicTime>,
}

/// What a sink's dispatcher hears of its deliveries in the spool.
#[derive(Debug)]
pub enum News {
    /// Those that are due, as asked for. They are the dispatcher's until it says what became of each.
    Due(Due),
    /// One that was handed in is there already from before: a redelivered message's.
    Known {
        /// Its key.
        key: u64,
    },
    /// The dead letter that takes its place is on disk.
    Buried {
        /// Its number.
        id: RowId,
        /// Its key; none: it was gone already.
        key: Option<u64>,
    },
    /// One more was put there by somebody else.
    Added {
        /// Its key.
        key: u64,
    },
    /// A dead letter was to be copied to it, and there was no room for that.
    NotCopied {
        /// The number of the dead letter.
        letter: i64,
    },
}
