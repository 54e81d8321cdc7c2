//! What status a connection's answer begins with, read beside the HTTP client's own parser.
//!
//! A receiver that answers 2xx has the event, however odd the rest of its answer's head is: too long, no HTTP, cut off or never
//! ending. The client then has an error and nothing else, so the status is read from the bytes before it sees them. HTTP/1
//! only: of a malformed HTTP/2 answer nothing counts (RFC 9113, 8.1.1).

use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use http::StatusCode;
use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// `HTTP/1.1 200`, and one more, which has to end the number.
const STATUS: usize = 13;

/// What was read of the answer to the request under way on a connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen(Arc<Mutex<Head>>);

#[derive(Debug)]
enum Head {
    /// In a status line, of which this much was read.
    Line(Vec<u8>),
    /// In the rest of that status line.
    Rest(StatusCode),
    /// In the headers of an interim answer; whether their current line is empty so far.
    Interim { is_empty: bool },
    /// The answer has that status. What comes now is not looked at.
    Final(StatusCode),
    /// It is no answer of HTTP/1.
    Unreadable,
}

impl Default for Head {
    fn default() -> Self {
        Self::Line(Vec::new())
    }
}

impl Seen {
    /// A request begins: what comes from now on answers it.
    pub(super) fn begin(&self) {
        *self.lock() = Head::default();
    }

    /// The status of the answer, once its line was read.
    pub(super) fn status(&self) -> Option<StatusCode> {
        match *self.lock() {
            Head::Final(status) => Some(status),
            _ => None,
        }
    }

    /// Whether both are of the same connection.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn feed(&self, bytes: &[u8]) {
        let mut head = self.lock();
        for byte in bytes {
            if matches!(*head, Head::Final(_) | Head::Unreadable) {
                return;
            }
            head.feed(*byte);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Head> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Head {
    fn feed(&mut self, byte: u8) {
        match self {
            // Empty lines before it are skipped (RFC 9112, 2.2).
            Self::Line(read) if read.is_empty() && matches!(byte, b'\r' | b'\n') => {}
            Self::Line(read) => {
                read.push(byte);
                if read.len() == STATUS {
                    *self = match status(read) {
                        Some(status) if byte == b'\n' => Self::of(status),
                        Some(status) => Self::Rest(status),
                        None => Self::Unreadable,
                    };
                }
            }
            Self::Rest(status) if byte == b'\n' => *self = Self::of(*status),
            Self::Interim { is_empty } => match byte {
                b'\n' if *is_empty => *self = Self::default(),
                b'\n' => *is_empty = true,
                b'\r' => {}
                _ => *is_empty = false,
            },
            Self::Rest(_) | Self::Final(_) | Self::Unreadable => {}
        }
    }

    /// After a whole status line.
    fn of(status: StatusCode) -> Self {
        if status.is_informational() { Self::Interim { is_empty: true } } else { Self::Final(status) }
    }
}

/// The status of the beginning of a status line (RFC 9112, 4).
fn status(line: &[u8]) -> Option<StatusCode> {
    let (&end, line) = line.split_last()?;
    let (digit, line) = line.strip_prefix(b"HTTP/1.")?.split_first()?;
    let number = line.strip_prefix(b" ")?;
    let is_whole = digit.is_ascii_digit() && matches!(end, b' ' | b'\r' | b'\n');
    is_whole.then(|| StatusCode::from_bytes(number).ok()).flatten()
}

/// A connection whose answers' statuses are read on the way.
pub(super) struct Watched<S> {
    pub stream: S,
    pub seen: Seen,
    /// It leads to a proxy that passes requests on, not to where they go.
    pub is_proxy: bool,
    pub is_http2: bool,
}

impl<S: Unpin> Connection for Watched<S> {
    fn connected(&self) -> Connected {
        let connected = Connected::new().proxy(self.is_proxy);
        if self.is_http2 { connected.negotiated_h2() } else { connected.extra(self.seen.clone()) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if !self.is_http2 && matches!(polled, Poll::Ready(Ok(()))) {
            self.seen.feed(buffer.filled().get(before..).unwrap_or_default());
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status_of(answer: &str) -> Option<u16> {
        let seen = Seen::default();
        for byte in answer.bytes() {
            seen.feed(&[byte]);
        }
        let whole = Seen::default();
        whole.feed(answer.as_bytes());
        assert_eq!(seen.status(), whole.status(), "{answer:?}");
        seen.status().map(|status| status.as_u16())
    }

    #[test]
    fn the_status_is_that_of_the_first_final_status_line() {
        for (answer, status) in [
            ("HTTP/1.1 200 OK\r\n", Some(200)),
            ("HTTP/1.0 204\n", Some(204)),
            ("\r\n\r\nHTTP/1.1 503 \r\nHTTP/1.1 200 OK\r\n", Some(503)),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\na: b\r\n\r\nHTTP/1.1 202 Accepted\r\n", Some(202)),
            ("HTTP/1.1 100 Continue\r\nHTTP/1.1 200 OK\r\n", None),
            ("HTTP/1.1 200 OK", None),
            ("HTTP/1.1 2000 OK\r\n", None),
            ("HTTP/2.0 200 OK\r\n", None),
            ("http/1.1 200 OK\r\n", None),
            ("nonsense\r\nHTTP/1.1 200 OK\r\n", None),
        ] {
            assert_eq!(status_of(answer), status, "{answer:?}");
        }
    }

    #[test]
    fn an_answer_of_before_is_forgotten_when_a_request_begins() {
        let seen = Seen::default();
        seen.feed(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        seen.begin();
        assert_eq!(seen.status(), None);
    }
}
