//! The TLS settings of a connection, and the rustls client configuration made of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

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

/// What is verified of a server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verification {
    /// That an authority signed it, and the name in it.
    ChainAndName,
    /// That an authority signed it.
    Chain,
    /// Only that the server has its key: someone in between could show another certificate.
    Nothing,
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
    /// The client configuration. Reads the named files, which blocks. Certificates are verified with their names.
    pub fn client_config(&self) -> Result<ClientConfig, TlsError> {
        self.client_config_with(Verification::ChainAndName)
    }

    /// The client configuration for a protocol in which the user decides what is verified. Reads the named files, which blocks.
    pub fn client_config_with(&self, verification: Verification) -> Result<ClientConfig, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
        let lenient = |chain| Arc::new(LenientVerifier { chain, provider: Arc::clone(&provider) });
        let builder = match verification {
            Verification::ChainAndName => builder.with_root_certificates(self.authorities()?),
            Verification::Chain => {
                let authorities = Arc::new(self.authorities()?);
                let chain = WebPkiServerVerifier::builder_with_provider(authorities, Arc::clone(&provider)).build();
                let chain = chain.map_err(|error| rustls::Error::General(error.to_string()))?;
                builder.dangerous().with_custom_certificate_verifier(lenient(Some(chain)))
            }
            Verification::Nothing => builder.dangerous().with_custom_certificate_verifier(lenient(None)),
        };
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

/// Verifies less than the name of a certificate, but always that the server has its key.
#[derive(Debug)]
struct LenientVerifier {
    /// None: any certificate is accepted.
    chain: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for LenientVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        match chain.verify_server_cert(certificate, intermediates, name, ocsp_response, now) {
            // The name is verified last.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
