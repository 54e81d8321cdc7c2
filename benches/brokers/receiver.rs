//! The webhook receiver, healthy or not.

use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Well,
    Dead,
    Silent,
    Slow,
}

/// Listens until it is dropped.
pub struct Receiver {
    pub url: String,
    server: Option<JoinHandle<()>>,
}

impl Receiver {
    pub async fn start(mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
        let takes = match mood {
            Mood::Dead => return Self { url, server: None },
            Mood::Well => Duration::ZERO,
            Mood::Slow => Duration::from_millis(1_900),
            Mood::Silent => Duration::from_hours(1),
        };
        let app = Router::new().fallback(async move |_body: axum::body::Bytes| {
            if !takes.is_zero() {
                tokio::time::sleep(takes).await;
            }
            StatusCode::NO_CONTENT
        });
        let server = tokio::spawn(async move { axum::serve(listener, app).await.expect("it serves") });
        Self { url, server: Some(server) }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.abort();
        }
    }
}
