//! Messages in: what a source takes, recognizes and refuses, and what it does when its broker fails.

mod capture;
mod failures;
mod families;
mod invalid_messages;
pub mod poisoned;
mod queue_kinds;
mod recording;
mod redelivery;
mod standing_by;
mod tenants;
