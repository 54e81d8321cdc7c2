//! Edits a broker's frames before lapin reads them, so that no message can end the connection.
//!
//! `RabbitMQ` carries any bytes in a short string and any depth of nested headers. lapin answers the first with a connection error and
//! the second with deep recursion, so one message could block a queue for good. The guard follows the framing (AMQP 0.9.1, 4.2.3) and
//! edits in place, without changing a length: bytes that are not UTF-8 in a short string become `?`; an array or table that is nested
//! too deep or can't be read becomes a byte array. The edits of a message are kept as [`MessageEdits`] until the message is handed over.
//!
//! Pure: bytes in, as many bytes and the edits out. The guard holds back at most one frame, and only one that it may have to edit;
//! bodies pass as they come. It knows nothing of sockets.

mod edits;
mod rewrite;
#[cfg(test)]
mod tests;

pub use edits::{Edit, EditLog, MessageEdits, TextLocation};
pub use rewrite::MAX_DEPTH;

use std::io;
use std::sync::Arc;
use std::task::Poll;

/// The largest frame, in bytes: the default of `RabbitMQ`, and the most that the relay agrees to.
pub const MAX_FRAME: u32 = 128 * 1024;

/// The length of a frame's type, channel and size.
const HEAD: usize = 7;
/// The length of the octet after the payload.
const END: usize = 1;
/// The bytes that are read at once of a frame that is held back.
const READ_SIZE: usize = 16 * 1024;
/// A larger buffer isn't kept for the next frame.
const MAX_KEPT_BUFFER: usize = 16 * 1024;
/// The deliveries of all channels together whose content header is awaited.
const MAX_ANNOUNCED: usize = 4_096;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;

#[derive(Debug)]
pub struct Guard {
    state: GuardState,
    held: Vec<u8>,
    /// The channel and delivery tag of messages whose content header is awaited.
    announced: Vec<(u16, u64)>,
    edit_log: Arc<EditLog>,
}

#[derive(Debug, Clone, Copy)]
enum GuardState {
    /// At the beginning of a frame.
    Boundary,
    /// Within a frame that needs no edit, with the number of its remaining bytes.
    Passing(usize),
    /// Collecting a frame in `held`.
    Holding,
    /// Returning `held` from the offset `released` on; then `passing` more bytes of the same frame follow.
    Releasing { released: usize, passing: usize },
    /// Not AMQP 0.9.1: everything passes, and lapin returns the error.
    Disabled,
}

impl Guard {
    /// A guard that records its edits in `edit_log`.
    #[must_use]
    pub fn new(edit_log: Arc<EditLog>) -> Self {
        Self { state: GuardState::Boundary, held: Vec::new(), announced: Vec::new(), edit_log }
    }

    /// Fills `buffer` with edited bytes. `read` is called like a stream's `poll_read`, until there are bytes to return or the stream ends
    /// (`Ok(0)`).
    pub fn poll_read(
        &mut self,
        buffer: &mut [u8],
        mut read: impl FnMut(&mut [u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if buffer.is_empty() {
            return Poll::Ready(Ok(0));
        }
        loop {
            let released = self.release(buffer);
            if released > 0 {
                return Poll::Ready(Ok(released));
            }
            if matches!(self.state, GuardState::Holding) {
                match self.hold_more(&mut read) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Ok(0)),
                    Poll::Ready(Ok(_)) => continue,
                    other => return other,
                }
            }
            let length = match read(buffer) {
                Poll::Ready(Ok(length)) => length,
                other => return other,
            };
            let passed = self.pass(buffer.get_mut(..length).unwrap_or_default());
            if length == 0 || passed > 0 {
                return Poll::Ready(Ok(passed));
            }
        }
    }

    /// Edits the complete frames in `bytes`, and holds back an incomplete last one. Returns the number of bytes that may be returned.
    fn pass(&mut self, bytes: &mut [u8]) -> usize {
        let mut at = 0;
        loop {
            let Some(rest) = bytes.get_mut(at..).filter(|rest| !rest.is_empty()) else { return at };
            match self.state {
                GuardState::Disabled => return bytes.len(),
                GuardState::Passing(left) if left > rest.len() => {
                    self.state = GuardState::Passing(left - rest.len());
                    return bytes.len();
                }
                GuardState::Passing(left) => {
                    at += left;
                    self.state = GuardState::Boundary;
                }
                GuardState::Boundary => match FrameHead::read(rest) {
                    None => return self.hold(rest, at),
                    Some(head) if head.is_unknown() => self.state = GuardState::Disabled,
                    Some(head) if !head.is_editable() => self.state = GuardState::Passing(head.length()),
                    Some(head) if head.length() > rest.len() => return self.hold(rest, at),
                    Some(head) => {
                        self.edit(&head, rest);
                        at += head.length();
                    }
                },
                GuardState::Holding | GuardState::Releasing { .. } => return at,
            }
        }
    }

