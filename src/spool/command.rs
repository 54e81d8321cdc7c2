//! The commands to the writer.

use std::time::Instant;

use tokio::sync::oneshot;

use super::DeadLetter;
use super::change::{AddDelivery, Change, DeadLetterOrigin};
use super::purge::Purge;

#[derive(Debug)]
pub(super) enum WriterCommand {
    /// Of one message or delivery, or of each event of a digest.
    AddDeadLetters(Vec<DeadLetter>, DeadLetterOrigin),
    AddDelivery {
        add: AddDelivery,
        /// An attempt is in flight: the sink's dispatcher holds the delivery.
        is_attempted: bool,
    },
    Change(Change),
    Purge(Purge),
    Close {
        until: Instant,
        done: oneshot::Sender<()>,
    },
}

impl WriterCommand {
    /// Whether it only adds a row for a message that was just received, or belongs to such a row. Only the source waits for that, so the
    /// command can wait for others to share its transaction.
    pub(super) fn is_new_row(&self) -> bool {
        match self {
            Self::AddDeadLetters(_, DeadLetterOrigin::Message(_)) | Self::AddDelivery { .. } => true,
            Self::Change(change) => change.is_of_new_message(),
            _ => false,
        }
    }
}
