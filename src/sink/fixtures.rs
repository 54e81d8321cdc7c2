//! Fixtures of the unit tests of sinks.

use std::collections::BTreeMap;

use bytes::Bytes;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use uuid::Uuid;

use super::{Attempt, AttemptEnd, AttemptId, Destination, RenderedDelivery};
use crate::event::{Event, Message, Outcome, Properties, SourceName};

/// An event of tenant `cnes-a`.
pub(super) fn event() -> Event {
    Event {
        id: Uuid::from_u128(7),
        kind: "fr.cnes.regards.lta.submission.response",
        source: SourceName::new("regards"),
        tenant: "cnes-a".into(),
        status: "ERROR",
        outcome: Outcome::Failed,
        correlation_id: "c-1".to_owned(),
        product_id: None,
        session: None,
        expires: None,
        message: None,
        time: Some("2023-04-14T08:46:17Z".to_owned()),
        extra: BTreeMap::new(),
        warnings: Vec::new(),
    }
}

/// The message that [`event`] was decoded from, without headers.
pub(super) fn message() -> Message {
    Message {
        source: SourceName::new("regards"),
        body: Bytes::from_static(br#"{"correlationId":"c-1","responseStatus":"ERROR"}"#),
        properties: Properties { timestamp: Some(1_681_461_977), ..Properties::default() },
        redelivered: false,
    }
}

pub(super) fn outgoing(destination: Destination, body: &str) -> RenderedDelivery {
    RenderedDelivery {
        id: Uuid::from_u128(7),
        destination,
        headers: Vec::new(),
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

/// Makes attempts and receives their verdicts.
pub(super) struct Attempts {
    to: tokio::sync::mpsc::UnboundedSender<AttemptEnd>,
    ends: UnboundedReceiver<AttemptEnd>,
    next: u64,
}

impl Attempts {
    pub(super) fn new() -> Self {
        let (to, ends) = unbounded_channel();
        Self { to, ends, next: 0 }
    }

    pub(super) fn start(&mut self) -> Attempt {
        let id = AttemptId(self.next);
        self.next += 1;
        Attempt::new(id, self.to.clone())
    }

    /// The next attempt that ends, within a minute.
    pub(super) async fn ended(&mut self) -> AttemptEnd {
        tokio::time::timeout(std::time::Duration::from_mins(1), self.ends.recv()).await.unwrap().unwrap()
    }

    /// The next attempt that has ended already, if any.
    pub(super) fn ended_already(&mut self) -> Option<AttemptEnd> {
        self.ends.try_recv().ok()
    }
}
