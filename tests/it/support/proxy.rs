//! A TCP proxy before a broker: to cut one client off, or to keep it waiting, while the broker serves all others.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::until;

/// Forwards to one port of 127.0.0.1. Down when dropped.
pub struct Proxy {
    to: u16,
    address: SocketAddr,
    held: watch::Sender<bool>,
    server: Option<Runtime>,
}

impl Proxy {
    pub async fn to(port: u16) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut proxy = Self { to: port, address, held: watch::Sender::new(false), server: None };
        proxy.come_back().await;
        proxy
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// What clients send stays here until [`release`](Self::release); connections stay open.
    pub fn hold(&self) {
        self.held.send_replace(true);
    }

    pub fn release(&self) {
        self.held.send_replace(false);
    }

    /// Nobody listens any more, and every connection is cut.
    pub async fn go_down(&mut self) {
        let server = self.server.take().expect("it is up");
        let stopped = tokio::task::spawn_blocking(move || server.shutdown_timeout(Duration::from_secs(5)));
        stopped.await.expect("stopped");
    }

    /// Listens again, where it did before.
    pub async fn come_back(&mut self) {
        assert!(self.server.is_none(), "it is up");
        let server = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let server = server.expect("a runtime");
        let handle = server.handle().clone();
        let address = self.address;
        let listener = until(&format!("{address} to be free"), async || {
            let bound = handle.spawn(TcpListener::bind(address)).await.expect("not cancelled");
            bound.map_err(|error| error.to_string())
        })
        .await;
        self.address = listener.local_addr().expect("an address");
        let to = self.to;
        let held = self.held.subscribe();
        server.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, to, held.clone()));
            }
        });
        self.server = Some(server);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.shutdown_background();
        }
    }
}

async fn forward(client: TcpStream, to: u16, held: watch::Receiver<bool>) {
    let Ok(broker) = TcpStream::connect(("127.0.0.1", to)).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_broker, to_broker) = broker.into_split();
    tokio::select! {
        () = copy(from_client, to_broker, held) => {}
        () = copy(from_broker, to_client, watch::Sender::new(false).subscribe()) => {}
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut held: watch::Receiver<bool>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        // Whoever could hold it being gone is as good as released.
        let _ = held.wait_for(|held| !held).await;
        if to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
}
