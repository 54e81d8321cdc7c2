//! Events out: the promises of every sink, and the special cases of each kind.

mod amqp_tokens;
mod channel_limits;
mod conformance;
mod header_types;
mod hidden_tokens;
mod independent_readers;
mod kafka_kerberos;
mod kafka_login;
mod kafka_tokens;
mod many_files;
mod oauth;
mod registry;
mod renewals;
mod renewed_secrets;
mod schemas;
pub mod secure_connections;
mod unroutable;
