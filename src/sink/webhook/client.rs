//! The HTTP client: one request, at most a deadline's time, and of the answer no more than is kept.

use std::error::Error;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, PROXY_AUTHORIZATION, USER_AGENT};
use http::{Extensions, HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

use super::dial::{Dialer, Secured};
use super::resolve::Filtered;
use super::seen::Seen;
use super::tls;
use crate::config::Tls;

/// How much of an answer is read: it is kept as the cause, and what is longer is cut off.
const MAX_EXCERPT: usize = 4 * 1024;
/// Connections unused for this long are closed.
const IDLE: Duration = Duration::from_mins(1);
/// Connections take no request after this long: whoever moves a name to another address is followed.
const MAX_AGE: Duration = Duration::from_mins(5);
/// A client whose TLS fails is replaced no sooner than this: reading the system's authorities takes milliseconds.
const MIN_AGE: Duration = Duration::from_secs(5);
/// How often a connection that carries several requests is asked whether it still lives, and how long that may take. Without
/// it every request on a connection that went silent would have to run into its deadline.
const PING: Duration = Duration::from_secs(10);
/// Header lines of an answer. One with more still has its status.
const MAX_HEADERS: usize = 1000;
/// Bytes of the headers of an answer over HTTP/2.
const MAX_HEADER_LIST: u32 = 256 * 1024;

const AGENT: &str = concat!("regards-relay/", env!("CARGO_PKG_VERSION"));

/// Makes requests through whatever proxy is set at the time.
pub(super) struct Requests {
    tls: Secured,
    resolver: Filtered,
    timeout: Duration,
    concurrency: usize,
    max_age: Duration,
    /// What TLS is made of, where there is any: read anew with each client.
    renew: Option<Tls>,
    /// TLS failed with the client in use.
    is_doubted: AtomicBool,
    current: Mutex<Option<Current>>,
}

/// The client in use.
struct Current {
    proxy: Option<Url>,
    since: Instant,
    client: HttpClient,
}

/// A pool of connections, and how they are made.
#[derive(Clone)]
pub(super) struct HttpClient {
    dialer: Dialer,
    pool: Client<Dialer, Full<Bytes>>,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Received {
    /// The status.
    pub status: StatusCode,
    /// The headers. None of an answer whose head could not be read beyond its status.
    pub headers: HeaderMap,
    /// The beginning of the body, or what is wrong with the answer's head.
    pub excerpt: Vec<u8>,
}

impl Requests {
    /// `timeout` is for one request from connect to the last byte that is read; `concurrency` bounds idle connections.
    pub(super) fn new(tls: Secured, resolver: Filtered, timeout: Duration, concurrency: usize) -> Self {
        Self {
            tls,
            resolver,
            timeout,
            concurrency,
            max_age: MAX_AGE,
            renew: None,
            is_doubted: AtomicBool::new(false),
            current: Mutex::new(None),
        }
    }

    /// Certificates and authorities, also the system's, are read again for each new client: renewed ones are taken up.
    pub(super) fn renewing(self, tls: Tls) -> Self {
        Self { renew: Some(tls), ..self }
    }

    /// The client for that proxy, none for the environment's: the one in use, unless the proxy is another now, its
    /// connections are too old or TLS has failed. What is under way ends on the old one, whose connections are closed as they
    /// become idle. Blocks where certificates are read.
    pub(super) fn client(&self, proxy: Option<&Url>) -> HttpClient {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(current) = &*current
            && current.proxy.as_ref() == proxy
            && current.since.elapsed() < self.max_age
            && (current.since.elapsed() < MIN_AGE || !self.is_doubted.load(Ordering::Relaxed))
        {
            return current.client.clone();
        }
        self.is_doubted.store(false, Ordering::Relaxed);
        let client = self.build(proxy);
        *current = Some(Current { proxy: proxy.cloned(), since: Instant::now(), client: client.clone() });
        client
    }

    fn build(&self, proxy: Option<&Url>) -> HttpClient {
        // Files that can't be read now, or don't fit together yet, are no reason to be without.
        let renewed = self.renew.as_ref().and_then(|tls| tls::config(tls).ok());
        let dialer =
            Dialer::new(renewed.unwrap_or_else(|| self.tls.clone()), self.resolver.clone(), self.timeout, proxy);
        let pool = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(self.concurrency)
            .pool_idle_timeout(IDLE)
            // As tolerant as curl is.
            .http1_max_headers(MAX_HEADERS)
            .http1_allow_obsolete_multiline_headers_in_responses(true)
            .http1_allow_spaces_after_header_name_in_responses(true)
            .http1_ignore_invalid_headers_in_responses(true)
            .http2_max_header_list_size(MAX_HEADER_LIST)
            .http2_keep_alive_interval(PING)
            .http2_keep_alive_timeout(PING)
            .build(dialer.clone());
        HttpClient { dialer, pool }
    }

    /// Connects as a request would, with TLS and through the proxy, and sends none.
    pub(super) async fn connect(&self, proxy: Option<&Url>, url: &Url) -> Result<(), String> {
        let HttpClient { dialer, .. } = self.build(proxy);
        match timeout(self.timeout, dialer.dial(uri(url)?)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(describe(true, &*error)),
            Err(_) => Err(format!("it could not be connected to within {:?}", self.timeout)),
        }
    }

    /// POSTs once. The error says what happened.
    pub(super) async fn post(
        &self,
        client: &HttpClient,
        url: &Url,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Received, String> {
        let deadline = Instant::now() + self.timeout;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri(url)?;
        *request.headers_mut() = headers;
        let authorization = client.dialer.proxy_authorization(request.uri());
        let headers = request.headers_mut();
        headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(AGENT));
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        if let Some(authorization) = authorization {
            headers.insert(PROXY_AUTHORIZATION, authorization);
        }
        let mut answering = Answering { connection: capture_connection(&mut request), seen: None };
        let mut sending = pin!(client.pool.request(request));
        let sent = poll_fn(|context| {
            let polled = sending.as_mut().poll(context);
            answering.follow();
            polled
        });
        let problem = match timeout_at(deadline, sent).await {
            Ok(Ok(response)) => {
                let (parts, body) = response.into_parts();
                let excerpt = excerpt(body, deadline).await;
                return Ok(Received { status: parts.status, headers: parts.headers, excerpt });
            }
            Ok(Err(error)) => {
                if is_of_tls(&error) {
                    self.is_doubted.store(true, Ordering::Relaxed);
                }
                describe(error.is_connect(), &error)
            }
            Err(_) => format!("no answer within {:?}", self.timeout),
        };
        match answering.seen.and_then(|seen| seen.status()) {
            Some(status) => {
                let excerpt = format!("the rest of its answer can't be read ({problem})").into_bytes();
                Ok(Received { status, headers: HeaderMap::new(), excerpt })
            }
            None => Err(problem),
        }
    }
}

/// Follows which connection a request is on, and what is read there.
struct Answering {
    connection: CaptureConnection,
    seen: Option<Seen>,
}

impl Answering {
    fn follow(&mut self) {
        let mut extras = Extensions::new();
        if let Some(connected) = &*self.connection.connection_metadata() {
            connected.get_extras(&mut extras);
        }
        // One that was found dead before the request was on it is replaced.
        if let Some(seen) = extras.remove::<Seen>()
            && self.seen.as_ref().is_none_or(|known| !known.is_same(&seen))
        {
            seen.begin();
            self.seen = Some(seen);
        }
    }
}

fn uri(url: &Url) -> Result<Uri, String> {
    let mut url = url.clone();
    url.set_fragment(None);
    url.as_str().parse().map_err(|_| "its address has a character that HTTP doesn't take".to_owned())
}

/// The beginning of the body. A body that breaks off or hangs changes nothing about the answer.
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

/// What went wrong before there was an answer, without the address, which may be secret.
fn describe(connecting: bool, error: &(dyn Error + 'static)) -> String {
    let what = if connecting { "it can't be connected to" } else { "the request broke off" };
    let mut text = format!("{what}: {}", chain(error));
    if text.contains("UnknownIssuer") {
        text.push_str("; if its certificate is by an authority of your own, name that in `tls.ca`");
    }
    text
}

/// Whether TLS failed: a certificate isn't trusted, or the other side doesn't take ours.
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

/// An error's causes, the innermost last, without the outer ones' general words.
fn chain(error: &(dyn Error + 'static)) -> String {
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

    /// How many connections three requests in a row take.
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
        let requests = Requests { max_age, ..Requests::new(tls::none().unwrap(), Filtered::system(), minute, 1) };
        for _ in 0..3 {
            let client = requests.client(None);
            let received = requests.post(&client, &url, HeaderMap::new(), Bytes::new()).await.unwrap();
            assert_eq!(received.status, StatusCode::NO_CONTENT);
        }
        count.load(Ordering::SeqCst)
    }

    #[tokio::test]
    async fn connections_are_used_again_but_not_for_ever() {
        assert_eq!(connections(MAX_AGE).await, 1);
        assert_eq!(connections(Duration::ZERO).await, 3);
    }
}
