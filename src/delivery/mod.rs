//! To come.

pub mod stats;

pub use stats::{DeliveryResult, SinkStats, Stats};
