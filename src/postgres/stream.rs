//! The stream of a connection: TCP, and TLS as `sslmode` says.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{Ready, ready};
use rustix::net::sockopt;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_postgres::tls::{ChannelBinding, TlsConnect};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::channel_binding::tls_server_end_point;
use crate::config::{PostgresConfig, SslMode};
use crate::net::{TlsError, Verification, tcp};

/// The idle time before TCP keep-alive probes, and the interval between them.
const KEEPALIVE: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 3;
/// After this time without an acknowledgement of sent data, in milliseconds, the connection is lost.
const USER_TIMEOUT: u32 = 20_000;
/// The request for TLS: its length and its code (PostgreSQL manual, 55.7 "Message Formats", `SSLRequest`).
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// The bytes between the relay and a server.
pub(super) enum Stream {
    Plain(TcpStream),
    Secure(Box<TlsStream<TcpStream>>),
}

/// Why there is no stream.
#[derive(Debug)]
pub(super) enum StreamError {
    Tcp(io::Error),
    /// The server answers the request for TLS by "no".
    NoTls,
    /// The server answers the request for TLS by an error, which may come from anyone in between.
    Refused,
    /// The answer is none of PostgreSQL.
    Foreign,
    /// The connection ends without an answer to the request for TLS.
    NoAnswer(io::Error),
    Handshake(io::Error),
}

/// The TLS settings of connections.
pub(super) struct StreamTls {
    client: Arc<ClientConfig>,
    /// Whether a server without TLS is refused.
    is_required: bool,
    /// Instead of the host, in the certificate and as SNI.
    server_name: Option<String>,
}

impl StreamTls {
    /// None for connections without TLS. Reads the files of the TLS settings, which blocks.
    pub fn of(config: &PostgresConfig) -> Result<Option<Self>, TlsError> {
        let with_authority = config.tls.ca.is_some();
        let verification = match config.ssl_mode {
            SslMode::Disable => return Ok(None),
            // "If a root CA file exists, the behavior of sslmode=require will be the same as that of verify-ca" (manual, 34.19.1).
            SslMode::Prefer | SslMode::Require if with_authority => Verification::Chain,
            SslMode::Prefer | SslMode::Require => Verification::Nothing,
            SslMode::VerifyCa => Verification::Chain,
            SslMode::VerifyFull => Verification::ChainAndName,
        };
        let client = config.tls.client_config_with(verification)?;
        let is_required = config.ssl_mode != SslMode::Prefer;
        Ok(Some(Self { client: Arc::new(client), is_required, server_name: config.tls.server_name.clone() }))
    }
}

