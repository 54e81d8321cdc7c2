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
    /// Nothing but a row of a message that was just received: nobody waits for it but its source, and it can wait for others.
    pub(super) fn is_new_row(&self) -> bool {
        matches!(self, Self::Bury(_, Before::Message(_)) | Self::Change { change: Change::Deliver(..), .. })
    }
}
