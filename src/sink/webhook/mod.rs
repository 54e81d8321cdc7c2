//! Sends events as POST requests, signed according to Standard Webhooks 1.0.
//!
//! An attempt is one request of [`net::http`](crate::net::http), with one deadline.

mod credentials;
mod render;
mod signature;
mod verdict;

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_util::sync::CancellationToken;
use url::Url;

use self::credentials::Credentials;
pub(super) use self::render::render;
pub use self::verdict::MAX_RETRY_AFTER;
use super::{Attempt, Blame, Destination, OTHER_KIND, OpenError, RenderedDelivery, Verdict};
use crate::clock;
use crate::config::{SinkConfig, WebhookAuth, WebhookConfig, WebhookUrl};
use crate::event::HeaderValue as EventHeader;
use crate::net::RateLimiter;
use crate::net::http::{ClientSettings, HttpClient, Response, allowed};
use crate::oauth::{self, AccessToken, TokenSource};
use crate::probe::{ProbeOutcome, ProbeResult};
use crate::tasks::{self, TaskKind};

/// How many bytes of a response are read. They are kept as the cause of a failure.
const MAX_EXCERPT: usize = 4 * 1024;
/// The work that may block, in errors.
const READING_FILES: &str = "reading the sink's secrets and certificates";

pub(super) struct WebhookSink {
    sender: Arc<RequestSender>,
    /// One permit for each request in flight.
    permits: Arc<Semaphore>,
    capacity: usize,
    /// Every attempt in flight has a clone of this sender, and nothing is ever sent: the channel closes when the last attempt
    /// has ended.
    in_flight: Sender<Infallible>,
    all_ended: Receiver<Infallible>,
    /// Cancelled when the attempts in flight are abandoned.
    stop: CancellationToken,
}

struct RequestSender {
    config: WebhookConfig,
    client: HttpClient,
    rate_limiter: Option<RateLimiter>,
    tokens: Option<Arc<TokenSource>>,
}

impl WebhookSink {
    pub(super) async fn open(config: &SinkConfig, webhook: &WebhookConfig, _relay: &str) -> Result<Self, OpenError> {
        let problem = |detail| OpenError { sink: config.name.to_string(), detail };
        if let Some((name, _)) = webhook.headers.iter().find(|(name, _)| render::is_reserved(name)) {
            return Err(problem(format!("the header {name} can't be configured: the relay sets it")));
        }
        let sender = tokio::task::spawn_blocking({
            let webhook = webhook.clone();
            move || RequestSender::open(webhook)
        })
        .await
        .map_err(|error| problem(tasks::blocking_error(READING_FILES, &error)))?
        .map_err(problem)?;
        let capacity = webhook.concurrency.clamp(1, Semaphore::MAX_PERMITS);
        let (in_flight, all_ended) = channel(1);
        Ok(Self {
            sender: Arc::new(sender),
            permits: Arc::new(Semaphore::new(capacity)),
            capacity,
            in_flight,
            all_ended,
            stop: CancellationToken::new(),
        })
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn attempt(&self, outgoing: RenderedDelivery, attempt: Attempt) {
        let (sender, permits, stop) = (Arc::clone(&self.sender), Arc::clone(&self.permits), self.stop.clone());
        let in_flight = self.in_flight.clone();
        tasks::spawn(TaskKind::WebhookAttempt, async move {
            let verdict = async {
                let _permit = permits.acquire().await.ok()?;
                Some(sender.send(outgoing).await)
            };
            // Without a verdict the attempt is dropped, which ends it as abandoned.
            match stop.run_until_cancelled(verdict).await.flatten() {
                Some(verdict) => attempt.end(verdict),
                None => drop(attempt),
            }
            drop(in_flight);
        });
    }

    pub(super) async fn close(self, grace: Duration) {
        let Self { mut all_ended, in_flight, stop, .. } = self;
        drop(in_flight);
        if tokio::time::timeout(grace, all_ended.recv()).await.is_err() {
            stop.cancel();
            all_ended.recv().await;
        }
    }
}

impl RequestSender {
    /// Checks everything that can be checked without the destination, which blocks. The error says what to do.
    fn open(webhook: WebhookConfig) -> Result<Self, String> {
        let (client, _) = build_client(&webhook)?;
        let tokens = token_source(&webhook);
        Ok(Self { client, rate_limiter: webhook.rate.map(RateLimiter::new), tokens, config: webhook })
    }

