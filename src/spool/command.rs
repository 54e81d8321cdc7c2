//! What the writer is asked.

use std::time::Instant;

use tokio::sync::oneshot;

use super::DeadLetter;
use super::change::{Before, Change};
use super::delivery::RowId;
use super::purge::Purge;

/// One thing to do.
#[derive(Debug)]
pub(super) enum Command {
    /// A dead letter, in place of what was kept before.
    Bury(Box<DeadLetter>, Before),
    /// Any other change; a delivery that is still attempted is not to be given out.
    Change {
        change: Change,
        claim: Option<RowId>,
    },
    Purge(Purge),
    Close {
        until: Instant,
        done: oneshot::Sender<()>,
    },
}

impl Command {
    /// Whether it is nothing but a row of a message that was just received: it can wait for others to come.
    pub(super) fn is_new_row(&self) -> bool {
        match self {
            Self::Bury(_, before) => matches!(before, Before::Message(_)),
            Self::Change { change, .. } => change.is_new_row(),
            Self::Purge(_) | Self::Close { .. } => false,
        }
    }
}
