//! Opens connections to a server, directly or through a proxy, with or without TLS.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::Uri;
use http::uri::Scheme;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tower_service::Service;
use url::Url;

use super::allowed;
use super::resolve::FilteringResolver;
use super::status_line::{StatusReader, StatusStream};

/// The idle time and the interval of TCP keep-alive probes.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// A connection for requests, with or without a proxy and TLS.
pub(super) type Stream = StatusStream<Box<dyn ByteStream>>;
type BoxError = Box<dyn std::error::Error + Send + Sync>;

pub(super) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// The TLS configurations of a client.
#[derive(Debug, Clone)]
pub struct ClientTls {
    /// For the connection to the server.
    pub(super) server: Arc<ClientConfig>,
    /// The name that the server's certificate has to have and that is sent as SNI, if it is not the URL's host.
    pub(super) server_name: Option<ServerName<'static>>,
    /// For the connection to a proxy: the same authorities and client certificate, but the proxy's own name.
    pub(super) proxy: Arc<ClientConfig>,
}

#[derive(Clone)]
pub(super) struct Dialer {
    server: HttpConnector<FilteringResolver>,
    to_proxy: ProxyConnector,
    proxies: Arc<Matcher>,
    tls: ClientTls,
}

impl Dialer {
    /// `timeout` is divided among the addresses of a name, so that an address that doesn't answer leaves time for the next one.
    /// Without `proxy` the proxy of the environment is used, if any.
    pub(super) fn new(tls: ClientTls, resolver: FilteringResolver, timeout: Duration, proxy: Option<&Url>) -> Self {
        let tcp = |resolver| {
            let mut tcp = HttpConnector::new_with_resolver(resolver);
            tcp.enforce_http(false);
            tcp.set_nodelay(true);
            tcp.set_connect_timeout(Some(timeout));
            tcp.set_keepalive(Some(KEEPALIVE));
            tcp.set_keepalive_interval(Some(KEEPALIVE));
            tcp
        };
        // `deny` restricts the servers, not the proxy.
        let to_proxy = ProxyConnector { tcp: tcp(resolver.denying(&[])), tls: Arc::clone(&tls.proxy) };
        let proxies = match proxy {
            Some(proxy) => Matcher::builder().all(proxy.as_str()).build(),
            None => Matcher::from_env(),
        };
        Self { server: tcp(resolver), to_proxy, proxies: Arc::new(proxies), tls }
    }

    /// The proxy's credentials, which are part of each request that it forwards over plain HTTP.
    pub(super) fn proxy_authorization(&self, to: &Uri) -> Option<http::HeaderValue> {
        let is_plain = to.scheme() == Some(&Scheme::HTTP);
        is_plain.then(|| self.proxies.intercept(to)?.basic_auth().cloned()).flatten()
    }

    /// Opens a connection for requests to that URL.
    pub(super) async fn dial(mut self, to: Uri) -> Result<Stream, BoxError> {
        let is_secure = to.scheme() == Some(&Scheme::HTTPS);
        let (stream, is_proxy) = match self.proxies.intercept(&to) {
            Some(proxy) => {
                let address = host_and_port(proxy.uri());
                let failed = |source| ProxyError { proxy: address, source };
                if !matches!(proxy.uri().scheme_str(), Some("http" | "https")) {
                    return Err(failed("the relay supports only proxies with http:// or https://".into()).into());
                }
                let checked = Url::parse(&proxy.uri().to_string())
                    .map_err(BoxError::from)
                    .and_then(|url| allowed(&url, &[]).map_err(BoxError::from));
                if let Err(error) = checked {
                    return Err(failed(error).into());
                }
                let connected = if is_secure {
                    let tunnel = Tunnel::new(proxy.uri().clone(), self.to_proxy);
                    let mut tunnel = match proxy.basic_auth() {
                        Some(auth) => tunnel.with_auth(auth.clone()),
                        None => tunnel,
                    };
                    tunnel.call(to.clone()).await.map_err(BoxError::from)
                } else {
                    self.to_proxy.call(proxy.uri().clone()).await
                };
                (connected.map_err(failed)?.into_inner(), !is_secure)
            }
            None => (self.server.call(to.clone()).await.map(boxed)?.into_inner(), false),
        };
        if !is_secure {
            return Ok(StatusStream { stream, status_reader: StatusReader::default(), is_proxy, is_http2: false });
        }
        let name = match self.tls.server_name {
            Some(name) => name,
            None => certificate_name(&to)?,
        };
        let stream = TlsConnector::from(self.tls.server).connect(name, stream).await?;
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(StatusStream { stream: Box::new(stream), status_reader: StatusReader::default(), is_proxy, is_http2 })
    }
}

impl Service<Uri> for Dialer {
    type Response = TokioIo<Stream>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        self.clone().dial(to).map(|dialed| dialed.map(TokioIo::new)).boxed()
    }
}

/// Connects to the proxy, with TLS if its URL is `https://`.
#[derive(Clone)]
struct ProxyConnector {
    tcp: HttpConnector<FilteringResolver>,
    tls: Arc<ClientConfig>,
}

impl Service<Uri> for ProxyConnector {
    type Response = TokioIo<Box<dyn ByteStream>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let Self { mut tcp, tls } = self.clone();
        async move {
            let stream = tcp.call(to.clone()).await.map(boxed)?;
            if to.scheme() != Some(&Scheme::HTTPS) {
                return Ok(stream);
            }
            let stream = TlsConnector::from(tls).connect(certificate_name(&to)?, stream.into_inner()).await?;
            Ok(TokioIo::new(Box::new(stream) as Box<dyn ByteStream>))
        }
        .boxed()
    }
}

fn boxed(stream: TokioIo<tokio::net::TcpStream>) -> TokioIo<Box<dyn ByteStream>> {
    TokioIo::new(Box::new(stream.into_inner()))
}

/// The host of a URL as the name that a certificate has to have.
fn certificate_name(uri: &Uri) -> Result<ServerName<'static>, BoxError> {
    let host = uri.host().unwrap_or_default();
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Ok(ServerName::try_from(host.to_owned())?)
}

/// The part of a proxy's URL that is not secret.
fn host_and_port(uri: &Uri) -> String {
    let port = uri.port_u16().unwrap_or(if uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 });
    format!("{}:{port}", uri.host().unwrap_or_default())
}

/// Connecting to the proxy, or through it, failed.
#[derive(Debug)]
struct ProxyError {
    proxy: String,
    source: BoxError,
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the proxy {}", self.proxy)
    }
}

impl std::error::Error for ProxyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.source)
    }
}
