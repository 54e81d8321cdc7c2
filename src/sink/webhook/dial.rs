//! Connections to where requests go: directly or by a proxy, with TLS or without.

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

use super::credentials;
use super::resolve::Filtered;
use super::seen::{Seen, Watched};

/// A connection that is silent for this long, and again after each further one, is asked whether it still lives.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// What a connection is, whatever is in between.
pub(super) type Stream = Watched<Box<dyn Io>>;
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Bytes both ways.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// The TLS of a webhook.
#[derive(Debug, Clone)]
pub(super) struct Secured {
    /// Towards the receiver.
    pub receiver: Arc<ClientConfig>,
    /// The name in the receiver's certificate, which it is also asked for (SNI), where that isn't the URL's host.
    pub server_name: Option<ServerName<'static>>,
    /// Towards a proxy: the same authorities and client certificate, and its own name.
    pub proxy: Arc<ClientConfig>,
}

/// Makes connections.
#[derive(Clone)]
pub(super) struct Dialer {
    receiver: HttpConnector<Filtered>,
    to_proxy: Direct,
    proxies: Arc<Matcher>,
    tls: Secured,
}

impl Dialer {
    /// `timeout` is shared among a name's addresses, so that one that doesn't answer leaves time for the next. Without a
    /// `proxy` the environment's is used.
    pub(super) fn new(tls: Secured, resolver: Filtered, timeout: Duration, proxy: Option<&Url>) -> Self {
        let tcp = |resolver| {
            let mut tcp = HttpConnector::new_with_resolver(resolver);
            tcp.enforce_http(false);
            tcp.set_nodelay(true);
            tcp.set_connect_timeout(Some(timeout));
            tcp.set_keepalive(Some(KEEPALIVE));
            tcp.set_keepalive_interval(Some(KEEPALIVE));
            tcp
        };
        // What a sink denies is where events may go, not by which way.
        let to_proxy = Direct { tcp: tcp(resolver.denying(&[])), tls: Arc::clone(&tls.proxy) };
        let proxies = match proxy {
            Some(proxy) => Matcher::builder().all(proxy.as_str()).build(),
            None => Matcher::from_env(),
        };
        Self { receiver: tcp(resolver), to_proxy, proxies: Arc::new(proxies), tls }
    }

    /// What a proxy wants to know in a request that it passes on in clear.
    pub(super) fn proxy_authorization(&self, to: &Uri) -> Option<http::HeaderValue> {
        let is_clear = to.scheme() == Some(&Scheme::HTTP);
        is_clear.then(|| self.proxies.intercept(to)?.basic_auth().cloned()).flatten()
    }

    /// A connection for requests to that address.
    pub(super) async fn dial(mut self, to: Uri) -> Result<Stream, BoxError> {
        let is_secure = to.scheme() == Some(&Scheme::HTTPS);
        let (stream, is_proxy) = match self.proxies.intercept(&to) {
            Some(proxy) => {
                let by = place(proxy.uri());
                let failed = |source| ProxyFailed { proxy: by, source };
                if !matches!(proxy.uri().scheme_str(), Some("http" | "https")) {
                    return Err(failed("the relay only speaks to proxies of http:// and https://".into()).into());
                }
                let allowed = Url::parse(&proxy.uri().to_string())
                    .map_err(BoxError::from)
                    .and_then(|url| credentials::allowed(&url, &[]).map_err(BoxError::from));
                if let Err(why) = allowed {
                    return Err(failed(why).into());
                }
                let reached = if is_secure {
                    let tunnel = Tunnel::new(proxy.uri().clone(), self.to_proxy);
                    let mut tunnel = match proxy.basic_auth() {
                        Some(auth) => tunnel.with_auth(auth.clone()),
                        None => tunnel,
                    };
                    tunnel.call(to.clone()).await.map_err(BoxError::from)
                } else {
                    self.to_proxy.call(proxy.uri().clone()).await
                };
                (reached.map_err(failed)?.into_inner(), !is_secure)
            }
            None => (self.receiver.call(to.clone()).await.map(boxed)?.into_inner(), false),
        };
        if !is_secure {
            return Ok(Watched { stream, seen: Seen::default(), is_proxy, is_http2: false });
        }
        let name = match self.tls.server_name {
            Some(name) => name,
            None => name_of(&to)?,
        };
        let stream = TlsConnector::from(self.tls.receiver).connect(name, stream).await?;
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(Watched { stream: Box::new(stream), seen: Seen::default(), is_proxy, is_http2 })
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

/// Connects to what a URL names itself.
#[derive(Clone)]
struct Direct {
    tcp: HttpConnector<Filtered>,
    tls: Arc<ClientConfig>,
}

impl Service<Uri> for Direct {
    type Response = TokioIo<Box<dyn Io>>;
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
            let stream = TlsConnector::from(tls).connect(name_of(&to)?, stream.into_inner()).await?;
            Ok(TokioIo::new(Box::new(stream) as Box<dyn Io>))
        }
        .boxed()
    }
}

fn boxed(stream: TokioIo<tokio::net::TcpStream>) -> TokioIo<Box<dyn Io>> {
    TokioIo::new(Box::new(stream.into_inner()))
}

/// A URL's host as the name in a certificate.
fn name_of(uri: &Uri) -> Result<ServerName<'static>, BoxError> {
    let host = uri.host().unwrap_or_default();
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Ok(ServerName::try_from(host.to_owned())?)
}

/// Host and port: what of a proxy's address isn't secret.
fn place(uri: &Uri) -> String {
    let port = uri.port_u16().unwrap_or(if uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 });
    format!("{}:{port}", uri.host().unwrap_or_default())
}

/// A proxy that doesn't do its part.
#[derive(Debug)]
struct ProxyFailed {
    proxy: String,
    source: BoxError,
}

impl fmt::Display for ProxyFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "its proxy {}", self.proxy)
    }
}

impl std::error::Error for ProxyFailed {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.source)
    }
}
