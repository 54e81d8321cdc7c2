//! `oauth2:` of any login.

use std::path::PathBuf;

use crate::config::text::secret::Secret;
use crate::net::Tls;

/// How to get an access token by client credentials (RFC 6749, 4.4). Secrets and files are read again for each request.
#[derive(Debug, Clone, PartialEq)]
pub struct OAuth2Config {
    /// `https://` or `http://`, without user and password.
    pub token_url: Secret,
    pub client_id: Secret,
    pub client: ClientAuthentication,
    pub scope: Option<String>,
    pub audience: Option<String>,
    pub tls: Tls,
}

/// How the relay proves to the token server who it is.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientAuthentication {
    /// By HTTP Basic (RFC 6749, 2.3.1).
    Secret(Secret),
    /// By a signed assertion (RFC 7523, 2.2).
    PrivateKey {
        path: PathBuf,
        /// The `kid` in the assertion's header.
        key_id: Option<String>,
    },
}

impl OAuth2Config {
    /// The secrets that its requests are made of.
    pub(in crate::config) fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let secret = match &self.client {
            ClientAuthentication::Secret(secret) => Some(secret),
            ClientAuthentication::PrivateKey { .. } => None,
        };
        [&self.token_url, &self.client_id].into_iter().chain(secret)
    }

    /// The files with its key and certificates.
    pub(in crate::config) fn key_files(&self) -> impl Iterator<Item = &PathBuf> {
        let key = match &self.client {
            ClientAuthentication::Secret(_) => None,
            ClientAuthentication::PrivateKey { path, .. } => Some(path),
        };
        key.into_iter().chain([&self.tls.ca, &self.tls.cert, &self.tls.key].into_iter().flatten())
    }
}
