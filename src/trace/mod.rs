//! What became of a request: what the journal, the spool and the dead letters know of it.
//!
//! It reads the three beside a running relay or without one, and changes nothing.

mod assemble;
mod model;
mod unrecorded;
mod waiting;

pub use model::{
    DeliveryState, Request, Trace, TracedAlert, TracedAlertState, TracedDelivery, TracedDestination, TracedEvent,
};

use crate::config::{Config, JournalStoreConfig};
use crate::journal::{JournalError, JournalReader};
use crate::spool::{SpoolError, SpoolReader};

/// A `productId` can have many requests: only so many of them are traced, the newest.
pub const MAX_REQUESTS: usize = 1_000;

#[derive(Debug, Clone)]
pub struct Query {
    /// A `correlationId`, a `productId`, or the id of an event.
    pub id: String,
    /// Only requests of this tenant.
    pub tenant: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error(
        "there is no journal: the configuration says `journal: none`; remove that line and restart the relay, and it records what becomes of \
         each event from then on"
    )]
    Disabled,
    #[error("there is no journal {0}: no relay has run with it, or its configuration says `journal: none`")]
    Missing(String),
}

/// Traces all requests that match. An id that is unknown has none.
pub fn trace(
    config: Option<&Config>,
    journal: &JournalStoreConfig,
    spool: &SpoolReader,
    query: &Query,
) -> Result<Trace, TraceError> {
    if config.is_some_and(|config| config.journal.is_none()) {
        return Err(TraceError::Disabled);
    }
    let reader = JournalReader::open(journal)?.ok_or_else(|| TraceError::Missing(journal.to_string()))?;
    assemble::trace(config, &reader, spool, query)
}
