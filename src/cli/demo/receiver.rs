//! The demo's webhook receiver, which verifies the signature of each request.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use standardwebhooks::Webhook;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A listener on this machine that keeps the bodies of accepted requests.
pub struct Receiver {
    address: SocketAddr,
    bodies: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

#[derive(Clone)]
struct ReceiverState {
    secret: Arc<Webhook>,
    bodies: Arc<Mutex<Vec<String>>>,
}

impl Receiver {
    /// Listens on any free port for requests signed with `secret`.
    pub async fn start(secret: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let bodies = Arc::default();
        let state = ReceiverState { secret: Arc::new(Webhook::new(secret)?), bodies: Arc::clone(&bodies) };
        let router = Router::new().route("/on-call", post(receive)).with_state(state);
        let task = tokio::spawn(async move {
            // It ends with the demo. If it fails, requests are missing in the result.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, bodies, task })
    }

    pub fn url(&self) -> String {
        format!("http://{}/on-call", self.address)
    }

    /// The bodies of requests with a valid signature.
    pub fn bodies(&self) -> Vec<String> {
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn receive(State(state): State<ReceiverState>, headers: HeaderMap, body: Bytes) -> StatusCode {
    if state.secret.verify(&body, &headers).is_err() {
        return StatusCode::UNAUTHORIZED;
    }
    let body = String::from_utf8_lossy(&body).into_owned();
    state.bodies.lock().unwrap_or_else(PoisonError::into_inner).push(body);
    StatusCode::NO_CONTENT
}
