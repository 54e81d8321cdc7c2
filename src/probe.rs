//! What trying a source's queue or a sink's destination comes to, when nothing is taken from it and nothing sent to it.

/// What is there; or why nothing could be taken or delivered now, with what to do.
pub type Probed = Result<Found, String>;

/// What is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// All that can be told without sending.
    Fine(String),
    /// Something that may be meant, and may not.
    Doubtful(String),
}
