//! The harness: brokers, a schema registry, PostgreSQL, independent clients for every destination, and the relay as a process.

pub mod arrived;
pub mod damage;
pub mod files;
pub mod generated;
pub mod kafka;
pub mod kerberos;
pub mod postgres;
pub mod proxy;
pub mod rabbit;
pub mod raw_amqp;
pub mod readers;
pub mod regards;
pub mod registry;
pub mod relay;
pub mod response;
pub mod server;
pub mod services;
pub mod setup;
pub mod token_server;
pub mod wait;
pub mod webhook;

pub use files::{fill_disk, lines_of, whole_lines_of};
pub use kafka::Kafka;
pub use postgres::Postgres;
pub use proxy::Proxy;
pub use rabbit::{Rabbit, VHost};
pub use regards::Regards;
pub use registry::Registry;
pub use relay::{Home, Relay};
pub use response::Response;
pub use services::Services;
pub use setup::{start_with_backlog, with_webhook};
pub use token_server::TokenServer;
pub use wait::until;
pub use webhook::{Answer, Receiver};

use std::sync::atomic::{AtomicU32, Ordering};

/// A name that no other test, and no other run on the same brokers, uses.
pub fn unique(stem: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{stem}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// rustls needs a cryptography provider. The HTTP clients and TLS servers of the tests use the relay's.
pub fn use_ring() {
    // Another test may have installed the provider already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
