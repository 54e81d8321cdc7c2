//! The response families of REGARDS' services, one row each.

use super::Outcome;

/// How the responses of one REGARDS service are read. A new family is a new row of [`FAMILIES`].
#[derive(Debug)]
pub struct Family {
    /// Its name in `expects:`.
    pub name: &'static str,
    /// The type of its events.
    pub kind: &'static str,
    /// The field that becomes `correlationId`.
    pub key: &'static str,
    /// The field that becomes `status`.
    pub status: &'static str,
    /// The values it can have, and what each means.
    pub statuses: &'static [(&'static str, Outcome)],
}

/// All families that can be read.
pub const FAMILIES: &[Family] = &[Family {
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
}];
