//! The result of `check --connect` for one source or sink.

/// The error says why the relay could not receive or deliver now, and what to do.
pub type ProbeResult = Result<ProbeOutcome, String>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// It can be used, as far as this can be checked without taking or sending a message.
    Reachable(String),
    /// Something is unusual, perhaps on purpose.
    Warning(String),
}
