//! The HTTP client of webhooks, schema registries and token servers.
//!
//! A request has one deadline from connecting to the last byte of the response that is read, and at most
//! [`ClientSettings::max_body`] bytes of a body are read. The client never follows redirects, always verifies certificates, and
//! refuses to connect to some addresses (see [`address`]). It knows nothing of what is sent.

mod authorization;
mod dial;
mod resolve;
mod status_line;
mod tls;

use std::error::Error;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, PROXY_AUTHORIZATION, USER_AGENT};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

pub use self::authorization::{basic, of_user_in, remove_user, sensitive};
pub use self::dial::ClientTls;
use self::dial::Dialer;
pub use self::resolve::FilteringResolver;
use self::status_line::StatusReader;
use super::{Network, Tls, address};

/// A connection that is unused for this long is closed.
const IDLE: Duration = Duration::from_mins(1);
/// After this time a connection gets no more requests, so that a change of the server's DNS entry takes effect.
const MAX_AGE: Duration = Duration::from_mins(5);
/// A pool whose TLS failed is replaced after this time at the earliest, as reading the system's authorities takes
/// milliseconds.
const MIN_AGE: Duration = Duration::from_secs(5);
/// The interval and timeout of HTTP/2 pings. Without them every request on a silent connection would run into its deadline.
const PING: Duration = Duration::from_secs(10);
/// The largest number of header lines in a response. The status of a response with more is still read.
const MAX_HEADERS: usize = 1000;
/// The largest size of the headers of an HTTP/2 response, in bytes.
const MAX_HEADER_LIST: u32 = 256 * 1024;

/// The work that may block, in errors.
const READING_FILES: &str = "reading the certificates";

const AGENT: &str = concat!("regards-relay/", env!("CARGO_PKG_VERSION"));

/// The bounds of a client's requests, and its word for the server.
#[derive(Debug, Clone, Copy)]
pub struct ClientSettings {
    /// The server in error texts, as in "the receiver did not answer": `receiver`, `registry`, `token server`.
    pub server: &'static str,
    /// The time of one request, from connecting to the last byte that is read.
    pub timeout: Duration,
    /// The largest number of idle connections.
    pub concurrency: usize,
    /// How many bytes of a response's body are read.
    pub max_body: usize,
}

/// Sends requests through the proxy that is configured at the time of each request.
pub struct HttpClient {
    settings: ClientSettings,
    tls: ClientTls,
    resolver: FilteringResolver,
    max_age: Duration,
    /// For HTTPS: certificates and authorities are read again for each new pool.
    reload: Option<Tls>,
    /// TLS failed on a connection of the current pool.
    tls_failed: AtomicBool,
    current: Mutex<Option<CurrentPool>>,
}

struct CurrentPool {
    proxy: Option<Url>,
    since: Instant,
    pool: ConnectionPool,
}

/// A pool of connections, and how new ones are made.
#[derive(Clone)]
pub struct ConnectionPool {
    dialer: Dialer,
    client: Client<Dialer, Full<Bytes>>,
}

/// The response to one request.
#[derive(Debug)]
pub struct Response {
    pub status: StatusCode,
    /// Empty if only the status of the response could be read.
    pub headers: HeaderMap,
    /// The beginning of the body, or why the response could not be read beyond its status.
    pub body: Vec<u8>,
    pub body_end: BodyEnd,
}

/// Where reading a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyEnd {
    Whole,
    /// After [`ClientSettings::max_body`] bytes.
    TooLong,
    /// The connection failed, or the response is malformed.
    BrokenOff,
    /// At the request's deadline.
    TimedOut,
}