impl Stream {
    /// Connects. The caller sets the deadline.
    pub async fn open(host: &str, port: u16, tls: Option<&StreamTls>) -> Result<Self, StreamError> {
        let mut socket = tcp::connect(host, port).await.map_err(StreamError::Tcp)?;
        keep_alive(&socket).map_err(StreamError::Tcp)?;
        let Some(tls) = tls else { return Ok(Self::Plain(socket)) };
        socket.write_all(&SSL_REQUEST).await.map_err(StreamError::NoAnswer)?;
        // Only this byte: what follows it is TLS (CVE-2021-23222).
        let mut answer = [0];
        socket.read_exact(&mut answer).await.map_err(StreamError::NoAnswer)?;
        match answer {
            [b'S'] => {}
            [b'N'] if tls.is_required => return Err(StreamError::NoTls),
            [b'N'] => return Ok(Self::Plain(socket)),
            [b'E'] => return Err(StreamError::Refused),
            _ => return Err(StreamError::Foreign),
        }
        let name = ServerName::try_from(tls.server_name.as_deref().unwrap_or(host).to_owned());
        let name = name.map_err(|error| StreamError::Handshake(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let connector = TlsConnector::from(Arc::clone(&tls.client));
        let stream = connector.connect(name, socket).await.map_err(StreamError::Handshake)?;
        Ok(Self::Secure(Box::new(stream)))
    }

    pub fn is_secure(&self) -> bool {
        matches!(self, Self::Secure(_))
    }
}

/// Lets the kernel detect a server that is gone.
fn keep_alive(socket: &TcpStream) -> io::Result<()> {
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, KEEPALIVE)?;
    sockopt::set_tcp_keepintvl(socket, KEEPALIVE)?;
    sockopt::set_tcp_keepcnt(socket, KEEPALIVE_PROBES)?;
    sockopt::set_tcp_user_timeout(socket, USER_TIMEOUT)?;
    Ok(())
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Secure(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Secure(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Secure(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Secure(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl tokio_postgres::tls::TlsStream for Stream {
    fn channel_binding(&self) -> ChannelBinding {
        let Self::Secure(stream) = self else { return ChannelBinding::none() };
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let hash = certificate.and_then(|certificate| tls_server_end_point(certificate));
        hash.map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

/// The client asks for TLS at a place where the stream has it already.
pub(super) struct Opened;

impl TlsConnect<Stream> for Opened {
    type Stream = Stream;
    type Error = io::Error;
    type Future = Ready<io::Result<Stream>>;

    fn connect(self, stream: Stream) -> Self::Future {
        ready(Ok(stream))
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::super::{PostgresError, ServerAddress};
    use super::*;
    use crate::net::Tls;

    /// Shows that certificate to one client who asks for TLS. Returns its port.
    async fn server_with(certificate: CertificateDer<'static>, key: &KeyPair) -> u16 {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let config = config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = [0; SSL_REQUEST.len()];
            socket.read_exact(&mut request).await.unwrap();
            assert_eq!(request, SSL_REQUEST);
            socket.write_all(b"S").await.unwrap();
            let _ = TlsAcceptor::from(Arc::new(config)).accept(socket).await;
        });
        port
    }

    #[tokio::test]
    async fn certificates_that_cannot_be_used_are_explained() {
        let mut authority = CertificateParams::new(["localhost".to_owned()]).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, authority.pem()).unwrap();
        let key = KeyPair::generate().unwrap();
        let signed = |change: fn(&mut CertificateParams)| {
            let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
            change(&mut params);
            params.signed_by(&key, &authority).unwrap().der().clone()
        };
        let valid = signed(|_| {});
        let expired = signed(|params| params.not_after = rcgen::date_time_ymd(2000, 1, 1));
        let future = signed(|params| params.not_before = rcgen::date_time_ymd(4000, 1, 1));
        let tls = |verification| {
            let tls = Tls { ca: Some(ca.clone()), ..Tls::default() };
            let client = Arc::new(tls.client_config_with(verification).unwrap());
            StreamTls { client, is_required: true, server_name: None }
        };
        let (chain_and_name, chain) = (tls(Verification::ChainAndName), tls(Verification::Chain));
        for (certificate, key, tls, host, expected) in [
            (&valid, &key, &chain_and_name, "localhost", None),
            (&valid, &key, &chain_and_name, "127.0.0.1", Some("is for another name")),
            (&valid, &key, &chain, "127.0.0.1", None),
            (&expired, &key, &chain, "127.0.0.1", Some("has expired")),
            (&future, &key, &chain_and_name, "localhost", Some("is not valid yet")),
            (authority.der(), authority.key(), &chain_and_name, "localhost", Some("`CA:TRUE`")),
            (authority.der(), authority.key(), &chain, "localhost", Some("`CA:TRUE`")),
            (authority.der(), authority.key(), &tls(Verification::Nothing), "127.0.0.1", None),
        ] {
            let port = server_with(certificate.clone(), key).await;
            let [database, user] = ["relay", "relay"].map(str::to_owned);
            let address = ServerAddress { host: host.to_owned(), port, database, user };
            let opened = Stream::open(host, port, Some(tls)).await;
            let error = opened.err().map(|error| PostgresError::of_stream(&error, &address).to_string());
            match expected {
                Some(expected) => assert!(error.as_ref().unwrap().contains(expected), "{expected}: {error:?}"),
                None => assert_eq!(error, None),
            }
        }
    }
}
