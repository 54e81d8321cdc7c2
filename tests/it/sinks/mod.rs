//! Events out: what every sink promises, and what is special to a kind.

mod channel_limits;
mod conformance;
mod header_types;
mod many_files;
mod renewed_secrets;
pub mod secure_connections;
mod unroutable;
