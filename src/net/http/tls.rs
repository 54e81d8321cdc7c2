//! The TLS configurations of a client.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};

use super::dial::ClientTls;
use crate::net::Tls;

impl ClientTls {
    /// The configuration for `https://`. Reads the files that `tls:` names, which blocks. The error says what to do.
    pub fn read(tls: &Tls) -> Result<Self, String> {
        let proxy = tls.client_config().map_err(|error| error.to_string())?;
        let mut server = proxy.clone();
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let server_name = match &tls.server_name {
            Some(name) => Some(
                ServerName::try_from(name.clone())
                    .map_err(|_| format!("`server_name: {name}` is neither a host name nor an IP address"))?,
            ),
            None => None,
        };
        Ok(Self { server: Arc::new(server), server_name, proxy: Arc::new(proxy) })
    }

    /// The configuration for `http://`. It trusts no authority, and so reads no files of the system.
    pub fn none() -> Result<Self, String> {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let config = Arc::new(config);
        Ok(Self { server: Arc::clone(&config), server_name: None, proxy: config })
    }
}
