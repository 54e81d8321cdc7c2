//! A webhook receiver: an HTTP server that keeps the requests and answers as the test says.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::serve::Listener;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::server::Server;
use super::{until, use_ring};

const MOST_BYTES: usize = 16 << 20;

/// The answer to one request.
#[derive(Debug, Clone)]
pub enum Answer {
    Status(u16),
    /// A status with a header.
    StatusWith(u16, &'static str, String),
    /// A status with a body.
    Body(u16, String),
    After(Duration, u16),
    /// No answer: the connection stays open and silent.
    Never,
}

#[derive(Debug, Clone)]
pub struct Posted {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    /// When it was received, in milliseconds since 1970.
    pub at: u128,
    /// The status of the answer, or `None` while there is no answer.
    pub answered: Option<u16>,
}

impl Posted {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("a header of text"))
    }

    /// Checks the Standard Webhooks signature with the reference library.
    pub fn assert_signed_with(&self, secret: &str) {
        let webhook = standardwebhooks::Webhook::new(secret).expect("a secret");
        webhook.verify(&self.body, &self.headers).unwrap_or_else(|error| panic!("{error}: {self:?}"));
    }
}

type Behaviour = Arc<dyn Fn(&Posted) -> Answer + Send + Sync>;

struct Shared {
    behaviour: Mutex<Behaviour>,
    posted: Mutex<Vec<Posted>>,
    held: watch::Sender<bool>,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
}

/// The server. It stops when dropped.
pub struct Receiver {
    shared: Arc<Shared>,
    tls: Option<TlsAcceptor>,
    server: Server,
}

impl Receiver {
    /// Starts a plain HTTP server that answers 204.
    pub async fn start() -> Self {
        Self::listening(None).await
    }

    /// Starts a TLS server with this certificate.
    pub async fn start_tls(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Self {
        use_ring();
        let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
        Self::listening(Some(Arc::new(config.expect("a certificate and its key")).into())).await
    }

    /// Starts a TLS server with this configuration.
    pub async fn start_with(config: rustls::ServerConfig) -> Self {
        Self::listening(Some(Arc::new(config).into())).await
    }

    /// Sets the TLS configuration that the server uses from its next start on.
    pub fn set_tls(&mut self, config: rustls::ServerConfig) {
        self.tls = Some(Arc::new(config).into());
    }

    async fn listening(tls: Option<TlsAcceptor>) -> Self {
        use_ring();
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(Arc::new(|_| Answer::Status(204))),
            posted: Mutex::default(),
            held: watch::Sender::new(false),
            in_flight: AtomicUsize::new(0),
            most_in_flight: AtomicUsize::new(0),
        });
        let mut receiver = Self { shared, tls, server: Server::new() };
        receiver.come_back().await;
        receiver
    }

    pub fn port(&self) -> u16 {
        self.server.port()
    }

    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://localhost:{}/hooks/regards", self.port())
    }

    /// Sets the answers to all further requests.
    pub fn answers(&self, behaviour: impl Fn(&Posted) -> Answer + Send + Sync + 'static) {
        *self.shared.behaviour.lock().expect("no holder panics") = Arc::new(behaviour);
    }

    /// Accepts requests and answers them only after [`release`](Self::release).
    pub fn hold(&self) {
        self.shared.held.send_replace(true);
    }

    pub fn release(&self) {
        self.shared.held.send_replace(false);
    }

    /// Stops listening and cuts every connection.
    pub async fn go_down(&mut self) {
        self.server.go_down().await;
    }

    /// Listens again on the same address.
    pub async fn come_back(&mut self) {
        let app = axum::Router::new().fallback(receive).with_state(Arc::clone(&self.shared));
        let tls = self.tls.clone();
        let serve = async move |listener: TcpListener| {
            let _ = match tls {
                None => axum::serve(listener, app).await,
                Some(tls) => axum::serve(TlsListener { listener, tls }, app).await,
            };
        };
        self.server.come_back(serve).await;
    }

    /// All received requests, in order.
    pub fn posted(&self) -> Vec<Posted> {
        self.shared.posted.lock().expect("no holder panics").clone()
    }

    /// The received requests that were answered with 2xx.
    pub fn accepted(&self) -> Vec<Posted> {
        let accepted = |posted: &Posted| posted.answered.is_some_and(|status| (200..300).contains(&status));
        self.posted().into_iter().filter(accepted).collect()
    }

    pub async fn wait_for_accepted(&self, count: usize) -> Vec<Posted> {
        until(&format!("{count} accepted requests"), async || match self.accepted() {
            accepted if accepted.len() >= count => Ok(accepted),
            accepted => Err(format!("{}, of {} received", accepted.len(), self.posted().len())),
        })
        .await
    }

    pub async fn wait_for_posted(&self, count: usize) -> Vec<Posted> {
        until(&format!("{count} requests"), async || match self.posted() {
            posted if posted.len() >= count => Ok(posted),
            posted => Err(posted.len().to_string()),
        })
        .await
    }

    /// The highest number of requests in flight at once so far.
    pub fn most_in_flight(&self) -> usize {
        self.shared.most_in_flight.load(Ordering::SeqCst)
    }
}

/// Counts a request as in flight until it is dropped, which also happens when its client disconnects.
struct InFlight<'a>(&'a Shared);

impl<'a> InFlight<'a> {
    fn begin(shared: &'a Shared) -> Self {
        let now = shared.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        shared.most_in_flight.fetch_max(now, Ordering::SeqCst);
        Self(shared)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn receive(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let _in_flight = InFlight::begin(&shared);
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MOST_BYTES).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let posted = Posted {
        path: parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        headers: parts.headers,
        body: body.to_vec(),
        at: SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_millis(),
        answered: None,
    };
    let number = {
        let mut all = shared.posted.lock().expect("no holder panics");
        all.push(posted.clone());
        all.len() - 1
    };
    let mut held = shared.held.subscribe();
    held.wait_for(|held| !held).await.expect("the sender lives in the state");

    let behaviour = Arc::clone(&shared.behaviour.lock().expect("no holder panics"));
    let mut body = String::new();
    let (status, header) = match behaviour(&posted) {
        Answer::Status(status) => (status, None),
        Answer::Body(status, text) => {
            body = text;
            (status, None)
        }
        Answer::StatusWith(status, name, value) => (status, Some((name, value))),
        Answer::After(delay, status) => {
            tokio::time::sleep(delay).await;
            (status, None)
        }
        Answer::Never => std::future::pending().await,
    };
    shared.posted.lock().expect("no holder panics")[number].answered = Some(status);
    let status = StatusCode::from_u16(status).expect("a status");
    let mut answer = (status, body).into_response();
    if let Some((name, value)) = header {
        let value = HeaderValue::try_from(value).expect("a header's value");
        answer.headers_mut().insert(HeaderName::from_static(name), value);
    }
    answer
}

struct TlsListener {
    listener: TcpListener,
    tls: TlsAcceptor,
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, from)) = self.listener.accept().await else { continue };
            // A client that does not trust this server disconnects here.
            if let Ok(stream) = self.tls.accept(stream).await {
                return (stream, from);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
