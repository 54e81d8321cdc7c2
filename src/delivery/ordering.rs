//! What the deliveries of a sink are ordered by: the value of one field, or what they are grouped by.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;
use xxhash_rust::xxh3::Xxh3;

use crate::clock::MonotonicTime;
use crate::config::{OrderBy, SinkConfig};
use crate::event::Event;
use crate::rules::{Field, SinkName};

/// Deliveries of one sink with the same [key](Self::key) are delivered one after another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ordering {
    pub order_by: OrderBy,
    /// Set: they are in one group, and `order_by` has no meaning.
    pub group_by: Option<Vec<Field>>,
}

impl Ordering {
    #[must_use]
    pub fn of(sink: &SinkConfig) -> Self {
        Self { order_by: sink.order_by, group_by: sink.group.as_ref().map(|group| group.by.clone()) }
    }

    /// No order is kept.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.order_by == OrderBy::None && self.group_by.is_none()
    }

    /// The key by which a sink's deliveries are ordered, as a hash that never changes (XXH3, seed 0, each part behind its length). A null
    /// key falls back to `correlationId`; without an order it is the event's own id.
    #[must_use]
    pub fn key(&self, sink: &SinkName, event: &Event) -> u64 {
        if let Some(by) = &self.group_by {
            return group_key(sink, &group(by, |field| field.of(event)));
        }
        let name = event.request_name();
        let parts = (&*name, event.product_id.as_deref(), event.session.as_deref());
        key_of(sink, self.order_by, event.id, &event.tenant, parts)
    }
}

/// The fields by which an event is grouped, with their values, as JSON.
#[must_use]
pub fn group<'a>(by: &[Field], value: impl Fn(Field) -> Option<&'a str>) -> String {
    let values: BTreeMap<_, _> = by.iter().map(|field| (field.as_str(), value(*field))).collect();
    // All keys are text, so serializing can't fail.
    serde_json::to_string(&values).unwrap_or_default()
}

/// The [key](Ordering::key) of a group.
#[must_use]
pub fn group_key(sink: &SinkName, group: &str) -> u64 {
    hash([sink.as_str().as_bytes(), group.as_bytes()])
}

/// The [key](Ordering::key) of an event with this id, tenant, `correlationId`, `productId` and session.
#[must_use]
pub fn key_of(
    sink: &SinkName,
    order_by: OrderBy,
    id: Uuid,
    tenant: &str,
    (correlation_id, product_id, session): (&str, Option<&str>, Option<&str>),
) -> u64 {
    let key = match order_by {
        OrderBy::None => id.as_bytes().as_slice(),
        OrderBy::Tenant => b"",
        OrderBy::CorrelationId => correlation_id.as_bytes(),
        OrderBy::ProductId => product_id.unwrap_or(correlation_id).as_bytes(),
        OrderBy::Session => session.unwrap_or(correlation_id).as_bytes(),
    };
    hash([sink.as_str().as_bytes(), tenant.as_bytes(), key])
}

fn hash<const N: usize>(parts: [&[u8]; N]) -> u64 {
    let mut hash = Xxh3::new();
    for part in parts {
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.digest()
}

/// Where and when a delivery that comes by no source waits in the spool.
#[derive(Debug, Clone)]
pub struct SpoolPlace {
    pub key: u64,
    pub due: MonotonicTime,
    pub group: Option<Arc<str>>,
}

impl SpoolPlace {
    /// The place of an event that goes to `sink` now.
    #[must_use]
    pub fn of(sink: &SinkConfig, event: &Event) -> Self {
        SinkQueue::of(sink).place(event)
    }
}

/// What decides the [place](SpoolPlace) of a sink's deliveries.
#[derive(Debug, Clone)]
pub struct SinkQueue {
    pub sink: SinkName,
    order: Ordering,
    /// How long the first event of a group waits for others.
    wait: Duration,
}

impl SinkQueue {
    #[must_use]
    pub fn of(sink: &SinkConfig) -> Self {
        let wait = sink.group.as_ref().map_or(Duration::ZERO, |group| group.wait);
        Self { sink: sink.name.clone(), order: Ordering::of(sink), wait }
    }

    /// The place of an event that goes to the sink now.
    #[must_use]
    pub fn place(&self, event: &Event) -> SpoolPlace {
        SpoolPlace {
            key: self.order.key(&self.sink, event),
            due: MonotonicTime::now().after(self.wait),
            group: self.order.group_by.as_ref().map(|by| group(by, |field| field.of(event)).into()),
        }
    }
}
