//! The read-only HTTP listener: is it alive, is it ready, and what has it counted. What changes something goes over the
//! [`control`] socket.
//!
//! The listener reads what the relay counts and changes nothing. Whoever can reach it can keep busy neither the relay nor the
//! listener: connections, headers and the time of each are bounded, and a silent connection gives way to the next one.

mod connections;
pub mod control;
mod exposition;
mod metrics;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::{Map, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use self::connections::{Connections, Idle};
use crate::delivery::{SinkStats, Stats};
use crate::source::{SourceState, SourceStats};
use crate::tasks::{self, TaskKind};
use crate::telemetry::printable_json;

/// With more connections than these the oldest that has asked nothing yet is closed.
const MAX_CONNECTIONS: usize = 32;
/// A request's head has to be there within this.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection, which serves one request, ends after this whatever happens.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(15);
/// A request's head is at most so long, in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// After an accept that failed: the system is out of file descriptors, and trying at once would not give it any.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listener that could not be opened.
#[derive(Debug, thiserror::Error)]
#[error(
    "the admin listener can't use {address}: {cause}: set another address as `admin.listen`, or stop what uses this one"
)]
pub struct BindError {
    address: SocketAddr,
    cause: std::io::Error,
}

/// The listener, answering until this is dropped.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    task: JoinHandle<()>,
}

/// Opens the listener and answers from `stats`. Port 0 takes any that is free.
pub async fn serve(address: SocketAddr, stats: Arc<Stats>) -> Result<Admin, BindError> {
    let failed = |cause| BindError { address, cause };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok(Admin { address, task: tasks::spawn(TaskKind::AdminListener, accept(listener, stats)) })
}

impl Admin {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        // Its connections belong to it.
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, stats: Arc<Stats>) {
    let service = TowerToHyperService::new(router(stats));
    let mut connections = Connections::new(MAX_CONNECTIONS);
    // They end with the listener.
    let mut tasks = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let idle = Idle::new();
                let answering = answer(stream, service.clone(), idle.clone());
                connections.add(idle, tasks.spawn(tasks::supervise(TaskKind::AdminRequest, answering)));
            }
            Err(cause) => {
                tracing::debug!("the admin listener can't accept a connection: {cause}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        while tasks.try_join_next().is_some() {}
    }
}

async fn answer(stream: TcpStream, service: TowerToHyperService<Router>, idle: Idle) {
    let service = service_fn(move |request| {
        idle.has_asked();
        service.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_header_size(MAX_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_TIMEOUT, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(cause)) => tracing::debug!("a connection to the admin listener ended early: {cause}"),
        Err(_) => tracing::debug!("a connection to the admin listener took too long"),
    }
}

fn router(stats: Arc<Stats>) -> Router {
    Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics::show))
        .fallback(elsewhere)
        .with_state(stats)
}

async fn ready(State(stats): State<Arc<Stats>>) -> Response {
    let reasons = stats.problems();
    let code = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let now = stats.now();
    let blocked = stats.spool().and_then(|spool| spool.problem());
    let sources = now.sources.iter().map(|source| {
        let (state, reason) = source_state(source, blocked.as_deref());
        (source.name().to_string(), json!({ "state": state, "reason": reason }))
    });
    let sinks = now.sinks.iter().map(|sink| (sink.name().to_string(), json!({ "state": sink_state(sink) })));
    // They keep no source from its work, so the relay is ready.
    let orphaned = stats.orphans().into_iter().map(|sink| {
        let reason = sink.advice();
        (sink.name.to_string(), json!({ "state": "orphaned", "reason": reason, "deliveries": sink.deliveries }))
    });
    let (sources, sinks) = (sources.collect::<Map<_, _>>(), sinks.chain(orphaned).collect::<Map<_, _>>());
    let body = json!({ "ready": reasons.is_empty(), "reasons": reasons, "sources": sources, "sinks": sinks });
    let body = format!("{body}\n");
    let body = printable_json(&body).into_owned();
    (code, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// What a source does, and why nothing else; `blocked` is what keeps the spool from storing anything.
fn source_state(source: &SourceStats, blocked: Option<&str>) -> (&'static str, Option<String>) {
    match (source.state(), blocked) {
        ((SourceState::Consuming, _), Some(problem)) if source.is_held_up() => ("blocked", Some(problem.to_owned())),
        ((state, reason), _) => (state.as_str(), reason),
    }
}

fn sink_state(sink: &SinkStats) -> &'static str {
    match (sink.is_paused(), sink.is_breaker_open()) {
        (true, _) => "paused",
        (_, true) => "unavailable",
        _ => "delivering",
    }
}

async fn elsewhere(method: Method) -> Response {
    if method == Method::GET || method == Method::HEAD {
        (StatusCode::NOT_FOUND, "there are /livez, /readyz and /metrics\n").into_response()
    } else {
        (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET,HEAD")]).into_response()
    }
}

#[cfg(test)]
mod tests;
