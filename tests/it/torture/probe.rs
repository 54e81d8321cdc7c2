//! Asks whichever relay runs now what it has in flight and what failed, without being held up by one that is frozen or gone.

use std::sync::Mutex;
use std::time::Duration;

use super::plan::Sink;
use crate::support::relay::sum_of;
use crate::support::{Relay, until, use_ring};

const ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// Asks over HTTP.
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

    /// This is the relay to ask, as soon as it says where.
    pub async fn look_at(&self, relay: &Relay<'_>) {
        let admin = until("the relay to say where its admin listener is", async || relay.admin()).await;
        *self.admin.lock().expect("no holder panics") = admin;
    }

    /// Deliveries in flight to that sink, or to any; none where nobody answers.
    pub async fn in_flight(&self, sink: Option<Sink>) -> Option<u64> {
        let labels = sink.map(|sink| ("sink", sink.name()));
        self.count("deliveries_in_flight", labels.as_slice()).await
    }

    /// Whether the relay isn't ready because something that it has to store finds no room on the disk.
    pub async fn lacks_room(&self) -> bool {
        self.page("readyz").await.is_some_and(|text| text.contains("make room on"))
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
