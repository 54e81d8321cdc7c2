//! The TLS settings of a connection, and the rustls client configuration made of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// The TLS settings of a connection. By default it trusts the system's certificate authorities and shows no client certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// PEM file with the only authorities to trust.
    pub ca: Option<PathBuf>,
    /// PEM file with the client's certificate chain; needs `key`.
    pub cert: Option<PathBuf>,
    /// PEM file with the client's key (PKCS #8, PKCS #1 or SEC 1).
    pub key: Option<PathBuf>,
    /// The server's name for SNI and in its certificate, where it isn't the host of the URL.
    pub server_name: Option<String>,
}

/// Why the TLS settings can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file can't be read, or has no certificate or key in it.
    #[error("{what} {path}: {error}")]
    Pem {
        /// The setting that names the file: `tls.ca`, `tls.cert` or `tls.key`.
        what: &'static str,
        path: String,
        error: String,
    },
    /// No certificate authority of the system was found.
    #[error(
        "the system has no certificate authorities (install the package ca-certificates, or name a file in `tls.ca`){0}"
    )]
    NoSystemAuthorities(String),
    /// rustls accepts the files, but not together.
    #[error("the TLS settings don't fit together: {0}")]
    Incompatible(#[from] rustls::Error),
}

impl Tls {
    /// The client configuration. Reads the named files, which blocks. Certificates are always verified.
    pub fn client_config(&self) -> Result<ClientConfig, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.authorities()?);
        match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => {
                let chain = certificates("tls.cert", cert)?;
                let key = PrivateKeyDer::from_pem_file(key).map_err(|error| pem("tls.key", key, &error))?;
                Ok(builder.with_client_auth_cert(chain, key)?)
            }
            _ => Ok(builder.with_no_client_auth()),
        }
    }

    /// The authorities to trust: those in `ca` alone, else the system's.
    pub fn authorities(&self) -> Result<RootCertStore, TlsError> {
        let mut store = RootCertStore::empty();
        if let Some(ca) = &self.ca {
            for authority in certificates("tls.ca", ca)? {
                store.add(authority).map_err(|error| pem("tls.ca", ca, &error))?;
            }
            return Ok(store);
        }
        let system = rustls_native_certs::load_native_certs();
        store.add_parsable_certificates(system.certs);
        if store.is_empty() {
            let error = system.errors.first().map(|error| format!(": {error}")).unwrap_or_default();
            return Err(TlsError::NoSystemAuthorities(error));
        }
        Ok(store)
    }
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| pem(what, path, &error))?;
    if certificates.is_empty() {
        return Err(pem(what, path, &"no certificate in it"));
    }
    Ok(certificates)
}

fn pem(what: &'static str, path: &Path, error: &dyn std::fmt::Display) -> TlsError {
    TlsError::Pem { what, path: path.display().to_string(), error: error.to_string() }
}
