//! Reads the status of each response on a connection, beside the HTTP client's own parser.
//!
//! A server that answers 2xx has the request, even if the rest of the response's head is malformed, too long, cut off or never
//! ends. In these cases the HTTP client returns only an error, so the status is read from the bytes before the client parses
//! them. Only for HTTP/1: a malformed HTTP/2 response counts as none (RFC 9113, 8.1.1).

use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use http::StatusCode;
use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The length of `HTTP/1.1 200` and one more byte, which has to end the number.
const STATUS_LEN: usize = 13;

/// The state of reading the response to the request in flight on a connection.
#[derive(Debug, Clone, Default)]
pub(super) struct StatusReader(Arc<Mutex<HeadState>>);

#[derive(Debug)]
enum HeadState {
    /// At a status line, of which these bytes were read.
    StatusLine(Vec<u8>),
    /// In the reason phrase of the status line.
    Reason(StatusCode),
    /// In the headers of an interim response (1xx); whether their current line is empty so far.
    Interim { is_empty: bool },
    /// The response has that status. All further bytes are ignored.
    Final(StatusCode),
    /// This is no HTTP/1 response.
    Invalid,
}

impl Default for HeadState {
    fn default() -> Self {
        Self::StatusLine(Vec::new())
    }
}

impl StatusReader {
    /// Called when a request is sent: the next bytes are its response.
    pub(super) fn reset(&self) {
        *self.lock() = HeadState::default();
    }

    /// The status of the response, once its status line was read.
    pub(super) fn status(&self) -> Option<StatusCode> {
        match *self.lock() {
            HeadState::Final(status) => Some(status),
            _ => None,
        }
    }

    /// Whether both belong to the same connection.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn feed(&self, bytes: &[u8]) {
        let mut head = self.lock();
        for byte in bytes {
            if matches!(*head, HeadState::Final(_) | HeadState::Invalid) {
                return;
            }
            head.feed(*byte);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HeadState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HeadState {
    fn feed(&mut self, byte: u8) {
        match self {
            // Empty lines before the status line are skipped (RFC 9112, 2.2).
            Self::StatusLine(read) if read.is_empty() && matches!(byte, b'\r' | b'\n') => {}
            Self::StatusLine(read) => {
                read.push(byte);
                if read.len() == STATUS_LEN {
                    *self = match status(read) {
                        Some(status) if byte == b'\n' => Self::after(status),
                        Some(status) => Self::Reason(status),
                        None => Self::Invalid,
                    };
                }
            }
            Self::Reason(status) if byte == b'\n' => *self = Self::after(*status),
            Self::Interim { is_empty } => match byte {
                b'\n' if *is_empty => *self = Self::default(),
                b'\n' => *is_empty = true,
                b'\r' => {}
                _ => *is_empty = false,
            },
            Self::Reason(_) | Self::Final(_) | Self::Invalid => {}
        }
    }

    /// The state after a complete status line.
    fn after(status: StatusCode) -> Self {
        if status.is_informational() { Self::Interim { is_empty: true } } else { Self::Final(status) }
    }
}

/// Parses the beginning of a status line (RFC 9112, 4).
fn status(line: &[u8]) -> Option<StatusCode> {
    let (&end, line) = line.split_last()?;
    let (digit, line) = line.strip_prefix(b"HTTP/1.")?.split_first()?;
    let number = line.strip_prefix(b" ")?;
    let is_whole = digit.is_ascii_digit() && matches!(end, b' ' | b'\r' | b'\n');
    is_whole.then(|| StatusCode::from_bytes(number).ok()).flatten()
}

/// A connection whose bytes pass through a [`StatusReader`].
pub(super) struct StatusStream<S> {
    pub stream: S,
    pub status_reader: StatusReader,
    /// Whether the peer is a proxy that forwards the requests, rather than the server.
    pub is_proxy: bool,
    pub is_http2: bool,
}

impl<S: Unpin> Connection for StatusStream<S> {
    fn connected(&self) -> Connected {
        let connected = Connected::new().proxy(self.is_proxy);
        if self.is_http2 { connected.negotiated_h2() } else { connected.extra(self.status_reader.clone()) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for StatusStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if !self.is_http2 && matches!(polled, Poll::Ready(Ok(()))) {
            self.status_reader.feed(buffer.filled().get(before..).unwrap_or_default());
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for StatusStream<S> {
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
        let reader = StatusReader::default();
        for byte in answer.bytes() {
            reader.feed(&[byte]);
        }
        let whole = StatusReader::default();
        whole.feed(answer.as_bytes());
        assert_eq!(reader.status(), whole.status(), "{answer:?}");
        reader.status().map(|status| status.as_u16())
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
    fn the_previous_response_is_forgotten_when_a_request_is_sent() {
        let reader = StatusReader::default();
        reader.feed(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        reader.reset();
        assert_eq!(reader.status(), None);
    }
}
