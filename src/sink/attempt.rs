//! One attempt to deliver, and how it ends.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use crate::config::Masks;

/// The number of an attempt within its sink; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttemptId(pub u64);

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The destination has it, durably by its own word.
    Delivered,
    /// It may or may not have it: try again.
    Retry {
        /// Not sooner than this, where the destination said so.
        after: Option<Duration>,
        /// What happened, for people.
        cause: String,
        /// What it speaks of.
        blame: Blame,
    },
    /// The destination will never take it.
    Refused {
        /// What happened, for people.
        cause: String,
    },
}

/// What a failure speaks of: only the sink's own failures say that others would fail too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// Connect, TLS, login, timeout, 408, 429, 5xx, broker down.
    Sink,
    /// This destination or event: an unknown topic, an unroutable message, another 4xx.
    Delivery,
    /// The sink's address is gone for good: a person has to see to it.
    Gone,
    /// The relay itself: it stops, or its own queue is full.
    Relay,
}

/// The end of an attempt, told to who made it.
pub type AttemptEnd = (AttemptId, Verdict);

/// The right to one attempt. Ends once: by [`end`](Self::end), or as `Retry` when it is dropped.
#[derive(Debug)]
pub struct Attempt {
    id: AttemptId,
    to: Option<UnboundedSender<AttemptEnd>>,
    masks: Option<Arc<Masks>>,
}

impl Attempt {
    /// An attempt whose end is told to `to`.
    #[must_use]
    pub fn new(id: AttemptId, to: UnboundedSender<AttemptEnd>) -> Self {
        Self { id, to: Some(to), masks: None }
    }

    /// The same, whose cause never has any of these in it: a destination may repeat what it was sent.
    #[must_use]
    pub(super) fn masking(mut self, masks: &Arc<Masks>) -> Self {
        self.masks = Some(Arc::clone(masks));
        self
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> AttemptId {
        self.id
    }

    /// It ended so.
    pub fn end(mut self, verdict: Verdict) {
        self.tell(verdict);
    }

    fn tell(&mut self, mut verdict: Verdict) {
        if let (Some(masks), Verdict::Retry { cause, .. } | Verdict::Refused { cause }) = (&self.masks, &mut verdict) {
            *cause = masks.apply_to_beginning(cause);
        }
        if let Some(to) = self.to.take() {
            // Nobody listens any more only when the relay stops.
            let _ = to.send((self.id, verdict));
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.tell(Verdict::Retry {
            after: None,
            cause: "the attempt was dropped unfinished".to_owned(),
            blame: Blame::Relay,
        });
    }
}
