//! Where events go: Kafka, webhooks, AMQP exchanges, files, standard output.
//!
//! A sink does two things. [`Sink::render`] is pure: it says what exactly would go out for an event. [`Sink::attempt`] sends
//! that, once, and lets the [`Attempt`] end in exactly one [`Verdict`]: when the destination has it, and not before. Retries,
//! order and back-off are not its business; it knows nothing of acknowledgements, lanes or the spool.

mod attempt;

pub use attempt::{Attempt, AttemptEnd, AttemptId, Blame, Verdict};

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use crate::config::SinkConfig;
use crate::event::{Event, HeaderValue, Message, Reason};

/// A sink that is open. Opening never waits for the destination: what is down is found out by attempts.
pub enum Sink {}

/// Exactly what one attempt sends.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    /// The event's id: the same for every copy and every attempt.
    pub id: Uuid,
    /// Where to.
    pub destination: Destination,
    /// In the order they are sent. Webhook signatures, which depend on the time, are not among them.
    pub headers: Vec<(String, HeaderValue)>,
    /// The body.
    pub body: Bytes,
}

/// Where one delivery goes: all that templates made of it, checked.
#[derive(Debug, Clone, PartialEq)]
pub enum Destination {
    /// A record.
    Kafka {
        /// A legal topic name.
        topic: String,
        /// None is a null key.
        key: Option<String>,
        /// Milliseconds since 1970, where the sink takes it from the event.
        timestamp: Option<i64>,
    },
    /// A POST request.
    Webhook {
        /// Its secrets are in it: never printed.
        url: url::Url,
    },
    /// A message to an exchange.
    Amqp {
        /// The exchange.
        exchange: String,
        /// At most 255 bytes.
        routing_key: String,
        /// The properties that the relay sets; headers are beside.
        properties: Box<crate::event::Properties>,
    },
    /// A line in a file.
    File {
        /// Absolute, below the data directory.
        path: PathBuf,
    },
    /// A line on standard output.
    Stdout,
}

/// An event that a sink can't be given: it becomes a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Unrenderable {
    /// `render_failed` or `loop`.
    pub reason: Reason,
    /// What was found and what was expected.
    pub detail: String,
}

/// A sink that can't be opened: its configuration names something that isn't there.
#[derive(Debug, thiserror::Error)]
#[error("sink {sink}: {detail}")]
pub struct OpenError {
    /// Which.
    pub sink: String,
    /// What happened and what to do.
    pub detail: String,
}

impl Sink {
    /// Opens the sink. Files it names (certificates, secrets) have to be there; its destination doesn't.
    pub async fn open(_config: &SinkConfig, _relay: &str) -> Result<Self, OpenError> {
        todo!()
    }

    /// What exactly goes out for that event. Pure: the same event and message always give the same.
    pub fn render(&self, _event: &Event, _message: &Message) -> Result<Outgoing, Unrenderable> {
        todo!()
    }

    /// How many attempts may be under way at once.
    #[must_use]
    pub fn capacity(&self) -> usize {
        todo!()
    }

    /// Sends `outgoing` once. Returns at once; the attempt ends when the destination has answered.
    pub fn attempt(&self, _outgoing: Outgoing, _attempt: Attempt) {
        todo!()
    }

    /// Lets what is under way end, at most for `grace`, and closes. What has not ended by then is dropped unfinished.
    pub async fn close(self, _grace: Duration) {
        todo!()
    }
}
