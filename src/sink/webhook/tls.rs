//! The TLS configurations of a webhook.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};

use super::dial::WebhookTls;
use crate::net::Tls;

/// The configuration for `https://`. Reads the files that `tls:` names, which blocks. The error says what to do.
pub(super) fn config(tls: &Tls) -> Result<WebhookTls, String> {
    let proxy = tls.client_config().map_err(|error| error.to_string())?;
    let mut receiver = proxy.clone();
    receiver.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let server_name = match &tls.server_name {
        Some(name) => Some(
            ServerName::try_from(name.clone())
                .map_err(|_| format!("`server_name: {name}` is neither a host name nor an IP address"))?,
        ),
        None => None,
    };
    Ok(WebhookTls { receiver: Arc::new(receiver), server_name, proxy: Arc::new(proxy) })
}

/// The configuration for `http://`. It trusts no authority, and so reads no files of the system.
pub(super) fn none() -> Result<WebhookTls, String> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let config = Arc::new(config);
    Ok(WebhookTls { receiver: Arc::clone(&config), server_name: None, proxy: config })
}
