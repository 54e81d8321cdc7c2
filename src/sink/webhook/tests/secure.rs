//! Attempts over TLS, against servers and proxies with certificates of a private authority.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::{failure, one, webhook};
use crate::config::{Secret, WebhookConfig};
use crate::net::Tls;
use crate::sink::Verdict;

/// A private authority, and files with the certificates that it signed.
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

    fn sign_for(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    fn file(&self, name: &str, pem: &str) -> std::path::PathBuf {
        let path = self.files.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path
    }

    fn trusted(&self) -> Tls {
        Tls { ca: Some(self.file("ca.pem", &self.issuer.as_ref().pem())), ..Tls::default() }
    }

    /// Trusts this authority, and has a client certificate that it signed.
    fn trusted_with_client(&self) -> Tls {
        let (certificate, key) = self.sign_for("relay");
        let cert = Some(self.file("client.pem", &certificate.pem()));
        let key = Some(self.file("client.key", &key.serialize_pem()));
        Tls { cert, key, ..self.trusted() }
    }

    /// A server with a certificate for `name` that always answers 204. `ask`: clients need a certificate, too.
    fn server(&self, name: &str, ask: bool) -> SocketAddr {
        self.watched_server(name, ask).0
    }

    fn server_config(&self, name: &str, ask: bool) -> Arc<ServerConfig> {
        let (certificate, key) = self.sign_for(name);
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.issuer.as_ref().pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let builder =
            ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
        let builder = if ask {
            let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(clients)
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Arc::new(builder.with_single_cert(vec![certificate.der().clone()], key).unwrap())
    }

    /// A [`server`](Self::server), and the names (SNI) that clients ask it for.
    fn watched_server(&self, name: &str, ask: bool) -> (SocketAddr, mpsc::UnboundedReceiver<Option<String>>) {
        let config = self.server_config(name, ask);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (to, asked_for) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = StreamOwned::new(connection, stream.unwrap());
                // An error here is also one at the client, whose result the test checks.
                let _ = stream.read(&mut [0; 4096]);
                let _ = to.send(stream.conn.server_name().map(str::to_owned));
                let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n");
            }
        });
        (address, asked_for)
    }

    /// A proxy with a certificate for `name` that tunnels every request to `to`, with the names and requests that it gets.
    fn proxy(&self, name: &str, to: SocketAddr) -> (SocketAddr, mpsc::UnboundedReceiver<(Option<String>, String)>) {
        let acceptor = tokio_rustls::TlsAcceptor::from(self.server_config(name, false));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (got, asked_for) = mpsc::unbounded_channel();
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
                }
                let name = stream.get_ref().1.server_name().map(str::to_owned);
                let _ = got.send((name, String::from_utf8(request).unwrap()));
                let mut onward = tokio::net::TcpStream::connect(to).await.unwrap();
                stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut onward).await;
            }
        });
        (address, asked_for)
    }
}

async fn post(tls: &Tls, to: SocketAddr) -> Verdict {
    one(WebhookConfig { tls: tls.clone(), ..webhook(&format!("https://localhost:{}/", to.port())) }).await
}

fn named(authority: &Authority, name: &str) -> Tls {
    Tls { server_name: Some(name.to_owned()), ..authority.trusted() }
}

#[tokio::test]
async fn a_private_authority_is_trusted_and_no_other() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    assert!(post(&ours.trusted(), ours.server("localhost", false)).await.is_delivered());
    let (_, problem) = failure(post(&ours.trusted(), theirs.server("localhost", false)).await);
    assert!(problem.contains("UnknownIssuer") && problem.contains("set `tls.ca` to that authority"), "{problem}");
}

#[tokio::test]
async fn the_certificate_s_name_has_to_be_the_expected_one() {
    let ours = Authority::new("ours");
    let server = ours.server("partner.example", false);
    let (_, problem) = failure(post(&ours.trusted(), server).await);
    assert!(problem.contains("certificate not valid for name"), "{problem}");
    assert!(post(&named(&ours, "partner.example"), server).await.is_delivered());
    failure(post(&named(&ours, "other.example"), server).await);
    // The expected name does not replace the authority.
    let stranger = Authority::new("stranger").server("partner.example", false);
    failure(post(&named(&ours, "partner.example"), stranger).await);
}

#[tokio::test]
async fn the_expected_name_is_sent_as_sni() {
    let ours = Authority::new("ours");
    let (server, mut asked_for) = ours.watched_server("partner.example", false);
    assert!(post(&named(&ours, "partner.example"), server).await.is_delivered());
    assert_eq!(asked_for.recv().await.unwrap().as_deref(), Some("partner.example"));
    let (server, mut asked_for) = ours.watched_server("localhost", false);
    assert!(post(&ours.trusted(), server).await.is_delivered());
    assert_eq!(asked_for.recv().await.unwrap().as_deref(), Some("localhost"));
}

#[tokio::test]
async fn a_client_certificate_is_sent_if_the_server_asks_for_one() {
    let ours = Authority::new("ours");
    let server = ours.server("localhost", true);
    failure(post(&ours.trusted(), server).await);
    assert!(post(&ours.trusted_with_client(), server).await.is_delivered());
}

#[tokio::test]
async fn a_proxy_over_tls_is_verified_by_its_own_name() {
    let ours = Authority::new("ours");
    let (receiver, mut receiver_asked_for) = ours.watched_server("partner.example", false);
    let (proxy, mut proxy_asked_for) = ours.proxy("localhost", receiver);
    let proxy = Some(Secret::text(format!("https://me:pass@localhost:{}", proxy.port())));
    let webhook = WebhookConfig { proxy, tls: named(&ours, "partner.example"), ..webhook("https://inside.invalid/") };
    assert!(one(webhook).await.is_delivered());
    let (name, request) = proxy_asked_for.recv().await.unwrap();
    assert_eq!(name.as_deref(), Some("localhost"));
    assert!(request.starts_with("CONNECT inside.invalid:443 HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("Proxy-Authorization: Basic bWU6cGFzcw==\r\n"), "{request}");
    assert_eq!(receiver_asked_for.recv().await.unwrap().as_deref(), Some("partner.example"));
}