    /// Sends one request; a second one with a new token, if the receiver answers 401 to a token that was issued earlier.
    async fn send(self: Arc<Self>, outgoing: RenderedDelivery) -> Verdict {
        let Some(tokens) = &self.tokens else {
            return self.exchange(&outgoing, None).await.verdict;
        };
        let latest = tokens.latest();
        loop {
            let token = match tokens.token().await {
                Ok(token) => token,
                Err(error) => return failed(error.to_string(), Blame::Sink),
            };
            let end = self.exchange(&outgoing, Some(&token)).await;
            if !end.is_unauthorized {
                return end.verdict;
            }
            tokens.refuse(&token);
            if token.is_after(latest) {
                return end.verdict;
            }
        }
    }

    /// Sends one request, once the rate limit allows it.
    async fn exchange(self: &Arc<Self>, outgoing: &RenderedDelivery, token: Option<&AccessToken>) -> RequestEnd {
        if let Some(limiter) = &self.rate_limiter {
            limiter.wait().await;
        }
        let reader = Arc::clone(self);
        let reading = tokio::task::spawn_blocking(move || {
            let credentials = Credentials::read(&reader.config)?;
            let pool = reader.client.pool(credentials.proxy.as_ref());
            Ok::<_, String>((credentials, pool))
        });
        let (mut credentials, pool) = match tokio::time::timeout(self.config.timeout, reading).await {
            Ok(Ok(Ok(read))) => read,
            Ok(Ok(Err(problem))) => return failed(problem, Blame::Sink).into(),
            Ok(Err(error)) => return failed(tasks::blocking_error(READING_FILES, &error), Blame::Relay).into(),
            Err(_) => return failed(format!("{READING_FILES} timed out"), Blame::Sink).into(),
        };
        match token.map(credentials::bearer).transpose() {
            Ok(Some(bearer)) => credentials.authorization = Some(bearer),
            Ok(None) => {}
            Err(problem) => return failed(problem, Blame::Sink).into(),
        }
        let now = clock::system_time();
        let (url, headers) = match request(outgoing, &credentials, now) {
            Ok(request) => request,
            Err(cause) => return Verdict::Refused { cause }.into(),
        };
        match self.client.send(&pool, Method::POST, &url, headers, outgoing.body.clone()).await {
            Err(error) => failed(error, Blame::Sink).into(),
            Ok(response) => self.on_response(&response, &url),
        }
    }

    fn on_response(&self, response: &Response, url: &Url) -> RequestEnd {
        let (shown, templated) = match &self.config.url {
            WebhookUrl::Fixed { shown, .. } => (shown.as_str(), false),
            WebhookUrl::Templated { .. } => (url.as_str(), true),
        };
        let verdict = verdict::verdict(response, shown, templated, &self.config.responses, clock::system_time());
        RequestEnd { verdict, is_unauthorized: response.status == StatusCode::UNAUTHORIZED }
    }
}

struct RequestEnd {
    verdict: Verdict,
    is_unauthorized: bool,
}

impl From<Verdict> for RequestEnd {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, is_unauthorized: false }
    }
}

fn token_source(webhook: &WebhookConfig) -> Option<Arc<TokenSource>> {
    match &webhook.auth {
        Some(WebhookAuth::OAuth2(oauth2)) => Some(oauth::source(oauth2)),
        _ => None,
    }
}