impl Response {
    /// A header of the response, if it is text.
    pub fn text(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl HttpClient {
    /// A client of servers by `https://` if `needs_tls`, else by `http://` only. Reads certificates and authorities for each new
    /// pool, also the system's, so that renewed ones take effect. Blocks. The error says what to do.
    pub fn open(settings: ClientSettings, tls: &Tls, needs_tls: bool, deny: &[Network]) -> Result<Self, String> {
        let resolver = FilteringResolver::system().denying(deny);
        if !needs_tls {
            return Ok(Self::new(settings, ClientTls::none()?, resolver));
        }
        Ok(Self { reload: Some(tls.clone()), ..Self::new(settings, ClientTls::read(tls)?, resolver) })
    }

    /// A client that reads no files.
    #[must_use]
    pub fn new(settings: ClientSettings, tls: ClientTls, resolver: FilteringResolver) -> Self {
        Self {
            settings,
            tls,
            resolver,
            max_age: MAX_AGE,
            reload: None,
            tls_failed: AtomicBool::new(false),
            current: Mutex::new(None),
        }
    }

    /// The pool of connections through that proxy; `None` stands for the proxy of the environment, if any. A new pool is made if
    /// the proxy has changed, the connections are too old or TLS has failed. Requests in flight end on the old pool, which
    /// closes its connections when they are idle. Blocks if certificates are read.
    pub fn pool(&self, proxy: Option<&Url>) -> ConnectionPool {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(current) = &*current
            && current.proxy.as_ref() == proxy
            && current.since.elapsed() < self.max_age
            && (current.since.elapsed() < MIN_AGE || !self.tls_failed.load(Ordering::Relaxed))
        {
            return current.pool.clone();
        }
        self.tls_failed.store(false, Ordering::Relaxed);
        let pool = self.build(proxy);
        *current = Some(CurrentPool { proxy: proxy.cloned(), since: Instant::now(), pool: pool.clone() });
        pool
    }

    fn build(&self, proxy: Option<&Url>) -> ConnectionPool {
        // If the files can't be read, or don't match yet during a renewal, the earlier certificates are used.
        let renewed = self.reload.as_ref().and_then(|tls| ClientTls::read(tls).ok());
        let tls = renewed.unwrap_or_else(|| self.tls.clone());
        let dialer = Dialer::new(tls, self.resolver.clone(), self.settings.timeout, proxy);
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(self.settings.concurrency)
            .pool_idle_timeout(IDLE)
            // As tolerant as curl.
            .http1_max_headers(MAX_HEADERS)
            .http1_allow_obsolete_multiline_headers_in_responses(true)
            .http1_allow_spaces_after_header_name_in_responses(true)
            .http1_ignore_invalid_headers_in_responses(true)
            .http2_max_header_list_size(MAX_HEADER_LIST)
            .http2_keep_alive_interval(PING)
            .http2_keep_alive_timeout(PING)
            .build(dialer.clone());
        ConnectionPool { dialer, client }
    }

    /// [`send`](Self::send) through the proxy of the environment, if any.
    pub async fn exchange(
        self: &Arc<Self>,
        method: Method,
        url: &Url,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response, String> {
        allowed(url, &[])?;
        let client = Arc::clone(self);
        let building = tokio::task::spawn_blocking(move || client.pool(None));
        let pool = match timeout(self.settings.timeout, building).await {
            Ok(Ok(pool)) => pool,
            Ok(Err(error)) => return Err(format!("internal error: {READING_FILES} ended without a result ({error})")),
            Err(_) => return Err(format!("{READING_FILES} timed out")),
        };
        self.send(&pool, method, url, headers, body).await
    }

    /// Connects as for a request, with TLS and through the proxy, and sends nothing.
    pub async fn connect(&self, proxy: Option<&Url>, url: &Url) -> Result<(), String> {
        let ConnectionPool { dialer, .. } = self.build(proxy);
        let ClientSettings { server, timeout: limit, .. } = self.settings;
        match timeout(limit, dialer.dial(uri(url)?)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(describe(server, true, &*error)),
            Err(_) => Err(format!("connecting to the {server} timed out after {limit:?}")),
        }
    }

    /// Sends one request. The error says what happened.
    pub async fn send(
        &self,
        pool: &ConnectionPool,
        method: Method,
        url: &Url,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response, String> {
        let ClientSettings { server, timeout, max_body, .. } = self.settings;
        let deadline = Instant::now() + timeout;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri(url)?;
        *request.headers_mut() = headers;
        let authorization = pool.dialer.proxy_authorization(request.uri());
        let headers = request.headers_mut();
        headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(AGENT));
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        if let Some(authorization) = authorization {
            headers.insert(PROXY_AUTHORIZATION, authorization);
        }
        let mut connection = RequestConnection { connection: capture_connection(&mut request), status_reader: None };
        let mut sending = pin!(pool.client.request(request));
        let sent = poll_fn(|context| {
            let polled = sending.as_mut().poll(context);
            connection.update();
            polled
        });
        let error = match timeout_at(deadline, sent).await {
            Ok(Ok(response)) => {
                let (parts, body) = response.into_parts();
                let (body, body_end) = read(body, max_body, deadline).await;
                return Ok(Response { status: parts.status, headers: parts.headers, body, body_end });
            }
            Ok(Err(error)) => {
                if is_of_tls(&error) {
                    self.tls_failed.store(true, Ordering::Relaxed);
                }
                describe(server, error.is_connect(), &error)
            }
            Err(_) => format!("the {server} did not answer within {timeout:?}"),
        };
        match connection.status_reader.and_then(|reader| reader.status()) {
            Some(status) => {
                let body = format!("the rest of the response can't be read ({error})").into_bytes();
                Ok(Response { status, headers: HeaderMap::new(), body, body_end: BodyEnd::BrokenOff })
            }
            None => Err(error),
        }
    }
}

/// The connection that a request is sent on, and the status that is read from it.
struct RequestConnection {
    connection: CaptureConnection,
    status_reader: Option<StatusReader>,
}

impl RequestConnection {
    fn update(&mut self) {
        let mut extras = Extensions::new();
        if let Some(connected) = &*self.connection.connection_metadata() {
            connected.get_extras(&mut extras);
        }
        // The client replaces a connection that turns out to be closed before the request is sent.
        if let Some(reader) = extras.remove::<StatusReader>()
            && self.status_reader.as_ref().is_none_or(|known| !known.is_same(&reader))
        {
            reader.reset();
            self.status_reader = Some(reader);
        }
    }
}

fn uri(url: &Url) -> Result<Uri, String> {
    let mut url = url.clone();
    url.set_fragment(None);
    url.as_str().parse().map_err(|_| "the URL has a character that HTTP does not allow".to_owned())
}

/// Checks that the relay may connect to the host of a URL. The addresses of a host name are checked when it is resolved.
pub fn allowed(url: &Url, deny: &[Network]) -> Result<(), String> {
    let Some(host) = url.host() else { return Err("the URL has no host".to_owned()) };
    match address::forbidden_host(&host).or_else(|| address::denied_host(&host, deny)) {
        Some(why) => Err(format!("the relay never connects to {host}: {why}")),
        None => Ok(()),
    }
}

/// Reads the beginning of the body. A body that breaks off or hangs changes nothing about the response.
async fn read(mut body: Incoming, max: usize, deadline: Instant) -> (Vec<u8>, BodyEnd) {
    let mut read = Vec::new();
    while read.len() < max {
        match timeout_at(deadline, body.frame()).await {
            Ok(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    read.extend_from_slice(data.get(..max - read.len()).unwrap_or(data));
                }
            }
            Ok(None) => return (read, BodyEnd::Whole),
            Ok(Some(Err(_))) => return (read, BodyEnd::BrokenOff),
            Err(_) => return (read, BodyEnd::TimedOut),
        }
    }
    (read, BodyEnd::TooLong)
}

/// Why there was no response, without the URL, which may be secret.
fn describe(server: &str, connecting: bool, error: &(dyn Error + 'static)) -> String {
    let chain = error_chain(error);
    let mut text = if connecting {
        format!("the {server} can't be connected to: {chain}")
    } else {
        format!("the connection failed during the request: {chain}")
    };
    if text.contains("UnknownIssuer") {
        text.push_str("; if a private authority signed the certificate, set `tls.ca` to that authority");
    }
    text
}

/// Whether TLS failed: a certificate is not trusted, or the peer rejects the client certificate.
fn is_of_tls(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(cause) = next {
        let inner = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let inner = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if cause.is::<rustls::Error>() || inner.is_some() {
            return true;
        }
        next = cause.source();
    }
    false
}

/// The texts of an error and its sources, without the client's general ones.
fn error_chain(error: &(dyn Error + 'static)) -> String {
    let mut causes = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        let text = cause.to_string();
        if !text.starts_with("client error") && !causes.contains(&text) {
            causes.push(text);
        }
        next = cause.source();
    }
    causes.join(": ")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// How many connections three consecutive requests use.
    async fn connections(max_age: Duration) -> usize {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let accepted = Arc::clone(&count);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    while stream.read_buf(&mut request).await.is_ok_and(|read| read > 0) {
                        if request.ends_with(b"\r\n\r\n") {
                            request.clear();
                            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
                        }
                    }
                });
            }
        });
        let minute = Duration::from_mins(1);
        let settings = ClientSettings { server: "receiver", timeout: minute, concurrency: 1, max_body: 1024 };
        let client = HttpClient {
            max_age,
            ..HttpClient::new(settings, ClientTls::none().unwrap(), FilteringResolver::system())
        };
        for _ in 0..3 {
            let pool = client.pool(None);
            let response = client.send(&pool, Method::POST, &url, HeaderMap::new(), Bytes::new()).await.unwrap();
            assert_eq!(response.status, StatusCode::NO_CONTENT);
        }
        count.load(Ordering::SeqCst)
    }

    /// The response, read up to 8 bytes, of a server that writes exactly these bytes and closes the connection if `closes`.
    async fn answered(bytes: &'static str, closes: bool) -> Result<(String, BodyEnd), String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                stream.read_buf(&mut request).await.unwrap();
            }
            stream.write_all(bytes.as_bytes()).await.unwrap();
            if !closes {
                let _ = stream.read_u8().await;
            }
        });
        let timeout = if closes { Duration::from_mins(1) } else { Duration::from_millis(300) };
        let settings = ClientSettings { server: "registry", timeout, concurrency: 1, max_body: 8 };
        let client = Arc::new(HttpClient::open(settings, &Tls::default(), false, &[]).unwrap());
        let response = client.exchange(Method::GET, &url, HeaderMap::new(), Bytes::new()).await?;
        Ok((String::from_utf8(response.body).unwrap(), response.body_end))
    }

    #[tokio::test]
    async fn a_body_says_where_it_ended() {
        for (answer, closes, body, end) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbody", true, "body", BodyEnd::Whole),
            ("HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n", true, "", BodyEnd::Whole),
            ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n0123456789", true, "01234567", BodyEnd::TooLong),
            ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", true, "half", BodyEnd::BrokenOff),
            ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", false, "half", BodyEnd::TimedOut),
        ] {
            assert_eq!(answered(answer, closes).await, Ok((body.to_owned(), end)), "{answer:?}");
        }
    }

    #[tokio::test]
    async fn errors_name_the_server_by_its_word() {
        assert_eq!(answered("", false).await, Err("the registry did not answer within 300ms".to_owned()));
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let settings =
            ClientSettings { server: "registry", timeout: Duration::from_mins(1), concurrency: 1, max_body: 8 };
        let client = Arc::new(HttpClient::open(settings, &Tls::default(), false, &[]).unwrap());
        let get = async |url: &str| {
            let url = Url::parse(url).unwrap();
            client.exchange(Method::GET, &url, HeaderMap::new(), Bytes::new()).await.unwrap_err()
        };
        let refused = get(&format!("http://{free}/s3cret")).await;
        assert!(
            refused.starts_with("the registry can't be connected to: ") && !refused.contains("s3cret"),
            "{refused}"
        );
        assert!(get("http://169.254.169.254/").await.contains("never connects to 169.254.169.254"));
    }

    #[tokio::test]
    async fn connections_are_reused_until_they_are_too_old() {
        assert_eq!(connections(MAX_AGE).await, 1);
        assert_eq!(connections(Duration::ZERO).await, 3);
    }
}
