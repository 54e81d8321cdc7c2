//! The HTTP client. It sends one request with a deadline, and reads only the beginning of the response.

use std::error::Error;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
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

use super::dial::{Dialer, WebhookTls};
use super::resolve::FilteringResolver;
use super::status_line::StatusReader;
use super::tls;
use crate::net::Tls;

/// How many bytes of a response are read. They are kept as the cause of a failure.
const MAX_EXCERPT: usize = 4 * 1024;
/// A connection that is unused for this long is closed.
const IDLE: Duration = Duration::from_mins(1);
/// After this time a connection gets no more requests, so that a change of the receiver's DNS entry takes effect.
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

const AGENT: &str = concat!("regards-relay/", env!("CARGO_PKG_VERSION"));

/// Sends requests through the proxy that is configured at the time of each request.
pub(super) struct WebhookClient {
    tls: WebhookTls,
    resolver: FilteringResolver,
    timeout: Duration,
    concurrency: usize,
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
pub(super) struct ConnectionPool {
    dialer: Dialer,
    client: Client<Dialer, Full<Bytes>>,
}

#[derive(Debug)]
pub(super) struct Response {
    pub status: StatusCode,
    /// Empty if only the status of the response could be read.
    pub headers: HeaderMap,
    /// The beginning of the body, or why the response could not be read beyond its status.
    pub excerpt: Vec<u8>,
}

impl Response {
    /// A header of the response, if it is text.
    pub(super) fn text(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl WebhookClient {
    /// `timeout` is the time of one request, from connecting to the last byte that is read. `concurrency` bounds the idle
    /// connections.
    pub(super) fn new(tls: WebhookTls, resolver: FilteringResolver, timeout: Duration, concurrency: usize) -> Self {
        Self {
            tls,
            resolver,
            timeout,
            concurrency,
            max_age: MAX_AGE,
            reload: None,
            tls_failed: AtomicBool::new(false),
            current: Mutex::new(None),
        }
    }

    /// Reads certificates and authorities, also the system's, again for each new pool, so that renewed ones take effect.
    pub(super) fn reloading_tls(self, tls: Tls) -> Self {
        Self { reload: Some(tls), ..self }
    }

    /// The pool of connections through that proxy; `None` stands for the proxy of the environment, if any. A new pool is made if
    /// the proxy has changed, the connections are too old or TLS has failed. Requests in flight end on the old pool, which
    /// closes its connections when they are idle. Blocks if certificates are read.
    pub(super) fn pool(&self, proxy: Option<&Url>) -> ConnectionPool {
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
        let renewed = self.reload.as_ref().and_then(|tls| tls::config(tls).ok());
        let dialer =
            Dialer::new(renewed.unwrap_or_else(|| self.tls.clone()), self.resolver.clone(), self.timeout, proxy);
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(self.concurrency)
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

    /// Connects as for a request, with TLS and through the proxy, and sends nothing.
    pub(super) async fn connect(&self, proxy: Option<&Url>, url: &Url) -> Result<(), String> {
        let ConnectionPool { dialer, .. } = self.build(proxy);
        match timeout(self.timeout, dialer.dial(uri(url)?)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(describe(true, &*error)),
            Err(_) => Err(format!("connecting to the receiver timed out after {:?}", self.timeout)),
        }
    }

    /// Sends one POST request. The error says what happened.
    pub(super) async fn post(
        &self,
        pool: &ConnectionPool,
        url: &Url,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response, String> {
        let deadline = Instant::now() + self.timeout;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
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
                let excerpt = excerpt(body, deadline).await;
                return Ok(Response { status: parts.status, headers: parts.headers, excerpt });
            }
            Ok(Err(error)) => {
                if is_of_tls(&error) {
                    self.tls_failed.store(true, Ordering::Relaxed);
                }
                describe(error.is_connect(), &error)
            }
            Err(_) => format!("the receiver did not answer within {:?}", self.timeout),
        };
        match connection.status_reader.and_then(|reader| reader.status()) {
            Some(status) => {
                let excerpt = format!("the rest of the response can't be read ({error})").into_bytes();
                Ok(Response { status, headers: HeaderMap::new(), excerpt })
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

/// Reads the beginning of the body. A body that breaks off or hangs changes nothing about the response.
async fn excerpt(mut body: Incoming, deadline: Instant) -> Vec<u8> {
    let mut excerpt = Vec::new();
    while excerpt.len() < MAX_EXCERPT
        && let Ok(Some(Ok(frame))) = timeout_at(deadline, body.frame()).await
    {
        if let Some(data) = frame.data_ref() {
            excerpt.extend_from_slice(data.get(..MAX_EXCERPT - excerpt.len()).unwrap_or(data));
        }
    }
    excerpt
}

/// Why there was no response, without the URL, which may be secret.
fn describe(connecting: bool, error: &(dyn Error + 'static)) -> String {
    let what =
        if connecting { "the receiver can't be connected to" } else { "the connection failed during the request" };
    let mut text = format!("{what}: {}", error_chain(error));
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
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::super::tls;
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
        let client = WebhookClient {
            max_age,
            ..WebhookClient::new(tls::none().unwrap(), FilteringResolver::system(), minute, 1)
        };
        for _ in 0..3 {
            let pool = client.pool(None);
            let response = client.post(&pool, &url, HeaderMap::new(), Bytes::new()).await.unwrap();
            assert_eq!(response.status, StatusCode::NO_CONTENT);
        }
        count.load(Ordering::SeqCst)
    }

    #[tokio::test]
    async fn connections_are_reused_until_they_are_too_old() {
        assert_eq!(connections(MAX_AGE).await, 1);
        assert_eq!(connections(Duration::ZERO).await, 3);
    }
}
