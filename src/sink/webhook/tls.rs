//! The TLS of a webhook: as the block says, and with the expected name where that isn't the URL's host.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::config::Tls;

/// A client's TLS. Reads the files that the block names, which blocks. The error says what to do.
pub(super) fn config(tls: &Tls) -> Result<ClientConfig, String> {
    let mut config = tls.client_config().map_err(|error| error.to_string())?;
    if let Some(name) = &tls.server_name {
        let named = Named::new(name, tls.authorities().map_err(|error| error.to_string())?)?;
        config.dangerous().set_certificate_verifier(Arc::new(named));
    }
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// What a client for `http://` is given: it trusts nobody, and so needs nothing from the system.
pub(super) fn none() -> Result<ClientConfig, String> {
    Ok(ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth())
}

/// Verifies the certificate as ever, for another name than that of the URL.
#[derive(Debug)]
struct Named {
    name: ServerName<'static>,
    verifier: Arc<WebPkiServerVerifier>,
}

impl Named {
    fn new(name: &str, roots: RootCertStore) -> Result<Self, String> {
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| format!("the certificate authorities can't be used: {error}"))?;
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| format!("`server_name: {name}` is neither a host name nor an address"))?;
        Ok(Self { name, verifier })
    }
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _of_the_url: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verifier.verify_server_cert(end_entity, intermediates, &self.name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpListener};
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use rustls::server::WebPkiClientVerifier;
    use rustls::{ServerConfig, ServerConnection, StreamOwned};
    use tempfile::TempDir;
    use url::Url;

    use super::super::client::Requests;
    use super::super::resolve::Filtered;
    use super::*;

    /// An authority of our own, and files with what it vouches for.
    struct Authority {
        issuer: CertifiedIssuer<'static, KeyPair>,
        files: TempDir,
    }

    impl Authority {
        fn new(name: &str) -> Self {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
            Self { issuer, files: TempDir::new().unwrap() }
        }

        fn vouch_for(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            (params.signed_by(&key, &self.issuer).unwrap(), key)
        }

        fn file(&self, name: &str, pem: &str) -> std::path::PathBuf {
            let path = self.files.path().join(name);
            std::fs::write(&path, pem).unwrap();
            path
        }

        /// Trusts this authority only.
        fn trusted(&self) -> Tls {
            Tls { ca: Some(self.file("ca.pem", &self.issuer.as_ref().pem())), ..Tls::default() }
        }

        /// The same, with a client certificate.
        fn trusted_with_client(&self) -> Tls {
            let (certificate, key) = self.vouch_for("relay");
            let cert = Some(self.file("client.pem", &certificate.pem()));
            let key = Some(self.file("client.key", &key.serialize_pem()));
            Tls { cert, key, ..self.trusted() }
        }

        /// A server of that name that answers 204 for ever. `ask` is whether clients need a certificate, too.
        fn server(&self, name: &str, ask: bool) -> SocketAddr {
            let (certificate, key) = self.vouch_for(name);
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(self.issuer.as_ref().pem().as_bytes()).unwrap()).unwrap();
            let provider = Arc::new(ring::default_provider());
            let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
                .with_safe_default_protocol_versions()
                .unwrap();
            let builder = if ask {
                let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
                builder.with_client_cert_verifier(clients)
            } else {
                builder.with_no_client_auth()
            };
            let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
            let config = Arc::new(builder.with_single_cert(vec![certificate.der().clone()], key).unwrap());
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                    let mut stream = StreamOwned::new(connection, stream.unwrap());
                    // What fails here fails at the client, which is looked at.
                    let _ = stream.read(&mut [0; 4096]);
                    let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n");
                }
            });
            address
        }
    }

    async fn post(tls: &Tls, to: SocketAddr) -> Result<u16, String> {
        let requests = Requests::new(config(tls)?, Filtered::system(), Duration::from_mins(1), 1);
        let url = Url::parse(&format!("https://localhost:{}/", to.port())).unwrap();
        let client = requests.client(None)?;
        let received = requests.post(&client, url, http::HeaderMap::new(), bytes::Bytes::new()).await?;
        Ok(received.status.as_u16())
    }

    #[tokio::test]
    async fn a_private_authority_is_trusted_and_no_other() {
        let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
        assert_eq!(post(&ours.trusted(), ours.server("localhost", false)).await, Ok(204));
        let problem = post(&ours.trusted(), theirs.server("localhost", false)).await.unwrap_err();
        assert!(problem.contains("UnknownIssuer") && problem.contains("name that in `tls.ca`"), "{problem}");
    }

    #[tokio::test]
    async fn the_certificate_s_name_has_to_be_the_expected_one() {
        let ours = Authority::new("ours");
        let server = ours.server("partner.example", false);
        let problem = post(&ours.trusted(), server).await.unwrap_err();
        assert!(problem.contains("certificate not valid for name"), "{problem}");
        let named = |name: &str| Tls { server_name: Some(name.to_owned()), ..ours.trusted() };
        assert_eq!(post(&named("partner.example"), server).await, Ok(204));
        assert!(post(&named("other.example"), server).await.is_err());
        // The expected name is no way around the authority.
        let stranger = Authority::new("stranger").server("partner.example", false);
        assert!(post(&named("partner.example"), stranger).await.is_err());
    }

    #[tokio::test]
    async fn a_client_certificate_is_shown_where_one_is_asked_for() {
        let ours = Authority::new("ours");
        let server = ours.server("localhost", true);
        assert!(post(&ours.trusted(), server).await.is_err());
        assert_eq!(post(&ours.trusted_with_client(), server).await, Ok(204));
    }
}
