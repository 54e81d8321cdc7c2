//! Where messages come in, and where what is settled is acknowledged.
//!
//! A source gives each message to the [`Intake`] with a [`Receipt`]; once everything the message became is settled, the
//! receipt's [`Settled`] comes back and the [`Watermark`] moves. This module knows nothing of rules or sinks.

mod amqp;
mod ledger;
mod receipt;
mod recording;
mod stats;
mod watermark;

pub use amqp::{AmqpSource, peek};
pub use ledger::{Identity, Ledger, Received};
pub use receipt::{EntryId, InFlight, Pressure, Receipt, Settled};
pub use recording::RecordingSource;
pub use stats::{SourceState, SourceStats};
pub use watermark::Watermark;

use std::time::Duration;

use crate::config::{SourceConfig, SourceKind};
use crate::event::Message;
use crate::probe::{ProbeOutcome, ProbeResult};

/// What is unsettled for so long holds up its source, where little more can be taken: a message that is the oldest unacknowledged
/// one while half of the prefetch is taken, and all of a recording's while as many as may be are unsettled.
const HELD_UP: Duration = Duration::from_millis(50);

/// Who takes messages in. Must not block: what it can't do at once it puts behind a channel, which the sources' prefetch
/// bounds.
pub trait Intake: Send + Sync + 'static {
    /// Takes one message; settles every share of the receipt in the end.
    fn accept(&self, message: Message, receipt: Receipt);
}

/// Whether messages could come in, with nothing taken. `relay` is the relay's own name, for connections.
pub async fn probe(source: &SourceConfig, relay: &str) -> ProbeResult {
    match &source.kind {
        SourceKind::Amqp(amqp) => amqp::probe(amqp, &source.name, relay).await,
        SourceKind::Recording(recording) => {
            let shown = recording.path.display();
            tokio::fs::metadata(&recording.path).await.map_err(|error| format!("{shown}: {error}"))?;
            Ok(ProbeOutcome::Reachable(format!("{shown} is there")))
        }
    }
}
