//! A digest: several events in one delivery, and what stands for them where a delivery has one event.

use bytes::Bytes;
use uuid::Uuid;

use super::identity::{NAMESPACE, version_5};
use super::{Event, EventView, HOPS_HEADER, HeaderValue, Message, Properties};

/// The type of a digest whose events may have several types.
pub const DIGEST: &str = "fr.cnes.regards.relay.digest";

/// The id of the digest of these events, in their order. The recipe is published and never changes: the version 5 UUID in
/// [`NAMESPACE`] over the concatenated ids of the events, 16 bytes each.
pub fn digest_id<'a>(events: impl IntoIterator<Item = &'a Uuid>) -> Uuid {
    version_5(&NAMESPACE, events.into_iter().map(|id| id.as_bytes().as_slice()))
}

/// Stands for the events of a digest: has the digest's id, the fields that all of them have in common because they are grouped by
/// these, and no other.
#[derive(Debug)]
pub struct DigestEnvelope {
    event: Event,
    message: Message,
}

impl DigestEnvelope {
    /// `by` are the fields by which the events are grouped. None: there is no event.
    #[must_use]
    pub fn of(events: &[EventView<'_>], by: &[&str]) -> Option<Self> {
        let first = events.first()?.event;
        let is_common = |name| by.contains(&name);
        let event = Event {
            id: digest_id(events.iter().map(|view| &view.event.id)),
            kind: if is_common("type") { first.kind } else { DIGEST },
            source: first.source.clone(),
            tenant: if is_common("tenant") { first.tenant.clone() } else { "".into() },
            status: if is_common("status") { first.status } else { "" },
            outcome: first.outcome,
            correlation_id: if is_common("correlationId") { first.correlation_id.clone() } else { String::new() },
            product_id: first.product_id.clone().filter(|_| is_common("productId")),
            session: first.session.clone().filter(|_| is_common("session")),
            expires: None,
            message: None,
            time: None,
            extra: std::collections::BTreeMap::new(),
            warnings: Vec::new(),
        };
        let hops = |view: &EventView<'_>| view.message.properties.header(HOPS_HEADER).and_then(HeaderValue::integer);
        let hops = events.iter().filter_map(hops).max();
        let properties = Properties {
            priority: events.iter().filter_map(|view| view.message.properties.priority).max(),
            headers: hops.map(|hops| (HOPS_HEADER.to_owned(), HeaderValue::Integer(hops))).into_iter().collect(),
            ..Properties::default()
        };
        let source = first.source.clone();
        Some(Self { event, message: Message { source, body: Bytes::new(), properties, redelivered: false } })
    }

    #[must_use]
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// What templates and formats see of the digest of these events.
    #[must_use]
    pub fn view<'a>(&'a self, events: &'a [EventView<'a>]) -> EventView<'a> {
        EventView { digest: Some(events), ..EventView::of(&self.event, &self.message) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published test vectors of docs/event.md.
    #[test]
    fn the_recipe_never_changes() {
        let ids = ["3649ef75-4f22-5d63-8bc7-b0bcf16519ba", "87516913-5c66-58c3-904a-86f7fc8fa6b4"];
        let ids = ids.map(|id| Uuid::parse_str(id).unwrap());
        assert_eq!(digest_id(&ids).to_string(), "13e583d5-3dbc-5579-a070-495621beb365");
        assert_eq!(digest_id(&ids[..1]).to_string(), "7b0a2ade-f8d4-5ed3-9e5b-788a090df655");
        assert_ne!(digest_id(&ids), digest_id(ids.iter().rev()), "the order counts");
    }
}
