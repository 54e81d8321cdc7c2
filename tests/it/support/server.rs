//! A server that a test can take down, with every connection, and bring back at its address.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::until;

/// A server in a runtime of its own on a port of 127.0.0.1. It stops when dropped.
pub struct Server {
    address: SocketAddr,
    /// None while it is down.
    runtime: Option<Runtime>,
}

impl Server {
    /// It is down until [`come_back`](Self::come_back), which takes a free port the first time.
    pub fn new() -> Self {
        Self { address: SocketAddr::from(([127, 0, 0, 1], 0)), runtime: None }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Stops listening and cuts every connection.
    pub async fn go_down(&mut self) {
        let runtime = self.runtime.take().expect("it is up");
        let stopped = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(Duration::from_secs(5)));
        stopped.await.expect("stopped");
    }

    /// Listens on its address, and serves by `serve`.
    pub async fn come_back<F>(&mut self, serve: impl FnOnce(TcpListener) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        assert!(self.runtime.is_none(), "it is up");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (handle, address) = (runtime.handle().clone(), self.address);
        let listener = until(&format!("{address} to be free"), async || {
            let bound = handle.spawn(TcpListener::bind(address)).await.expect("not cancelled");
            bound.map_err(|error| error.to_string())
        })
        .await;
        self.address = listener.local_addr().expect("an address");
        runtime.spawn(serve(listener));
        self.runtime = Some(runtime);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