/// Tests whether the receiver can be connected to, without sending a request.
pub(super) async fn probe(webhook: &WebhookConfig) -> ProbeResult {
    let (webhook, tokens) = (webhook.clone(), token_source(webhook));
    let built = tokio::task::spawn_blocking(move || build_client(&webhook));
    let (client, endpoint) = built.await.map_err(|error| tasks::blocking_error(READING_FILES, &error))??;
    client.connect(endpoint.proxy.as_ref(), &endpoint.url).await?;
    let token = match tokens {
        Some(tokens) => {
            tokens.token().await.map_err(|error| error.to_string())?;
            ", and the token server issues a token"
        }
        None => "",
    };
    let proxy = if endpoint.proxy.is_some() { " through its proxy" } else { "" };
    let tls = if endpoint.url.scheme() == "https" { ", and its certificate is trusted" } else { "" };
    Ok(ProbeOutcome::Reachable(format!("the receiver can be connected to{proxy}{tls}{token}")))
}

struct Endpoint {
    /// The URL of all requests, or its origin if the URL depends on the event.
    url: Url,
    proxy: Option<Url>,
}

/// Reads the credentials and certificates, which blocks. The error says what to do.
fn build_client(webhook: &WebhookConfig) -> Result<(HttpClient, Endpoint), String> {
    let Credentials { url, proxy, .. } = Credentials::read(webhook)?;
    let url = match (url, &webhook.url) {
        (Some(url), _) => url,
        (None, WebhookUrl::Templated { origin, .. }) => {
            Url::parse(origin).map_err(|error| format!("the sink's `url` is not a URL ({error})"))?
        }
        (None, WebhookUrl::Fixed { .. }) => return Err("the sink's `url` is missing".to_owned()),
    };
    allowed(&url, &webhook.deny).map_err(|problem| format!("the sink's `url`: {problem}"))?;
    let needs_tls = [Some(&url), proxy.as_ref()].into_iter().flatten().any(|url| url.scheme() == "https");
    let settings = ClientSettings {
        server: "receiver",
        timeout: webhook.timeout,
        concurrency: webhook.concurrency,
        max_body: MAX_EXCERPT,
    };
    let client = HttpClient::open(settings, &webhook.tls, needs_tls, &webhook.deny)?;
    Ok((client, Endpoint { url, proxy }))
}

/// The URL and all headers of one attempt: the rendered ones, and those that depend on the time and on current secrets.
fn request(
    outgoing: &RenderedDelivery,
    credentials: &Credentials,
    now: SystemTime,
) -> Result<(Url, HeaderMap), String> {
    let url = match (&credentials.url, &outgoing.destination) {
        (Some(url), _) | (None, Destination::Webhook { url: Some(url) }) => url.clone(),
        (None, _) => return Err(OTHER_KIND.to_owned()),
    };
    allowed(&url, &[])?;
    let mut headers = HeaderMap::new();
    for (name, value) in &outgoing.headers {
        let (Ok(name), EventHeader::Text(value)) = (HeaderName::from_bytes(name.as_bytes()), value) else {
            return Err(format!("the header {name} can't be sent over HTTP"));
        };
        let value = HeaderValue::from_bytes(value.as_bytes())
            .map_err(|error| format!("the value of the header {name} can't be sent over HTTP ({error})"))?;
        headers.append(name, value);
    }
    let timestamp = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    headers.insert(render::WEBHOOK_TIMESTAMP, timestamp.into());
    if !credentials.keys.is_empty() {
        let signature = signature::sign(&credentials.keys, &outgoing.id.to_string(), timestamp, &outgoing.body);
        let signature = HeaderValue::try_from(signature).map_err(|error| error.to_string())?;
        headers.insert(render::WEBHOOK_SIGNATURE, signature);
    }
    if let Some(authorization) = &credentials.authorization {
        headers.insert(AUTHORIZATION, authorization.clone());
    }
    Ok((url, headers))
}

fn failed(cause: String, blame: Blame) -> Verdict {
    Verdict::Retry { after: None, cause, blame }
}
