//! The TLS block of a connection becomes a client configuration of rustls.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::Tls;

/// A TLS block that can't be used as it is.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file can't be read, or holds nothing of what was looked for.
    #[error("{what} {path}: {cause}")]
    Pem {
        /// `tls.ca`, `tls.cert` or `tls.key`.
        what: &'static str,
        /// The file.
        path: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The system has no certificate authorities.
    #[error(
        "the system has no certificate authorities (install the package ca-certificates, or name a file in `tls.ca`){0}"
    )]
    NoSystemAuthorities(String),
    /// rustls takes the parts, but not together.
    #[error("the TLS settings don't fit together: {0}")]
    Unfit(#[from] rustls::Error),
}

impl Tls {
    /// Reads the files it names, which blocks. Certificates are always verified.
    pub fn client_config(&self) -> Result<ClientConfig, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.authorities()?);
        match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => {
                let chain = certificates("tls.cert", cert)?;
                let key = PrivateKeyDer::from_pem_file(key).map_err(|cause| pem("tls.key", key, &cause))?;
                Ok(builder.with_client_auth_cert(chain, key)?)
            }
            _ => Ok(builder.with_no_client_auth()),
        }
    }

    /// Whom to trust: those of `ca` alone, else the system's.
    pub fn authorities(&self) -> Result<RootCertStore, TlsError> {
        let mut store = RootCertStore::empty();
        if let Some(ca) = &self.ca {
            for authority in certificates("tls.ca", ca)? {
                store.add(authority).map_err(|cause| pem("tls.ca", ca, &cause))?;
            }
            return Ok(store);
        }
        let system = rustls_native_certs::load_native_certs();
        store.add_parsable_certificates(system.certs);
        if store.is_empty() {
            let cause = system.errors.first().map(|error| format!(": {error}")).unwrap_or_default();
            return Err(TlsError::NoSystemAuthorities(cause));
        }
        Ok(store)
    }
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|cause| pem(what, path, &cause))?;
    if certificates.is_empty() {
        return Err(pem(what, path, &"no certificate in it"));
    }
    Ok(certificates)
}

fn pem(what: &'static str, path: &Path, cause: &dyn std::fmt::Display) -> TlsError {
    TlsError::Pem { what, path: path.display().to_string(), cause: cause.to_string() }
}
