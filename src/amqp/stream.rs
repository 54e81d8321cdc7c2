//! The stream that lapin reads: a socket, TLS where configured, then the guard. It can be cut from outside: lapin's thread waits for its
//! socket without a deadline, and would wait for ever for a broker that doesn't answer a handshake or a close.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_rs::traits::{Executor, Reactor, RuntimeKit};
use async_rs::util::Task;
use futures_io::{AsyncRead, AsyncWrite};
use futures_util::Stream;
use futures_util::task::AtomicWaker;
use lapin::tcp::AsyncTcpStream;
use tokio::net::TcpStream;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

use super::guard::{EditLog, Guard, MessageEdits};

type Socket = Compat<TcpStream>;

/// A broker's bytes, edited by the guard.
pub(super) struct BrokerStream {
    inner: AsyncTcpStream<Socket>,
    guard: Guard,
    shared: Arc<SharedState>,
}

/// What a stream and its [`StreamHandle`] share.
#[derive(Debug, Default)]
struct SharedState {
    is_cut: AtomicBool,
    reader: AtomicWaker,
    edit_log: Arc<EditLog>,
    /// The first bytes of the broker's first answer.
    first: OnceLock<[u8; 4]>,
}

/// Access to a stream that lapin owns.
#[derive(Debug, Clone)]
pub(super) struct StreamHandle(Arc<SharedState>);

impl BrokerStream {
    pub(super) fn new(inner: AsyncTcpStream<Socket>) -> (Self, StreamHandle) {
        let shared = Arc::<SharedState>::default();
        let guard = Guard::new(Arc::clone(&shared.edit_log));
        let handle = StreamHandle(Arc::clone(&shared));
        (Self { inner, guard, shared }, handle)
    }

    pub(super) fn plain(socket: TcpStream) -> AsyncTcpStream<Socket> {
        AsyncTcpStream::Plain(socket.compat())
    }

    /// The result of a poll, or an error if the stream was cut.
    fn unless_cut<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if self.shared.is_cut.load(Ordering::Acquire) {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the relay closed the connection",
            )));
        }
        polled
    }
}

impl StreamHandle {
    /// Ends the stream: lapin gets an error, ends its thread, and closes the socket.
    pub(super) fn cut(&self) {
        self.0.is_cut.store(true, Ordering::Release);
        self.0.reader.wake();
    }

    /// Whether lapin has dropped the stream.
    pub(super) fn is_closed(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// The first bytes of the broker's first answer, if there was one.
    pub(super) fn first_bytes(&self) -> Option<[u8; 4]> {
        self.0.first.get().copied()
    }

    pub(super) fn take_edits(&self, channel: u16, delivery_tag: u64) -> Option<MessageEdits> {
        self.0.edit_log.take(channel, delivery_tag)
    }
}

impl AsyncRead for BrokerStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = this.guard.poll_read(buffer, |buffer| {
            let polled = Pin::new(&mut this.inner).poll_read(cx, buffer);
            if matches!(polled, Poll::Ready(Ok(4..)))
                && this.shared.first.get().is_none()
                && let Some(first) = buffer.first_chunk()
            {
                // Later calls change nothing.
                let _ = this.shared.first.set(*first);
            }
            polled
        });
        if polled.is_pending() {
            this.shared.reader.register(cx.waker());
        }
        this.unless_cut(polled)
    }
}

// `cut` doesn't wake a pending write, but it wakes lapin's loop, which also reads.
impl AsyncWrite for BrokerStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, buffer);
        self.unless_cut(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(cx, buffers);
        self.unless_cut(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_flush(cx);
        self.unless_cut(polled)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_close(cx);
        if polled.is_pending() {
            self.shared.reader.register(cx.waker());
        }
        self.unless_cut(polled)
    }
}

/// Tokio in the form that lapin asks for, with [`BrokerStream`] as the TCP stream.
#[derive(Debug, Clone)]
pub(super) struct LapinRuntime(async_rs::Tokio);

impl LapinRuntime {
    pub(super) fn current() -> async_rs::Runtime<Self> {
        async_rs::Runtime::new(Self(async_rs::Tokio::current()))
    }
}

impl RuntimeKit for LapinRuntime {}

impl Executor for LapinRuntime {
    type Task<T: Send + 'static> = <async_rs::Tokio as Executor>::Task<T>;

    fn block_on<T, F: Future<Output = T>>(&self, future: F) -> T {
        self.0.block_on(future)
    }

    fn spawn<T: Send + 'static, F: Future<Output = T> + Send + 'static>(&self, future: F) -> Task<Self::Task<T>> {
        self.0.spawn(future)
    }

    fn spawn_blocking<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(&self, work: F) -> Task<Self::Task<T>> {
        self.0.spawn_blocking(work)
    }
}

impl Reactor for LapinRuntime {
    type TcpStream = BrokerStream;
    type Sleep = <async_rs::Tokio as Reactor>::Sleep;

    /// lapin never calls this: the connector gives it its streams.
    #[expect(refining_impl_trait, reason = "the trait's bound is private to its crate")]
    fn register<H: io::Read + io::Write + Send + 'static>(&self, _: H) -> io::Result<BrokerStream> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.0.sleep(duration)
    }

    fn interval(&self, duration: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(duration)
    }

    #[expect(clippy::manual_async_fn, reason = "the future must not borrow from this")]
    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        async move {
            let socket = TcpStream::connect(address).await?;
            Ok(BrokerStream::new(BrokerStream::plain(socket)).0)
        }
    }
}
