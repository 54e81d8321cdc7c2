//! The result of `check --connect` for one source or sink, or for the spool.

/// The error says why the relay could not receive or deliver now, and what to do.
pub type ProbeResult = Result<ProbeOutcome, String>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// It can be used, as far as this can be checked without taking or sending a message.
    Reachable(String),
    /// Something is unusual, perhaps on purpose.
    Warning(String),
}

impl ProbeOutcome {
    /// With something else that was found out.
    #[must_use]
    pub fn and(self, more: &str) -> Self {
        match self {
            Self::Reachable(found) => Self::Reachable(format!("{found}; {more}")),
            Self::Warning(found) => Self::Warning(format!("{found}; {more}")),
        }
    }

    #[must_use]
    pub fn into_text(self) -> String {
        match self {
            Self::Reachable(text) | Self::Warning(text) => text,
        }
    }
}
