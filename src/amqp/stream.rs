//! The stream that lapin reads: a socket, TLS where there is any, then the guard. It can be cut off from outside: lapin's thread waits
//! for its socket without a deadline, and would wait for ever for a broker that is silent while it should shake hands or close.

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

use super::guard::{Guard, Note, Notes};

/// What TLS is put on.
type Socket = Compat<TcpStream>;

/// Bytes of a broker that lapin can take.
pub(super) struct BrokerStream {
    inner: AsyncTcpStream<Socket>,
    guard: Guard,
    line: Arc<Line>,
}

/// What a stream and its [`Handle`] share.
#[derive(Debug, Default)]
struct Line {
    is_cut: AtomicBool,
    reader: AtomicWaker,
    notes: Arc<Notes>,
    /// What the broker's first answer begins with.
    first: OnceLock<[u8; 4]>,
}

/// Reaches a stream that lapin has.
#[derive(Debug, Clone)]
pub(super) struct Handle(Arc<Line>);

impl BrokerStream {
    pub(super) fn new(inner: AsyncTcpStream<Socket>) -> (Self, Handle) {
        let line = Arc::<Line>::default();
        let guard = Guard::new(Arc::clone(&line.notes));
        let handle = Handle(Arc::clone(&line));
        (Self { inner, guard, line }, handle)
    }

    pub(super) fn plain(socket: TcpStream) -> AsyncTcpStream<Socket> {
        AsyncTcpStream::Plain(socket.compat())
    }

    /// What was polled, unless the stream is cut off.
    fn unless_cut<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if self.line.is_cut.load(Ordering::Acquire) {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the connection was given up")));
        }
        polled
    }
}

impl Handle {
    /// Ends the stream: lapin gets an error, ends its thread, and closes the socket.
    pub(super) fn cut(&self) {
        self.0.is_cut.store(true, Ordering::Release);
        self.0.reader.wake();
    }

    /// lapin has let the stream go.
    pub(super) fn is_closed(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// What the broker's first answer begins with; none: there was none.
    pub(super) fn first_bytes(&self) -> Option<[u8; 4]> {
        self.0.first.get().copied()
    }

    pub(super) fn take_note(&self, channel: u16, delivery_tag: u64) -> Option<Note> {
        self.0.notes.take(channel, delivery_tag)
    }
}

impl AsyncRead for BrokerStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = this.guard.poll_read(buffer, |buffer| {
            let polled = Pin::new(&mut this.inner).poll_read(cx, buffer);
            if matches!(polled, Poll::Ready(Ok(4..)))
                && this.line.first.get().is_none()
                && let Some(first) = buffer.first_chunk()
            {
                // Only the first ones stay.
                let _ = this.line.first.set(*first);
            }
            polled
        });
        if polled.is_pending() {
            this.line.reader.register(cx.waker());
        }
        this.unless_cut(polled)
    }
}

// A write that waits is not woken by `cut`, but lapin's loop, which also reads, is.
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
            self.line.reader.register(cx.waker());
        }
        self.unless_cut(polled)
    }
}

/// Tokio, as lapin asks for it, with streams of ours.
#[derive(Debug, Clone)]
pub(super) struct Runtime(async_rs::Tokio);

impl Runtime {
    /// The runtime that this is called in.
    pub(super) fn current() -> async_rs::Runtime<Self> {
        async_rs::Runtime::new(Self(async_rs::Tokio::current()))
    }
}

impl RuntimeKit for Runtime {}

impl Executor for Runtime {
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

impl Reactor for Runtime {
    type TcpStream = BrokerStream;
    type Sleep = <async_rs::Tokio as Reactor>::Sleep;

    /// lapin registers nothing: its streams are what the connector gives it.
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
