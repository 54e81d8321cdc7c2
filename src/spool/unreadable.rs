//! Deliveries whose rows can't be decoded. Each becomes a dead letter that keeps the readable columns.

use super::DeadLetter;
use super::delivery::RowId;

#[derive(Debug)]
pub(super) struct UnreadableDelivery {
    pub(super) id: RowId,
    /// The dead letter that is to replace it.
    pub(super) letter: DeadLetter,
    /// As stored. They may not be JSON.
    pub(super) properties: String,
}

impl UnreadableDelivery {
    /// Its size in memory, in bytes.
    pub(super) fn size(&self) -> usize {
        self.letter.message.size() + self.letter.detail.len() + self.properties.len()
    }
}
