//! The response families of REGARDS' services, one row each.
//!
//! A row says which fields of a body become which fields of the [`Event`](super::Event); all others are kept under
//! `extra`. The reader knows no family by name: a new one is a new row of [`FAMILIES`].

use super::Outcome;

/// How the responses of one REGARDS service are read.
#[derive(Debug, PartialEq)]
pub struct Family {
    /// Its name in `expects:`.
    pub name: &'static str,
    /// The type of its events.
    pub kind: &'static str,
    /// The field that becomes `correlationId`; it must be there.
    pub key: &'static str,
    /// The field that becomes `status`; it must be there.
    pub status: &'static str,
    /// The values it can have, and what each means.
    pub statuses: &'static [(&'static str, Outcome)],
    /// The optional fields that have a place of their own in the event.
    pub fields: &'static [(&'static str, Slot)],
}

/// The places an optional field of a body can take in the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Slot {
    /// `productId`: text.
    ProductId,
    /// `session`: text.
    Session,
    /// `expires`: a date.
    Expires,
    /// `message`: text.
    Message,
}

/// All families that can be read. The names are those of the Java classes, see each row.
pub const FAMILIES: &[Family] = &[
    // fr.cnes.regards.modules.ltamanager.amqp.output.SubmissionResponseDtoEvent
    Family {
        name: "lta",
        kind: "fr.cnes.regards.lta.submission.response",
        key: "correlationId",
        status: "responseStatus",
        statuses: &[
            ("GRANTED", Outcome::Accepted),
            ("DENIED", Outcome::Rejected),
            ("SUCCESS", Outcome::Succeeded),
            ("ERROR", Outcome::Failed),
        ],
        fields: &[
            ("productId", Slot::ProductId),
            ("session", Slot::Session),
            ("expires", Slot::Expires),
            ("message", Slot::Message),
        ],
    },
];

impl Family {
    /// The family of that name, as `expects:` has it.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        FAMILIES.iter().find(|family| family.name == name)
    }

    /// The family's own word for that status and what it means, if it has it.
    #[must_use]
    pub fn status(&self, word: &str) -> Option<(&'static str, Outcome)> {
        self.statuses.iter().find(|(known, _)| *known == word).copied()
    }
}
