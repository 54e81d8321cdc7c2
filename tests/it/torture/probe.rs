//! Asks the current relay for its deliveries in flight and its failures. A relay that is frozen or gone does not block
//! it.

use std::sync::Mutex;
use std::time::Duration;

use super::plan::Sink;
use crate::support::relay::sum_of;
use crate::support::{Relay, until, use_ring};

const ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// Queries the relay over HTTP.
pub struct Probe {
    http: reqwest::Client,
    admin: Mutex<String>,
}

impl Probe {
    pub fn new() -> Self {
        use_ring();
        let http = reqwest::Client::builder().timeout(ANSWER_WITHIN).build().expect("an HTTP client");
        Self { http, admin: Mutex::default() }
    }

    /// Queries that relay from now on, as soon as it logs its address.
    pub async fn look_at(&self, relay: &Relay<'_>) {
        let admin = until("the relay to say where its admin listener is", async || relay.admin()).await;
        *self.admin.lock().expect("no holder panics") = admin;
    }

    /// Deliveries in flight to that sink, or to any sink. Zero if the relay does not answer.
    pub async fn in_flight(&self, sink: Option<Sink>) -> Option<u64> {
        let labels = sink.map(|sink| ("sink", sink.name()));
        self.count("deliveries_in_flight", labels.as_slice()).await
    }

    /// The backlog of that sink.
    pub async fn waiting(&self, sink: Sink) -> u64 {
        self.count("spool_deliveries", &[("sink", sink.name())]).await.unwrap_or_default()
    }

    /// Dead letters stored for that reason since the relay started.
    pub async fn letters(&self, reason: &str) -> u64 {
        self.count("dead_letters_total", &[("reason", reason)]).await.unwrap_or_default()
    }

    /// Requests without an end that this alert watches and has not raised.
    pub async fn open_requests(&self, alert: &str) -> Option<u64> {
        self.count("requests_open", &[("alert", alert)]).await
    }

    /// Whether the breaker of that sink is open.
    pub async fn is_breaker_open(&self, sink: Sink) -> bool {
        self.count("sink_breaker_open", &[("sink", sink.name())]).await.is_some_and(|open| open > 0)
    }

    /// Whether the relay is not ready and its answer contains these words.
    pub async fn is_unready_for(&self, words: &[&str]) -> bool {
        self.page("readyz").await.is_some_and(|text| words.iter().all(|word| text.contains(word)))
    }

    async fn count(&self, metric: &str, labels: &[(&str, &str)]) -> Option<u64> {
        let text = self.page("metrics").await?;
        let seen = sum_of(&text, &format!("regards_relay_{metric}"), labels)?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
        Some(seen as u64)
    }

    async fn page(&self, page: &str) -> Option<String> {
        let url = format!("{}/{page}", self.admin.lock().expect("no holder panics"));
        self.http.get(url).send().await.ok()?.text().await.ok()
    }
}
