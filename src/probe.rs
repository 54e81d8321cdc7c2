//! The result of `check --connect` for one source or sink.

/// The error says why the relay could not receive or deliver now, and what to do.
pub type ProbeResult = Result<ProbeOutcome, String>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// Nothing is wrong, as far as that can be found out without taking or sending a message.
    Reachable(String),
    /// Something is unusual; the user may have meant it.
    Warning(String),
}
