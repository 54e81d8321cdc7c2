//! The HTTP client: one request, at most a deadline's time, and of the answer no more than is kept.

use std::error::Error as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use reqwest::{Client, ClientBuilder, Proxy, Response, redirect};
use rustls::ClientConfig;
use tokio::time::{Instant, timeout, timeout_at};
use tower::BoxError;
use tower::layer::layer_fn;
use tower::util::MapResult;
use url::Url;

use super::resolve::Filtered;

/// How much of an answer is read: it is kept as the cause, and what is longer is cut off.
const MAX_EXCERPT: usize = 4 * 1024;
/// Connections unused for this long are closed.
const IDLE: Duration = Duration::from_mins(1);
/// How often a connection that carries several requests is asked whether it still lives, and how long that may take. Without
/// it every request on a connection that went silent would have to run into its deadline.
const PING: Duration = Duration::from_secs(10);

/// Makes requests through whatever proxy is set at the time.
pub(super) struct Requests {
    tls: ClientConfig,
    resolver: Filtered,
    timeout: Duration,
    concurrency: usize,
    current: Mutex<Option<(Option<Url>, Client)>>,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Received {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The beginning of the body.
    pub excerpt: Vec<u8>,
}

impl Requests {
    /// `timeout` is for one request from connect to the last byte that is read; `concurrency` bounds idle connections.
    pub(super) fn new(tls: ClientConfig, resolver: Filtered, timeout: Duration, concurrency: usize) -> Self {
        Self { tls, resolver, timeout, concurrency, current: Mutex::new(None) }
    }

    /// The client for that proxy, none for the environment's: the one in use, unless the proxy is another now.
    pub(super) fn client(&self, proxy: Option<&Url>) -> Result<Client, String> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, client)) = &*current
            && of.as_ref() == proxy
        {
            return Ok(client.clone());
        }
        let client = self.builder(proxy).and_then(ClientBuilder::build).map_err(|error| unusable(&error))?;
        *current = Some((proxy.cloned(), client.clone()));
        Ok(client)
    }

    fn builder(&self, proxy: Option<&Url>) -> reqwest::Result<ClientBuilder> {
        let mut builder = Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .dns_resolver(Arc::new(self.resolver.clone()))
            .redirect(redirect::Policy::none())
            .referer(false)
            .user_agent(concat!("regards-relay/", env!("CARGO_PKG_VERSION")))
            // Shared among a name's addresses, so that one that doesn't answer leaves time for the next.
            .connect_timeout(self.timeout)
            .pool_max_idle_per_host(self.concurrency)
            .pool_idle_timeout(IDLE)
            .http2_keep_alive_interval(PING)
            .http2_keep_alive_timeout(PING);
        if let Some(proxy) = proxy {
            builder = builder.proxy(Proxy::all(proxy.clone())?);
        }
        Ok(builder)
    }

    /// Connects as a request would, with TLS and through the proxy, and sends none.
    pub(super) async fn connect(&self, proxy: Option<&Url>, url: Url) -> Result<(), String> {
        let stopping = layer_fn(|connector| MapResult::new(connector, stop_when_connected::<_>));
        let client = self.builder(proxy).and_then(|builder| builder.connector_layer(stopping).build());
        let client = client.map_err(|error| unusable(&error))?;
        match timeout(self.timeout, client.head(url).send()).await {
            Ok(Err(error)) if !was_connected(&error) => Err(describe(&error.without_url())),
            Ok(_) => Ok(()),
            Err(_) => Err(format!("it could not be connected to within {:?}", self.timeout)),
        }
    }

    /// POSTs once. The error says what happened.
    pub(super) async fn post(
        &self,
        client: &Client,
        url: Url,
        headers: HeaderMap,
        body: bytes::Bytes,
    ) -> Result<Received, String> {
        let deadline = Instant::now() + self.timeout;
        let request = client.post(url).headers(headers).body(body).send();
        let response = match timeout_at(deadline, request).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(describe(&error.without_url())),
            Err(_) => return Err(format!("no answer within {:?}", self.timeout)),
        };
        let (status, headers) = (response.status(), response.headers().clone());
        Ok(Received { status, headers, excerpt: excerpt(response, deadline).await })
    }
}

/// What a connector that has done its work says, so that nothing is sent.
#[derive(Debug, thiserror::Error)]
#[error("connected")]
struct Connected;

fn stop_when_connected<T>(connected: Result<T, BoxError>) -> Result<T, BoxError> {
    connected.and_then(|_| Err(Connected.into()))
}

fn was_connected(error: &reqwest::Error) -> bool {
    let mut next = error.source();
    while let Some(cause) = next {
        if cause.is::<Connected>() {
            return true;
        }
        next = cause.source();
    }
    false
}

fn unusable(error: &reqwest::Error) -> String {
    format!("its HTTP client can't be set up: {}", chain(error))
}

/// The beginning of the body. A body that breaks off or hangs changes nothing about the answer.
async fn excerpt(mut response: Response, deadline: Instant) -> Vec<u8> {
    let mut excerpt = Vec::new();
    while excerpt.len() < MAX_EXCERPT
        && let Ok(Ok(Some(chunk))) = timeout_at(deadline, response.chunk()).await
    {
        excerpt.extend_from_slice(chunk.get(..MAX_EXCERPT - excerpt.len()).unwrap_or(&chunk));
    }
    excerpt
}

/// What went wrong before there was an answer, without the address, which may be secret.
fn describe(error: &reqwest::Error) -> String {
    let what = if error.is_connect() { "it can't be connected to" } else { "the request broke off" };
    let mut text = format!("{what}: {}", chain(error));
    if text.contains("UnknownIssuer") {
        text.push_str("; if its certificate is by an authority of your own, name that in `tls.ca`");
    }
    text
}

/// An error's causes, the innermost last, without the outer ones' general words.
fn chain(error: &reqwest::Error) -> String {
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !text.starts_with("client error") && !causes.contains(&text) {
            causes.push(text);
        }
        next = cause.source();
    }
    if causes.is_empty() { error.to_string() } else { causes.join(": ") }
}
