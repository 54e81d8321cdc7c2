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
    /// `letter` has what can be read of it; its detail is set here.
    pub(super) fn new(id: RowId, error: &str, letter: DeadLetter, properties: String) -> Self {
        let detail = format!(
            "delivery {} of the spool can't be read ({error}); its body is kept; its properties are stored as: {properties}",
            id.0
        );
        Self { id, letter: DeadLetter { detail, ..letter }, properties }
    }

    /// Its size in memory, in bytes.
    pub(super) fn size(&self) -> usize {
        self.letter.message.size() + self.letter.detail.len() + self.properties.len()
    }
}
