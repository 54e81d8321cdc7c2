//! Events as POST requests, signed by Standard Webhooks 1.0.
//!
//! An attempt is one request, with one deadline from connect to the last byte of the answer that is read. Redirects are never
//! followed, certificates always verified, and some addresses never connected to (see [`address`](crate::config::address)).

mod client;
mod credentials;
mod dial;
mod pace;
mod render;
mod resolve;
mod seen;
mod signature;
mod tls;
mod verdict;

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::{AUTHORIZATION, DATE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_util::sync::CancellationToken;
use url::Url;

use self::client::Requests;
use self::credentials::Credentials;
use self::pace::Pace;
pub(super) use self::render::render;
use self::resolve::Filtered;
use self::verdict::Answer;
pub use self::verdict::MAX_RETRY_AFTER;
use super::{Attempt, Blame, Destination, OpenError, Outgoing, Verdict};
use crate::clock;
use crate::config::{SinkConfig, WebhookConfig, WebhookUrl};
use crate::event::HeaderValue as EventHeader;
use crate::probe::{ProbeOutcome, ProbeResult};
use crate::tasks::{self, TaskKind};

/// An open webhook.
pub(super) struct WebhookSink {
    shared: Arc<Shared>,
    /// One permit for each request under way.
    slots: Arc<Semaphore>,
    capacity: usize,
    /// Every attempt under way has a sender, and nothing is ever sent: the channel closes when the last one has ended.
    under_way: Sender<Infallible>,
    all_ended: Receiver<Infallible>,
    /// Cancelled when what is under way is to be dropped.
    stop: CancellationToken,
}

struct Shared {
    config: WebhookConfig,
    requests: Requests,
    pace: Option<Pace>,
}

impl WebhookSink {
    pub(super) async fn open(config: &SinkConfig, webhook: &WebhookConfig, _relay: &str) -> Result<Self, OpenError> {
        let problem = |detail| OpenError { sink: config.name.to_string(), detail };
        if let Some((name, _)) = webhook.headers.iter().find(|(name, _)| render::set_by_us(name)) {
            return Err(problem(format!("the header {name} is set by the relay itself")));
        }
        let shared = tokio::task::spawn_blocking({
            let webhook = webhook.clone();
            move || Shared::open(webhook)
        })
        .await
        .map_err(|error| problem(error.to_string()))?
        .map_err(problem)?;
        let capacity = webhook.concurrency.clamp(1, Semaphore::MAX_PERMITS);
        let (under_way, all_ended) = channel(1);
        Ok(Self {
            shared: Arc::new(shared),
            slots: Arc::new(Semaphore::new(capacity)),
            capacity,
            under_way,
            all_ended,
            stop: CancellationToken::new(),
        })
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn attempt(&self, outgoing: Outgoing, attempt: Attempt) {
        let (shared, slots, stop) = (Arc::clone(&self.shared), Arc::clone(&self.slots), self.stop.clone());
        let under_way = self.under_way.clone();
        tasks::spawn(TaskKind::WebhookAttempt, async move {
            let verdict = async {
                let _slot = slots.acquire().await.ok()?;
                Some(shared.send(outgoing).await)
            };
            // Without a verdict the attempt is dropped, which says so itself.
            match stop.run_until_cancelled(verdict).await.flatten() {
                Some(verdict) => attempt.end(verdict),
                None => drop(attempt),
            }
            drop(under_way);
        });
    }

    pub(super) async fn close(self, grace: Duration) {
        let Self { mut all_ended, under_way, stop, .. } = self;
        drop(under_way);
        if tokio::time::timeout(grace, all_ended.recv()).await.is_err() {
            stop.cancel();
            all_ended.recv().await;
        }
    }
}

impl Shared {
    /// Everything that can be found out without the destination. Blocks. The error says what to do.
    fn open(webhook: WebhookConfig) -> Result<Self, String> {
        let (requests, _) = requests(&webhook)?;
        Ok(Self { requests, pace: webhook.rate.map(Pace::new), config: webhook })
    }

    /// One request, when its turn has come.
    async fn send(self: Arc<Self>, outgoing: Outgoing) -> Verdict {
        if let Some(pace) = &self.pace {
            pace.turn().await;
        }
        let reader = Arc::clone(&self);
        let reading = tokio::task::spawn_blocking(move || {
            let credentials = Credentials::read(&reader.config)?;
            let client = reader.requests.client(credentials.proxy.as_ref());
            Ok::<_, String>((credentials, client))
        });
        let (credentials, client) = match tokio::time::timeout(self.config.timeout, reading).await {
            Ok(Ok(Ok(read))) => read,
            Ok(Ok(Err(problem))) => return failed(problem, Blame::Sink),
            Ok(Err(_)) => return failed("the relay stops".to_owned(), Blame::Relay),
            Err(_) => return failed("the files of its secrets can't be read in time".to_owned(), Blame::Sink),
        };
        let now = clock::system_time();
        let (url, headers) = match request(&outgoing, &credentials, now) {
            Ok(request) => request,
            Err(problem) => return Verdict::Refused { cause: problem },
        };
        match self.requests.post(&client, &url, headers, outgoing.body).await {
            Err(problem) => failed(problem, Blame::Sink),
            Ok(received) => {
                let text = |name| received.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
                verdict::verdict(
                    &Answer {
                        status: received.status,
                        retry_after: text(RETRY_AFTER),
                        date: text(DATE),
                        location: text(LOCATION),
                        excerpt: &received.excerpt,
                    },
                    credentials.url.is_none(),
                    &self.config.responses,
                    clock::system_time(),
                )
            }
        }
    }
}

/// Whether it can be connected to, with no request sent.
pub(super) async fn probe(webhook: &WebhookConfig) -> ProbeResult {
    let webhook = webhook.clone();
    let opened = tokio::task::spawn_blocking(move || requests(&webhook));
    let (requests, way) = opened.await.map_err(|error| error.to_string())??;
    requests.connect(way.proxy.as_ref(), &way.origin).await?;
    let proxy = if way.proxy.is_some() { " through its proxy" } else { "" };
    let tls = if way.origin.scheme() == "https" { ", and its certificate is trusted" } else { "" };
    Ok(ProbeOutcome::Reachable(format!("it can be connected to{proxy}{tls}")))
}

/// Where requests lead.
struct Way {
    /// Their URL, or what all of their URLs begin with.
    origin: Url,
    proxy: Option<Url>,
}

/// What makes the requests, and where they lead. Blocks. The error says what to do.
fn requests(webhook: &WebhookConfig) -> Result<(Requests, Way), String> {
    let Credentials { url, proxy, .. } = Credentials::read(webhook)?;
    let origin = match (url, &webhook.url) {
        (Some(url), _) => url,
        (None, WebhookUrl::Templated { origin, .. }) => {
            Url::parse(origin).map_err(|error| format!("its url is not a URL: {error}"))?
        }
        (None, WebhookUrl::Fixed { .. }) => return Err("its url is missing".to_owned()),
    };
    credentials::allowed(&origin, &webhook.deny).map_err(|problem| format!("its url: {problem}"))?;
    let needs_tls = [Some(&origin), proxy.as_ref()].into_iter().flatten().any(|url| url.scheme() == "https");
    let tls = if needs_tls { tls::config(&webhook.tls)? } else { tls::none()? };
    let requests = Requests::new(tls, Filtered::system().denying(&webhook.deny), webhook.timeout, webhook.concurrency);
    let requests = if needs_tls { requests.renewing(webhook.tls.clone()) } else { requests };
    Ok((requests, Way { origin, proxy }))
}

/// The address and all headers of one attempt: what was rendered, and what depends on the time and the secrets of now.
fn request(outgoing: &Outgoing, credentials: &Credentials, now: SystemTime) -> Result<(Url, HeaderMap), String> {
    let url = match (&credentials.url, &outgoing.destination) {
        (Some(url), _) | (None, Destination::Webhook { url: Some(url) }) => url.clone(),
        (None, _) => return Err("it was rendered for another kind of sink".to_owned()),
    };
    credentials::allowed(&url, &[])?;
    let mut headers = HeaderMap::new();
    for (name, value) in &outgoing.headers {
        let (Ok(name), EventHeader::Text(value)) = (HeaderName::from_bytes(name.as_bytes()), value) else {
            return Err(format!("the header {name} is not one of HTTP"));
        };
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|error| format!("the header {name}: {error}"))?;
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
