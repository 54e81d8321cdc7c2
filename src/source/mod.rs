//! Sources: they receive messages, and acknowledge the settled ones.
//!
//! A source gives each message to the [`Intake`] with a [`Receipt`]. Once every delivery of the message is settled, the receipt's
//! [`Settlement`] comes back, and the [`Watermark`] moves. This module knows nothing of rules or sinks.

mod amqp;
mod ledger;
mod receipt;
mod recording;
mod stats;
mod watermark;

pub use amqp::{AmqpSource, peek_queue};
pub use ledger::{Fingerprint, Ledger, Registration};
pub use receipt::{EntryId, Receipt, Settlement, SourceSignals, SpilledAttempt};
pub use recording::RecordingSource;
pub use stats::{SourceState, SourceStats};
pub use watermark::Watermark;

use std::time::Duration;

use crate::config::{SourceConfig, SourceKind};
use crate::event::Message;
use crate::probe::{ProbeOutcome, ProbeResult};

/// A message that is unsettled for this time blocks its source, if it is the oldest unacknowledged one and half of the prefetch is in use,
/// or if it is one of a recording that has as many unsettled ones as allowed. The source then asks for it to be spilled.
const BLOCKING_DELAY: Duration = Duration::from_millis(50);

/// Accepts the messages of sources. It must not block: work that takes longer goes into a channel, whose length is bounded by the prefetch
/// of the sources.
pub trait Intake: Send + Sync + 'static {
    /// Accepts one message, and settles every share of the receipt in the end.
    fn accept(&self, message: Message, receipt: Receipt);
}

/// Tests whether messages could be received, without taking any. `relay` is the relay's name, for the connection.
pub async fn probe(source: &SourceConfig, relay: &str) -> ProbeResult {
    match &source.kind {
        SourceKind::Amqp(amqp) => amqp::probe(amqp, &source.name, relay).await,
        SourceKind::Recording(recording) => {
            let shown = recording.path.display();
            tokio::fs::metadata(&recording.path).await.map_err(|error| format!("{shown} can't be read ({error})"))?;
            Ok(ProbeOutcome::Reachable(format!("{shown} exists")))
        }
    }
}
