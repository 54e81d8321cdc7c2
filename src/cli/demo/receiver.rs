//! The demo's webhook receiver: takes requests and verifies their signatures as any receiver would.

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

/// A listener on this machine that remembers the bodies it took.
pub struct Receiver {
    address: SocketAddr,
    bodies: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

#[derive(Clone)]
struct Taken {
    secret: Arc<Webhook>,
    bodies: Arc<Mutex<Vec<String>>>,
}

impl Receiver {
    /// Listens on any free port for requests signed with `secret`.
    pub async fn start(secret: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let bodies = Arc::default();
        let taken = Taken { secret: Arc::new(Webhook::new(secret)?), bodies: Arc::clone(&bodies) };
        let router = Router::new().route("/on-call", post(take)).with_state(taken);
        let task = tokio::spawn(async move {
            // It ends with the demo; what failed shows as requests that did not arrive.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, bodies, task })
    }

    /// Where to POST.
    pub fn url(&self) -> String {
        format!("http://{}/on-call", self.address)
    }

    /// What arrived, each with a signature that holds.
    pub fn bodies(&self) -> Vec<String> {
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn take(State(taken): State<Taken>, headers: HeaderMap, body: Bytes) -> StatusCode {
    if taken.secret.verify(&body, &headers).is_err() {
        return StatusCode::UNAUTHORIZED;
    }
    let body = String::from_utf8_lossy(&body).into_owned();
    taken.bodies.lock().unwrap_or_else(PoisonError::into_inner).push(body);
    StatusCode::NO_CONTENT
}
