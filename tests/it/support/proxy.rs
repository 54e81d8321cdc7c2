//! A TCP proxy before a broker: cuts off or delays one client while the broker serves all others.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::server::Server;

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
        if last.is_some_and(|last| bytes.windows(last.len()).any(|part| part == last)) {
            *last = None;
            self.held.send_replace(true);
        }
    }
}

async fn forward(client: TcpStream, to: u16, gate: Arc<Gate>) {
    let Ok(broker) = TcpStream::connect(("127.0.0.1", to)).await else { return };
    // Small requests and answers must not wait for each other: the servers and the relay set it as well.
    for stream in [&client, &broker] {
        let _ = stream.set_nodelay(true);
    }
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_broker, mut to_broker) = broker.into_split();
    tokio::select! {
        () = copy(&mut from_client, &mut to_broker, Some(&gate)) => {}
        () = copy(&mut from_broker, &mut to_client, None) => {}
    }
    gate.open().await;
}

async fn copy(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf, gate: Option<&Gate>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if let Some(gate) = gate {
            gate.open().await;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
        if let Some(gate) = gate {
            gate.passed(&buffer[..read]);
        }
    }
}
