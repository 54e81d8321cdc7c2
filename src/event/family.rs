//! The response families of REGARDS' services, one row each.
//!
//! A row says which fields of a body become which fields of the [`Event`](super::Event); all others go to `extra`. The
//! decoder knows no family by name: a new family is a new row of [`FAMILIES`].

use super::Outcome;

/// How the responses of one REGARDS service are decoded.
#[derive(Debug, PartialEq)]
pub struct Family {
    pub name: &'static str,
    /// The `type` of the events.
    pub kind: &'static str,
    /// The Java classes of the responses, as headers name them.
    pub classes: &'static [&'static str],
    /// The required field that becomes `correlationId`.
    pub key: &'static str,
    /// The required field that becomes `status`.
    pub status: &'static str,
    /// The possible values of `status`.
    pub statuses: &'static [(&'static str, Outcome)],
    /// The optional fields that have their own field in the event.
    pub fields: &'static [(&'static str, OptionalField)],
}

/// The optional fields of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OptionalField {
    ProductId,
    Session,
    /// A date; the others are text.
    Expires,
    Message,
}

/// The exchange of a response has the name of its class behind this.
pub const REGARDS_EXCHANGES: &str = "regards.broadcast.";

/// The known families. Classes, fields and values are from REGARDS' public backend source, version 2.0.
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
            ("productId", OptionalField::ProductId),
            ("session", OptionalField::Session),
            ("expires", OptionalField::Expires),
            ("message", OptionalField::Message),
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
        fields: &[("message", OptionalField::Message)],
    },
    Family {
        name: "delivery",
        kind: "fr.cnes.regards.delivery.response",
        classes: &[
            "fr.cnes.regards.modules.delivery.amqp.output.DeliveryResponseDtoEvent",
            // The name in REGARDS' interface documents.
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
        fields: &[("message", OptionalField::Message)],
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
            // REGARDS will never handle the request.
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
    One(&'static Family),
    /// Any family: the headers of each message name its Java class.
    Auto,
}

impl ExpectedFamily {
    pub const AUTO: &str = "auto";

    #[must_use]
    pub fn families(self) -> &'static [Family] {
        match self {
            Self::One(family) => std::slice::from_ref(family),
            Self::Auto => FAMILIES,
        }
    }
}

impl Family {
    /// The family of that name in `expects:`.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        FAMILIES.iter().find(|family| family.name == name)
    }

    #[must_use]
    pub fn of_class(class: &str) -> Option<&'static Self> {
        FAMILIES.iter().find(|family| family.classes.contains(&class))
    }

    /// The status as static text, and its outcome, if the family has this status.
    #[must_use]
    pub fn status(&self, word: &str) -> Option<(&'static str, Outcome)> {
        self.statuses.iter().find(|(known, _)| *known == word).copied()
    }
}
