//! The names that rules go by.

use crate::event::name;

name!(
    /// The name of a sink: its key under `sinks:`.
    SinkName
);
name!(
    /// The name of a route.
    RouteName
);

/// The place of a sink in the configuration's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SinkIndex(pub usize);
