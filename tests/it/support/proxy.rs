//! A TCP proxy before a broker: cuts off or delays one client while the broker serves all others.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::server::Server;
use super::until;

/// The time limit for the client to send the expected bytes.
const HELD_WITHIN: Duration = Duration::from_mins(2);

/// Forwards connections to one port of 127.0.0.1. It stops when dropped.
pub struct Proxy {
    to: u16,
    gate: Arc<Gate>,
    server: Server,
}

/// Forwards the bytes from the clients, or holds them back.
#[derive(Default)]
struct Gate {
    held: watch::Sender<bool>,
    /// The gate closes after it has forwarded these bytes.
    last: Mutex<Option<&'static [u8]>>,
    interception: Mutex<Option<Interception>>,
    delay: Mutex<Duration>,
}

/// The connection of the first client that sends `at`, some time after it has sent `after`, gets this fault.
#[derive(Debug, Clone, Copy)]
pub struct Interception {
    pub after: &'static [u8],
    pub at: &'static [u8],
    pub fault: Fault,
}

#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// The server doesn't get the request, and the connection is cut.
    CutRequest,
    /// The server gets the request, and the connection is cut when it answers.
    CutAnswer,
    /// The server gets the request, and the client gets no answer.
    HoldAnswer,
}

impl Proxy {
    pub async fn to(port: u16) -> Self {
        let mut proxy = Self { to: port, gate: Arc::default(), server: Server::new() };
        proxy.come_back().await;
        proxy
    }

    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// Holds back the bytes from the clients until [`release`](Self::release). Connections stay open, also those whose
    /// clients have disconnected.
    pub fn hold(&self) {
        self.gate.held.send_replace(true);
    }

    /// Like [`hold`](Self::hold), but starts once a client has sent these bytes.
    pub fn hold_after(&self, last: &'static [u8]) {
        *self.gate.last.lock().expect("no holder panics") = Some(last);
    }

    /// Returns as soon as the proxy holds bytes back.
    pub async fn wait_until_held(&self) {
        let mut held = self.gate.held.subscribe();
        let waited = tokio::time::timeout(HELD_WITHIN, held.wait_for(|held| *held)).await;
        waited.expect("a client that sends what is waited for").expect("the sender is here");
    }

    /// Delays all bytes of clients and servers by this time from now on.
    pub fn delay(&self, by: Duration) {
        *self.gate.delay.lock().expect("no holder panics") = by;
    }

    /// Intercepts one request from now on.
    pub fn intercept(&self, interception: Interception) {
        *self.gate.interception.lock().expect("no holder panics") = Some(interception);
    }

    /// Returns once the request was intercepted.
    pub async fn wait_until_intercepted(&self) {
        until("a request to be intercepted", async || {
            match *self.gate.interception.lock().expect("no holder panics") {
                None => Ok(()),
                waiting => Err(format!("{waiting:?}")),
            }
        })
        .await;
    }

    pub fn release(&self) {
        self.gate.held.send_replace(false);
    }

    /// Stops listening and cuts every connection.
    pub async fn go_down(&mut self) {
        self.server.go_down().await;
    }

    /// Listens again on the same address.
    pub async fn come_back(&mut self) {
        let (to, gate) = (self.to, Arc::clone(&self.gate));
        let serve = async move |listener: TcpListener| {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, to, Arc::clone(&gate)));
            }
        };
        self.server.come_back(serve).await;
    }
}

impl Gate {
    async fn open(&self) {
        // `self` owns the sender, so waiting never fails.
        let _ = self.held.subscribe().wait_for(|held| !held).await;
    }

    fn passed(&self, bytes: &[u8]) {
        let mut last = self.last.lock().expect("no holder panics");
        if last.is_some_and(|last| contains(bytes, last)) {
            *last = None;
            self.held.send_replace(true);
        }
    }

    async fn delayed(&self) {
        let delay = *self.delay.lock().expect("no holder panics");
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
    }

    /// The fault that these bytes of a client cause. `armed`: the client has sent [`Interception::after`].
    fn intercepted(&self, bytes: &[u8], armed: &mut bool) -> Option<Fault> {
        let mut interception = self.interception.lock().expect("no holder panics");
        let Interception { after, at, fault } = (*interception)?;
        *armed |= contains(bytes, after);
        if !*armed || !contains(bytes, at) {
            return None;
        }
        *interception = None;
        Some(fault)
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

async fn forward(client: TcpStream, to: u16, gate: Arc<Gate>) {
    let Ok(broker) = TcpStream::connect(("127.0.0.1", to)).await else { return };
    // Small requests and answers must not wait for each other: the servers and the relay set it as well.
    for stream in [&client, &broker] {
        let _ = stream.set_nodelay(true);
    }
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_broker, mut to_broker) = broker.into_split();
    let fault = OnceLock::new();
    tokio::select! {
        () = copy_requests(&mut from_client, &mut to_broker, &gate, &fault) => {}
        () = copy_answers(&mut from_broker, &mut to_client, &gate, &fault) => {}
    }
    gate.open().await;
}

async fn copy_requests(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf, gate: &Gate, fault: &OnceLock<Fault>) {
    let (mut buffer, mut armed) = (vec![0; 64 << 10], false);
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let bytes = &buffer[..read];
        gate.delayed().await;
        gate.open().await;
        if let Some(intercepted) = gate.intercepted(bytes, &mut armed) {
            // Before the server can answer.
            let _ = fault.set(intercepted);
        }
        if matches!(fault.get(), Some(Fault::CutRequest)) || to.write_all(bytes).await.is_err() {
            break;
        }
        gate.passed(bytes);
    }
}

async fn copy_answers(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf, gate: &Gate, fault: &OnceLock<Fault>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        gate.delayed().await;
        match fault.get() {
            None => {}
            Some(Fault::HoldAnswer) => continue,
            Some(Fault::CutRequest | Fault::CutAnswer) => break,
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
}
