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
    /// The Java classes of its responses, as headers name them.
    pub classes: &'static [&'static str],
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

/// All families that can be read. Classes, fields and values are those of REGARDS' public backend source, 2.0.
pub const FAMILIES: &[Family] = &[
    Family {
        name: "lta",
        kind: "fr.cnes.regards.lta.submission.response",
        classes: &["fr.cnes.regards.modules.ltamanager.amqp.output.SubmissionResponseDtoEvent"],
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
    Family {
        name: "order",
        kind: "fr.cnes.regards.order.response",
        classes: &["fr.cnes.regards.modules.order.amqp.output.OrderResponseDtoEvent"],
        key: "correlationId",
        status: "status",
        statuses: &[
            ("GRANTED", Outcome::Accepted),
            ("SUBORDER_DONE", Outcome::Progress),
            ("DONE", Outcome::Succeeded),
            ("DENIED", Outcome::Rejected),
            ("FAILED", Outcome::Failed),
        ],
        fields: &[("message", Slot::Message)],
    },
    Family {
        name: "delivery",
        kind: "fr.cnes.regards.delivery.response",
        classes: &[
            "fr.cnes.regards.modules.delivery.amqp.output.DeliveryResponseDtoEvent",
            // As documents have it.
            "fr.cnes.regards.modules.ltamanager.amqp.output.DeliveryResponseDtoEvent",
        ],
        key: "correlationId",
        status: "status",
        statuses: &[
            ("GRANTED", Outcome::Accepted),
            ("DENIED", Outcome::Rejected),
            ("DONE", Outcome::Succeeded),
            ("ERROR", Outcome::Failed),
        ],
        fields: &[("message", Slot::Message)],
    },
    Family {
        name: "feature",
        kind: "fr.cnes.regards.feature.response",
        classes: &["fr.cnes.regards.modules.feature.dto.event.out.FeatureRequestEvent"],
        key: "requestId",
        status: "state",
        statuses: &[
            ("GRANTED", Outcome::Accepted),
            ("DENIED", Outcome::Rejected),
            ("SUCCESS", Outcome::Succeeded),
            ("ERROR", Outcome::Failed),
        ],
        fields: &[],
    },
    Family {
        name: "ingest",
        kind: "fr.cnes.regards.ingest.response",
        classes: &["fr.cnes.regards.modules.ingest.dto.request.event.IngestRequestEvent"],
        key: "requestId",
        status: "state",
        statuses: &[
            ("GRANTED", Outcome::Accepted),
            ("DENIED", Outcome::Rejected),
            ("SUCCESS", Outcome::Succeeded),
            ("ERROR", Outcome::Failed),
            ("DELETED", Outcome::Succeeded),
        ],
        fields: &[],
    },
    Family {
        name: "worker",
        kind: "fr.cnes.regards.worker.response",
        classes: &["fr.cnes.regards.modules.workermanager.amqp.events.out.ResponseEvent"],
        key: "requestId",
        status: "state",
        statuses: &[
            // It will never be handled.
            ("SKIPPED", Outcome::Rejected),
            ("GRANTED", Outcome::Accepted),
            ("DELAYED", Outcome::Progress),
            ("INVALID_CONTENT", Outcome::Rejected),
            ("ERROR", Outcome::Failed),
            ("SUCCESS", Outcome::Succeeded),
        ],
        fields: &[],
    },
];

/// Which responses a source sends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ExpectedFamily {
    /// Those of one family.
    One(&'static Family),
    /// Those of all: each message names its Java class.
    Auto,
}

impl ExpectedFamily {
    /// As `expects:` has it.
    pub const AUTO: &str = "auto";

    /// All families that can come.
    #[must_use]
    pub fn families(self) -> &'static [Family] {
        match self {
            Self::One(family) => std::slice::from_ref(family),
            Self::Auto => FAMILIES,
        }
    }
}

impl Family {
    /// The family of that name, as `expects:` has it.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        FAMILIES.iter().find(|family| family.name == name)
    }

    /// The family whose responses are of that Java class.
    #[must_use]
    pub fn of_class(class: &str) -> Option<&'static Self> {
        FAMILIES.iter().find(|family| family.classes.contains(&class))
    }

    /// The family's own word for that status and what it means, if it has it.
    #[must_use]
    pub fn status(&self, word: &str) -> Option<(&'static str, Outcome)> {
        self.statuses.iter().find(|(known, _)| *known == word).copied()
    }
}
