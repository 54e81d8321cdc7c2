//! Routes, compiled: from [`Event`](crate::event::Event) to [`Plan`].
//!
//! This module knows nothing of YAML, brokers or sinks beyond their names. A plan is fixed when the event is received.

mod glob;
mod names;

pub use glob::Glob;
pub use names::{RouteName, SinkIndex, SinkName};

use crate::event::{Event, Message, Outcome};

/// All routes of a configuration, from the top.
#[derive(Debug, Clone)]
pub struct Rules {
    /// In the order of the file.
    pub routes: Vec<Route>,
    /// What becomes of an event that no route matches.
    pub unrouted: Unrouted,
}

/// One route.
#[derive(Debug, Clone)]
pub struct Route {
    /// Its name: in metrics, logs and `explain`.
    pub name: RouteName,
    /// When it matches.
    pub when: Condition,
    /// Where its events go; empty drops them on purpose.
    pub to: Vec<SinkIndex>,
    /// No later route is looked at once this one matched.
    pub is_final: bool,
}

/// All that is given must match; nothing given matches everything.
#[derive(Debug, Clone, Default)]
pub struct Condition {
    /// One of the globs of each field has to match; null matches no glob.
    pub fields: Vec<(Field, Vec<Glob>)>,
    /// None of these blocks may match.
    pub not: Vec<Condition>,
}

/// The fields that a condition can look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names of the normalized event")]
pub enum Field {
    Tenant,
    Status,
    Outcome,
    Type,
    Source,
    Session,
    ProductId,
    CorrelationId,
}

/// What becomes of events that no route matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unrouted {
    /// Counted and forgotten.
    Drop,
    /// A dead letter, reason `unrouted`.
    DeadLetter,
    /// These sinks get them.
    Sinks(Vec<SinkIndex>),
}

/// Where one event goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Every route that matched, by its place in [`Rules::routes`].
    pub matched: Vec<usize>,
    /// Each sink once, by the first route that names it; `None`: `unrouted:` names it.
    pub deliveries: Vec<(SinkIndex, Option<usize>)>,
    /// No route matched.
    pub unrouted: bool,
}

impl Rules {
    /// Where that event goes.
    #[must_use]
    pub fn plan(&self, _event: &Event, _message: &Message) -> Plan {
        let _ = Outcome::Accepted;
        todo!()
    }
}
