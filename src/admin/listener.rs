//! A TCP listener for [`axum::serve()`] whose connections are bounded in number, time and bytes.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, Take};
use tokio::net::{TcpListener, TcpStream};

use super::ACCEPT_PAUSE;
use super::connections::{Connections, Slot};

/// The largest number of connections; beyond it the oldest idle one is closed.
pub(super) const MAX_CONNECTIONS: usize = 32;
/// The time for a client to send its request.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// The time that a client then has to read the response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest request, in bytes.
const MAX_REQUEST: u64 = 16 * 1024;

pub(super) struct BoundedListener {
    listener: TcpListener,
    connections: Connections,
}

impl BoundedListener {
    pub(super) async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self { listener, connections: Connections::new(MAX_CONNECTIONS) })
    }
}

impl Listener for BoundedListener {
    type Io = BoundedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (BoundedStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => return (BoundedStream::new(stream, self.connections.add()), address),
                Err(error) => {
                    tracing::debug!(%error, "the admin listener can't accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection for one request: it fails when its time is over or its slot is needed, and ends after `MAX_REQUEST` bytes.
pub(super) struct BoundedStream {
    stream: Take<TcpStream>,
    slot: Slot,
    end: futures_util::future::Fuse<BoxFuture<'static, ()>>,
}

impl BoundedStream {
    fn new(stream: TcpStream, slot: Slot) -> Self {
        let end = end(slot.clone()).boxed().fuse();
        Self { stream: stream.take(MAX_REQUEST), slot, end }
    }

    fn check_end(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.end.poll_unpin(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }

    fn write_half(&mut self) -> Pin<&mut TcpStream> {
        Pin::new(self.stream.get_mut())
    }
}

async fn end(slot: Slot) {
    let timeout = async {
        tokio::time::sleep(REQUEST_TIMEOUT).await;
        if slot.has_request() {
            tokio::time::sleep(RESPONSE_TIMEOUT).await;
        }
    };
    tokio::select! {
        () = timeout => {}
        () = slot.closed() => {}
    }
}

impl AsyncRead for BoundedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_end(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check_end(context)?;
        // The first byte of the response shows that the request is complete.
        self.slot.set_has_request();
        self.write_half().poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write_half().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write_half().poll_shutdown(context)
    }
}
