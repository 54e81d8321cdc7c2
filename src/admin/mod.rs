//! The read-only HTTP listener: `/livez`, `/readyz` and `/metrics`. Commands that change something use the [`control`] socket.
//!
//! A client can neither change the relay nor block the listener: connections, requests and their time are bounded, and a slow
//! client is disconnected for a new one.

mod connections;
pub mod control;
mod exposition;
mod listener;
mod metrics;

use std::future::IntoFuture;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use serde_json::{Map, json};
use tokio::task::JoinHandle;

use self::listener::BoundedListener;
use crate::delivery::SinkStats;
use crate::relay::Stats;
use crate::source::{SourceState, SourceStats};
use crate::spool::configuration_warning;
use crate::tasks::{self, TaskKind};
use crate::telemetry::printable_json;

/// The pause after an accept that failed: the process is out of file descriptors, and has to close some first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, thiserror::Error)]
#[error(
    "the admin listener can't use the address {address}: {error}; set another one as `admin.listen`, or stop the process \
     that uses it"
)]
pub struct BindError {
    address: SocketAddr,
    error: std::io::Error,
}

/// Listens until it is dropped.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    task: JoinHandle<()>,
}

/// Opens the listener. Port 0 takes any free port.
pub async fn serve(address: SocketAddr, stats: Arc<Stats>) -> Result<Admin, BindError> {
    let failed = |error| BindError { address, error };
    let listener = BoundedListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let server = axum::serve(listener, router(stats)).into_future();
    let task = tasks::spawn(TaskKind::AdminListener, async {
        // It never returns.
        let _ = server.await;
    });
    Ok(Admin { address, task })
}

impl Admin {
    /// With the port that was taken.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        // This drops the listener, which closes the connections.
        self.task.abort();
    }
}

fn router(stats: Arc<Stats>) -> Router {
    Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics::show))
        .fallback(not_found)
        .with_state(stats)
        .layer(middleware::from_fn(answer_once))
}

/// One request a connection; if its handler panics, the relay ends.
async fn answer_once(request: Request, next: Next) -> Response {
    let mut response = tasks::supervise(TaskKind::AdminRequest, next.run(request)).await;
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

async fn ready(State(stats): State<Arc<Stats>>) -> Response {
    let reasons = stats.not_ready_reasons();
    let code = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let now = stats.snapshot();
    let blocked = stats.spool().and_then(|spool| spool.problem());
    let standby = stats.standby();
    let sources = now.sources.iter().map(|source| {
        let (state, reason) = match &standby {
            Some(standby) => (SourceState::Standby.into_str(), Some(standby.clone())),
            None => source_state(source, blocked.as_deref()),
        };
        (source.name().to_string(), json!({ "state": state, "reason": reason }))
    });
    let sinks = now.sinks.iter().map(|sink| (sink.name().to_string(), json!({ "state": sink_state(sink) })));
    // Orphaned deliveries block no source, so the relay is ready.
    let orphaned = stats.orphaned_sinks().into_iter().map(|sink| {
        let reason = sink.advice();
        (sink.name.to_string(), json!({ "state": "orphaned", "reason": reason, "deliveries": sink.deliveries }))
    });
    let (sources, sinks) = (sources.collect::<Map<_, _>>(), sinks.chain(orphaned).collect::<Map<_, _>>());
    let warnings: Vec<_> = configuration_warning(&stats.instances().differing()).into_iter().collect();
    let body = json!({
        "ready": reasons.is_empty(), "reasons": reasons, "warnings": warnings, "sources": sources, "sinks": sinks
    });
    let body = format!("{body}\n");
    let body = printable_json(&body).into_owned();
    (code, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// The source's state, and the reason if it does not consume; `blocked` is why the spool can store nothing.
fn source_state(source: &SourceStats, blocked: Option<&str>) -> (&'static str, Option<String>) {
    match (source.state(), blocked) {
        ((SourceState::Consuming, _), Some(problem)) if source.is_blocked() => ("blocked", Some(problem.to_owned())),
        ((state, reason), _) => (state.into_str(), reason),
    }
}

fn sink_state(sink: &SinkStats) -> &'static str {
    match (sink.is_paused(), sink.is_breaker_open()) {
        (true, _) => "paused",
        (_, true) => "unavailable",
        _ => "delivering",
    }
}

async fn not_found(method: Method) -> Response {
    if method == Method::GET || method == Method::HEAD {
        (StatusCode::NOT_FOUND, "no such page; there are /livez, /readyz and /metrics\n").into_response()
    } else {
        (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET,HEAD")]).into_response()
    }
}

#[cfg(test)]
mod tests;