    fn hold(&mut self, rest: &[u8], at: usize) -> usize {
        self.held.extend_from_slice(rest);
        self.state = GuardState::Holding;
        at
    }

    /// Reads more of the held frame, and edits it once it is complete.
    fn hold_more(&mut self, read: &mut impl FnMut(&mut [u8]) -> Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let had = self.held.len();
        let whole = FrameHead::read(&self.held).map_or(HEAD, |head| head.length());
        self.held.resize(whole.min(had + READ_SIZE), 0);
        let polled = read(self.held.get_mut(had..).unwrap_or_default());
        let length = if let Poll::Ready(Ok(length)) = polled { length } else { 0 };
        self.held.truncate(had + length);
        if let Some(head) = FrameHead::read(&self.held) {
            if head.is_unknown() || !head.is_editable() {
                let passing = if head.is_unknown() { usize::MAX } else { head.length() - HEAD };
                self.state = GuardState::Releasing { released: 0, passing };
            } else if self.held.len() == head.length() {
                let mut held = std::mem::take(&mut self.held);
                self.edit(&head, &mut held);
                self.held = held;
                self.state = GuardState::Releasing { released: 0, passing: 0 };
            }
        }
        polled
    }

    fn release(&mut self, buffer: &mut [u8]) -> usize {
        let GuardState::Releasing { released, passing } = self.state else { return 0 };
        let left = self.held.get(released..).unwrap_or_default();
        let length = left.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..length), left.get(..length)) {
            to.copy_from_slice(from);
        }
        if length < left.len() {
            self.state = GuardState::Releasing { released: released + length, passing };
            return length;
        }
        self.held.clear();
        self.held.shrink_to(MAX_KEPT_BUFFER);
        self.state = match passing {
            0 => GuardState::Boundary,
            usize::MAX => GuardState::Disabled,
            passing => GuardState::Passing(passing),
        };
        length
    }

    fn edit(&mut self, head: &FrameHead, frame: &mut [u8]) {
        let Some(payload) = frame.get_mut(HEAD..head.length() - END) else { return };
        if head.kind == METHOD {
            match rewrite::rewrite_method(payload) {
                rewrite::Method::Delivery(tag) => {
                    self.take_announced(head.channel);
                    if self.announced.len() < MAX_ANNOUNCED {
                        self.announced.push((head.channel, tag));
                    }
                }
                // Delivery tags restart.
                rewrite::Method::ChannelOpened => {
                    self.take_announced(head.channel);
                    self.edit_log.remove_channel(head.channel);
                }
                rewrite::Method::Other => {}
            }
        } else {
            let edits = rewrite::rewrite_content_header(payload);
            let delivery = self.take_announced(head.channel);
            if let (Some(edits), Some(tag)) = (edits, delivery) {
                self.edit_log.insert(head.channel, tag, edits);
            }
        }
    }

    /// The delivery tag of the message whose content header comes next on a channel.
    fn take_announced(&mut self, channel: u16) -> Option<u64> {
        let at = self.announced.iter().position(|(known, _)| *known == channel)?;
        Some(self.announced.swap_remove(at).1)
    }
}

struct FrameHead {
    kind: u8,
    channel: u16,
    size: usize,
}

impl FrameHead {
    fn read(frame: &[u8]) -> Option<Self> {
        let [kind, c1, c0, s3, s2, s1, s0] = *frame.first_chunk::<HEAD>()?;
        let size = usize::try_from(u32::from_be_bytes([s3, s2, s1, s0])).ok()?;
        Some(Self { kind, channel: u16::from_be_bytes([c1, c0]), size })
    }

    /// The length of the complete frame.
    fn length(&self) -> usize {
        HEAD.saturating_add(self.size).saturating_add(END)
    }

    fn is_unknown(&self) -> bool {
        !matches!(self.kind, METHOD | HEADER | BODY | HEARTBEAT)
    }

    /// Whether the frame may need an edit. lapin itself refuses a frame that is too large.
    fn is_editable(&self) -> bool {
        matches!(self.kind, METHOD | HEADER) && self.length() <= MAX_FRAME as usize
    }
}
