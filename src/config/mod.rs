//! `routes.yaml` becomes a [`Config`], or a list of mistakes, each at its line with what to write instead.
//!
//! What is read from the file is raw and spanned; here it becomes checked, once: whoever holds a `Config` needs no further
//! validation.

pub mod address;
mod model;
mod secret;
mod tls;

pub use model::*;
pub use secret::{Part, Secret, SecretError};
pub use tls::TlsError;
