//! One attempt to deliver an event, and its verdict.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use crate::config::Masks;
use crate::oauth::TokenSource;

/// The number of an attempt within its sink; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttemptId(pub u64);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The destination has confirmed that it stored the event durably.
    Delivered(Confirmation),
    /// The destination may or may not have the event: try again.
    Retry {
        /// The earliest time of the next attempt, if the destination named one (`Retry-After`).
        after: Option<Duration>,
        cause: String,
        blame: Blame,
    },
    /// The destination will never accept this event.
    Refused { cause: String },
    /// The value doesn't fit the schema that the sink's registry has. Nothing was sent.
    Unfit { detail: String },
}

/// Where an event is at its destination, as the destination said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Confirmation {
    Kafka {
        topic: String,
        partition: i32,
        offset: i64,
    },
    Webhook {
        /// Without its secrets.
        url: String,
        /// Of the HTTP response.
        status: u16,
    },
    Amqp {
        exchange: String,
        routing_key: String,
    },
    File {
        path: PathBuf,
        /// Where the line begins, in bytes.
        offset: u64,
    },
    Stdout,
}

/// What is at fault. Only a failure of the sink means that other deliveries would fail, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// Connect, TLS, login, timeout, 408, 429, 5xx, broker down.
    Sink,
    /// This event, or the topic, exchange or URL that it is sent to: an unknown topic, an unroutable message, another 4xx.
    Delivery,
    /// The sink's address no longer exists (410): somebody has to change the configuration or resume the sink.
    Gone,
    /// The relay itself: it is stopping, or its own queue is full.
    Relay,
}

/// The end of an attempt, as it is reported to the dispatcher that began it.
pub type AttemptEnd = (AttemptId, Verdict);

/// One attempt in flight. It ends once: by [`end`](Self::end), or as `Retry` when it is dropped.
#[derive(Debug)]
pub struct Attempt {
    id: AttemptId,
    to: Option<UnboundedSender<AttemptEnd>>,
    masks: Option<Arc<Masks>>,
    tokens: Option<Arc<TokenSource>>,
}

impl Attempt {
    /// An attempt whose verdict is sent to `to`.
    #[must_use]
    pub fn new(id: AttemptId, to: UnboundedSender<AttemptEnd>) -> Self {
        Self { id, to: Some(to), masks: None, tokens: None }
    }

    /// Masks these secrets in the cause of a failure: a destination may repeat what it was sent.
    #[must_use]
    pub(super) fn with_masks(mut self, masks: &Arc<Masks>) -> Self {
        self.masks = Some(Arc::clone(masks));
        self
    }

    /// The same for the access tokens of this source, also for those that are issued while the attempt is in flight.
    #[must_use]
    pub(super) fn with_tokens(mut self, tokens: Option<&Arc<TokenSource>>) -> Self {
        self.tokens = tokens.cloned();
        self
    }

    #[must_use]
    pub fn id(&self) -> AttemptId {
        self.id
    }

    pub fn end(mut self, verdict: Verdict) {
        self.report(verdict);
    }

    fn report(&mut self, mut verdict: Verdict) {
        if let Some(masks) = &self.masks {
            match &mut verdict {
                Verdict::Retry { cause: text, .. }
                | Verdict::Refused { cause: text }
                | Verdict::Unfit { detail: text }
                | Verdict::Delivered(Confirmation::Webhook { url: text, .. }) => {
                    *text = masks.apply_to_beginning(text);
                    if let Some(tokens) = &self.tokens {
                        *text = tokens.mask(text);
                    }
                }
                Verdict::Delivered(_) => {}
            }
        }
        if let Some(to) = self.to.take() {
            // The receiver is gone only when the relay stops.
            let _ = to.send((self.id, verdict));
        }
    }
}

impl Verdict {
    #[must_use]
    pub fn is_delivered(&self) -> bool {
        matches!(self, Self::Delivered(_))
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.report(Verdict::Retry {
            after: None,
            cause: "the attempt was abandoned before it ended".to_owned(),
            blame: Blame::Relay,
        });
    }
}
