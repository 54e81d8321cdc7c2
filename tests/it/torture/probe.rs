//! Asks the relays for their deliveries in flight and their failures. A relay that is frozen or gone does not block it.

use std::sync::Mutex;
use std::time::Duration;

use futures_util::future::join_all;

use super::plan::Sink;
use crate::support::relay::sum_of;
use crate::support::{Relay, until, use_ring};

const ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// Queries the relay over HTTP.
pub struct Probe {
    http: reqwest::Client,
    /// The admin listener of each relay.
    admins: Mutex<Vec<String>>,
}

impl Probe {
    pub fn new() -> Self {
        use_ring();
        let http = reqwest::Client::builder().timeout(ANSWER_WITHIN).build().expect("an HTTP client");
        Self { http, admins: Mutex::default() }
    }

    /// Queries that relay from now on as the one at this place, as soon as it logs its address.
    pub async fn look_at(&self, place: usize, relay: &Relay<'_>) {
        let admin = until("the relay to say where its admin listener is", async || relay.admin()).await;
        let mut admins = self.admins.lock().expect("no holder panics");
        if admins.len() <= place {
            admins.resize(place + 1, String::new());
        }
        admins[place] = admin;
    }

    /// Whether the relay at this place consumes: it is ready, and does not stand by.
    pub async fn is_working(&self, place: usize) -> bool {
        let admin = self.admins.lock().expect("no holder panics").get(place).cloned().unwrap_or_default();
        let Ok(answer) = self.http.get(format!("{admin}/readyz")).send().await else { return false };
        let is_ready = answer.status().is_success();
        is_ready && answer.text().await.is_ok_and(|text| !text.contains("\"standby\""))
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
        self.pages("readyz").await.iter().any(|text| words.iter().all(|word| text.contains(word)))
    }

    /// The sum over all relays. None if no relay has the metric.
    async fn count(&self, metric: &str, labels: &[(&str, &str)]) -> Option<u64> {
        let pages = self.pages("metrics").await;
        let counts = pages.iter().filter_map(|text| sum_of(text, &format!("regards_relay_{metric}"), labels));
        let sum = counts.reduce(|sum, count| sum + count)?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
        Some(sum as u64)
    }

    /// The page of each relay that answers.
    async fn pages(&self, page: &str) -> Vec<String> {
        let admins = self.admins.lock().expect("no holder panics").clone();
        let page = |admin: String| async move {
            self.http.get(format!("{admin}/{page}")).send().await.ok()?.text().await.ok()
        };
        join_all(admins.into_iter().map(page)).await.into_iter().flatten().collect()
    }
}
