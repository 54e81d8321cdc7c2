//! The names of sinks and routes.

use crate::event::name;

name!(
    /// The name of a sink: its key under `sinks:`.
    SinkName
);
name!(
    /// The name of a route: in metrics, logs and `explain`.
    RouteName
);

/// The index of a sink in the configuration's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SinkIndex(pub usize);
