//! What lapin reads, made harmless before lapin sees it.
//!
//! `RabbitMQ` carries any bytes in a short string and any depth of nested headers. lapin makes a connection error of the first and
//! a recursion of the second, so one message could hold up a queue for good. The guard follows the framing (AMQP 0.9.1, 4.2.3) and
//! edits in place, never changing a length: what is no UTF-8 in a short string becomes `?`, an array or table that is nested too
//! deep or can't be read becomes a byte array. What it changed in a message is a [`Note`], kept until the message is handed over.
//!
//! Pure: bytes in, as many bytes and notes out. It holds back at most one frame, and only one that it may have to edit; bodies pass
//! as they come. It knows nothing of sockets.

mod edit;
mod notes;
#[cfg(test)]
mod tests;

pub use edit::MAX_DEPTH;
pub use notes::{Note, Notes, Original, Place};

use std::io;
use std::sync::Arc;
use std::task::Poll;

/// The largest frame, in bytes: what `RabbitMQ` proposes by default, and the most that is accepted of a broker.
pub const MAX_FRAME: u32 = 128 * 1024;

/// A frame's kind, channel and size.
const HEAD: usize = 7;
/// The octet behind the payload.
const END: usize = 1;
/// So much of a frame is read at once while it is held back.
const PIECE: usize = 16 * 1024;
/// A buffer larger than this isn't kept for the next frame.
const KEPT: usize = 16 * 1024;
/// Deliveries whose content header has not come yet, over all channels.
const MAX_ANNOUNCED: usize = 4_096;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;

/// The state between two reads.
#[derive(Debug)]
pub struct Guard {
    state: State,
    held: Vec<u8>,
    /// Channel and delivery tag of messages whose content header is to come.
    announced: Vec<(u16, u64)>,
    notes: Arc<Notes>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// A frame begins.
    Boundary,
    /// So many bytes of a frame are none of ours.
    Passing(usize),
    /// A frame is collected in `held`.
    Holding,
    /// `held` goes out from `given` on, and of its frame `passing` more bytes follow.
    Releasing { given: usize, passing: usize },
    /// This isn't AMQP 0.9.1: lapin says so.
    Blind,
}

impl Guard {
    /// Notes what it changes in `notes`.
    #[must_use]
    pub fn new(notes: Arc<Notes>) -> Self {
        Self { state: State::Boundary, held: Vec::new(), announced: Vec::new(), notes }
    }

    /// Fills `buffer` from `read`, which is called as a stream's `poll_read` would be, until something may go on, or nothing more
    /// comes. `Ok(0)` is the end.
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
            if matches!(self.state, State::Holding) {
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

    /// Edits the frames that are whole in `bytes`, and takes a last one that isn't. Returns how many of them may go on.
    fn pass(&mut self, bytes: &mut [u8]) -> usize {
        let mut at = 0;
        loop {
            let Some(rest) = bytes.get_mut(at..).filter(|rest| !rest.is_empty()) else { return at };
            match self.state {
                State::Blind => return bytes.len(),
                State::Passing(left) if left > rest.len() => {
                    self.state = State::Passing(left - rest.len());
                    return bytes.len();
                }
                State::Passing(left) => {
                    at += left;
                    self.state = State::Boundary;
                }
                State::Boundary => match Head::read(rest) {
                    None => return self.hold(rest, at),
                    Some(head) if head.is_strange() => self.state = State::Blind,
                    Some(head) if !head.concerns_us() => self.state = State::Passing(head.length()),
                    Some(head) if head.length() > rest.len() => return self.hold(rest, at),
                    Some(head) => {
                        self.edit(&head, rest);
                        at += head.length();
                    }
                },
                State::Holding | State::Releasing { .. } => return at,
            }
        }
    }

    fn hold(&mut self, rest: &[u8], at: usize) -> usize {
        self.held.extend_from_slice(rest);
        self.state = State::Holding;
        at
    }

    /// Reads more of the frame that is held, and edits it once it is whole.
    fn hold_more(&mut self, read: &mut impl FnMut(&mut [u8]) -> Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let had = self.held.len();
        let whole = Head::read(&self.held).map_or(HEAD, |head| head.length());
        self.held.resize(whole.min(had + PIECE), 0);
        let polled = read(self.held.get_mut(had..).unwrap_or_default());
        let length = if let Poll::Ready(Ok(length)) = polled { length } else { 0 };
        self.held.truncate(had + length);
        if let Some(head) = Head::read(&self.held) {
            if head.is_strange() || !head.concerns_us() {
                let passing = if head.is_strange() { usize::MAX } else { head.length() - HEAD };
                self.state = State::Releasing { given: 0, passing };
            } else if self.held.len() == head.length() {
                let mut held = std::mem::take(&mut self.held);
                self.edit(&head, &mut held);
                self.held = held;
                self.state = State::Releasing { given: 0, passing: 0 };
            }
        }
        polled
    }

    fn release(&mut self, buffer: &mut [u8]) -> usize {
        let State::Releasing { given, passing } = self.state else { return 0 };
        let left = self.held.get(given..).unwrap_or_default();
        let length = left.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..length), left.get(..length)) {
            to.copy_from_slice(from);
        }
        if length < left.len() {
            self.state = State::Releasing { given: given + length, passing };
            return length;
        }
        self.held.clear();
        self.held.shrink_to(KEPT);
        self.state = match passing {
            0 => State::Boundary,
            usize::MAX => State::Blind,
            passing => State::Passing(passing),
        };
        length
    }

    /// Edits a whole frame.
    fn edit(&mut self, head: &Head, frame: &mut [u8]) {
        let Some(payload) = frame.get_mut(HEAD..head.length() - END) else { return };
        if head.kind == METHOD {
            match edit::method(payload) {
                edit::Method::Delivery(tag) => {
                    self.forget(head.channel);
                    if self.announced.len() < MAX_ANNOUNCED {
                        self.announced.push((head.channel, tag));
                    }
                }
                // Its delivery tags start anew.
                edit::Method::ChannelOpened => {
                    self.forget(head.channel);
                    self.notes.forget(head.channel);
                }
                edit::Method::Other => {}
            }
        } else {
            let note = edit::content_header(payload);
            let delivery = self.forget(head.channel);
            if let (Some(note), Some(tag)) = (note, delivery) {
                self.notes.put(head.channel, tag, note);
            }
        }
    }

    /// The delivery that was announced on a channel, no longer awaited.
    fn forget(&mut self, channel: u16) -> Option<u64> {
        let at = self.announced.iter().position(|(known, _)| *known == channel)?;
        Some(self.announced.swap_remove(at).1)
    }
}

struct Head {
    kind: u8,
    channel: u16,
    size: usize,
}

impl Head {
    fn read(frame: &[u8]) -> Option<Self> {
        let [kind, c1, c0, s3, s2, s1, s0] = *frame.first_chunk::<HEAD>()?;
        let size = usize::try_from(u32::from_be_bytes([s3, s2, s1, s0])).ok()?;
        Some(Self { kind, channel: u16::from_be_bytes([c1, c0]), size })
    }

    /// The whole frame's.
    fn length(&self) -> usize {
        HEAD.saturating_add(self.size).saturating_add(END)
    }

    fn is_strange(&self) -> bool {
        !matches!(self.kind, METHOD | HEADER | BODY | HEARTBEAT)
    }

    /// Of a frame that is too large lapin says so.
    fn concerns_us(&self) -> bool {
        matches!(self.kind, METHOD | HEADER) && self.length() <= MAX_FRAME as usize
    }
}
