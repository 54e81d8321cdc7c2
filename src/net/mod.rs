//! Network helpers that sources and sinks share: an HTTP client, TCP and TLS of a client, forbidden addresses, keytabs, back-off, rate limits.

pub mod address;
pub mod backoff;
pub mod http;
mod jws;
pub(crate) mod keytab;
pub mod rate;
pub(crate) mod tcp;
mod tls;

pub use address::Network;
pub use backoff::Backoff;
pub use jws::SigningKey;
pub use keytab::{Keytab, KeytabError};
pub use rate::RateLimiter;
pub use tls::{Tls, TlsError, Verification};
