//! Edits one frame's payload so that lapin's parser accepts it. The parser is the measure, not the specification: it accepts the types
//! that `RabbitMQ` knows, and demands that every table and array ends where its length says.

use super::edits::{MessageEdits, TextLocation};
use crate::event::MAX_SHORT_STRING;

/// The depth of nested arrays and tables; deeper ones become byte arrays. It is the depth that a body's JSON may have, and more than an
/// event's headers may have ([`MAX_HEADER_DEPTH`](crate::amqp::values::MAX_HEADER_DEPTH)). Unoptimized, lapin's parser needs 10 KiB of
/// stack for each level, 1.2 MiB in all; a thread has 2 MiB.
pub const MAX_DEPTH: usize = 128;

/// The length of a content header's class, weight, body size and flags.
const FIXED: usize = 14;
/// The flags of the two properties that replace unreadable ones.
const CONTENT_TYPE: u16 = 1 << 15;
const HEADERS: u16 = 1 << 13;
/// With the octet for its length.
const MAX_ENCODED_SHORT_STRING: usize = 1 + MAX_SHORT_STRING;

#[derive(Clone, Copy)]
enum PropertyType {
    ShortString,
    Table,
    Octet,
    Timestamp,
}

/// The properties in the order of their flags, from the highest bit down (AMQP 0.9.1, 4.2.6.1).
const PROPERTIES: [(&str, PropertyType); 14] = [
    ("content_type", PropertyType::ShortString),
    ("content_encoding", PropertyType::ShortString),
    ("headers", PropertyType::Table),
    ("delivery_mode", PropertyType::Octet),
    ("priority", PropertyType::Octet),
    ("correlation_id", PropertyType::ShortString),
    ("reply_to", PropertyType::ShortString),
    ("expiration", PropertyType::ShortString),
    ("message_id", PropertyType::ShortString),
    ("timestamp", PropertyType::Timestamp),
    ("type", PropertyType::ShortString),
    ("user_id", PropertyType::ShortString),
    ("app_id", PropertyType::ShortString),
    ("cluster_id", PropertyType::ShortString),
];

/// The methods that the guard distinguishes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// A message with this delivery tag follows.
    Delivery(u64),
    ChannelOpened,
    Other,
}

/// Edits the short strings of a method that come from other clients: names, routing keys, and error texts that quote them.
pub(super) fn rewrite_method(payload: &mut [u8]) -> Method {
    let Some((&[c1, c0, m1, m0], arguments)) = payload.split_first_chunk_mut::<4>().map(|(id, rest)| (&*id, rest))
    else {
        return Method::Other;
    };
    let mut edits = MessageEdits::default();
    let mut rewriter = Rewriter::new(arguments, &mut edits);
    // In a layout, `s` is a short string, and a digit is a number of octets.
    match (u16::from_be_bytes([c1, c0]), u16::from_be_bytes([m1, m0])) {
        // basic.deliver: consumer tag, delivery tag, redelivered, exchange, routing key
        (60, 60) => rewriter.arguments(b"s").and_then(|()| rewriter.long()).map_or(Method::Other, |tag| {
            let _ = rewriter.arguments(b"1ss");
            Method::Delivery(tag)
        }),
        // basic.get-ok: delivery tag, redelivered, exchange, routing key, message count
        (60, 71) => rewriter.long().map_or(Method::Other, |tag| {
            let _ = rewriter.arguments(b"1ss");
            Method::Delivery(tag)
        }),
        // basic.return: code, text, exchange, routing key
        (60, 50) => rewriter.other(b"2sss"),
        // basic.consume-ok, basic.cancel, basic.cancel-ok: consumer tag; queue.declare-ok: queue; connection.blocked: reason
        (60, 21 | 30 | 31) | (50, 11) | (10, 60) => rewriter.other(b"s"),
        // connection.close, channel.close: code, text. Brokers cut the text at 255 bytes, which may be within a character.
        (10, 50) | (20, 40) => rewriter.other(b"2s"),
        (20, 11) => Method::ChannelOpened,
        _ => Method::Other,
    }
}

/// Edits a content header. Returns the edits, if there were any.
pub(super) fn rewrite_content_header(payload: &mut [u8]) -> Option<MessageEdits> {
    let (fixed, properties) = payload.split_first_chunk_mut::<FIXED>()?;
    let [.., high, low] = *fixed;
    let mut edits = MessageEdits::default();
    let mut rewriter = Rewriter::new(properties, &mut edits);
    if rewriter.properties(u16::from_be_bytes([high, low])).is_none() {
        edits = MessageEdits::unreadable(properties);
        let flags = replace_properties(properties);
        let [.., high, low] = fixed;
        [*high, *low] = flags.to_be_bytes();
    }
    (!edits.is_empty()).then_some(edits)
}

/// Overwrites properties by readable ones of the same length. Returns their flags.
fn replace_properties(properties: &mut [u8]) -> u16 {
    let length = properties.len();
    match properties {
        [first, text @ ..] if length <= MAX_ENCODED_SHORT_STRING => {
            text.fill(b'?');
            *first = u8::try_from(text.len()).unwrap_or(u8::MAX);
            CONTENT_TYPE
        }
        // A table with one header, which has an empty name and a byte array.
        [t3, t2, t1, t0, name, kind, v3, v2, v1, v0, value @ ..] => {
            let size = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
            [*t3, *t2, *t1, *t0] = size(length - 4);
            [*v3, *v2, *v1, *v0] = size(value.len());
            (*name, *kind) = (0, b'x');
            HEADERS
        }
        // Never: more than 256 bytes are more than ten.
        _ => 0,
    }
}

/// Reads fields as lapin's parser does, and edits what the parser would refuse. Its functions return `None` where the parser would refuse
/// the whole payload.
struct Rewriter<'a> {
    bytes: &'a mut [u8],
    at: usize,
    /// The end of the innermost table or array.
    end: usize,
    edits: &'a mut MessageEdits,
}

impl<'a> Rewriter<'a> {
    fn new(bytes: &'a mut [u8], edits: &'a mut MessageEdits) -> Self {
        let end = bytes.len();
        Self { bytes, at: 0, end, edits }
    }

    fn other(&mut self, layout: &[u8]) -> Method {
        let _ = self.arguments(layout);
        Method::Other
    }

    fn arguments(&mut self, layout: &[u8]) -> Option<()> {
        for argument in layout {
            match argument {
                b's' => self.short_string(TextLocation::Argument)?,
                octets => self.skip(usize::from(octets.saturating_sub(b'0')))?,
            }
        }
        Some(())
    }

    fn properties(&mut self, flags: u16) -> Option<()> {
        let set = PROPERTIES.iter().zip((0..16).rev()).filter(|(_, bit)| flags & (1 << bit) != 0);
        for ((name, kind), _) in set {
            match kind {
                PropertyType::ShortString => self.short_string(TextLocation::Property(name))?,
                PropertyType::Octet => self.skip(1)?,
                PropertyType::Timestamp => self.skip(8)?,
                PropertyType::Table => {
                    let length = self.length()?;
                    self.inside(length, |rewriter| rewriter.table(0))?;
                }
            }
        }
        (self.at == self.end).then_some(())
    }

    fn table(&mut self, depth: usize) -> Option<()> {
        while self.at < self.end {
            self.short_string(TextLocation::HeaderName)?;
            self.value(depth)?;
        }
        Some(())
    }

    fn array(&mut self, depth: usize) -> Option<()> {
        while self.at < self.end {
            self.value(depth)?;
        }
        Some(())
    }

    fn value(&mut self, depth: usize) -> Option<()> {
        let at = self.at;
        match self.octet()? {
            b'V' => Some(()),
            b't' | b'b' | b'B' => self.skip(1),
            b's' | b'U' | b'u' => self.skip(2),
            b'I' | b'i' | b'f' => self.skip(4),
            b'D' => self.skip(5),
            b'L' | b'l' | b'd' | b'T' => self.skip(8),
            b'S' | b'x' => {
                let length = self.length()?;
                self.skip(length)
            }
            kind @ (b'A' | b'F') => self.nested(kind, at, depth + 1),
            _ => None,
        }
    }

    /// An array or table. Its type is at `kind_at`.
    fn nested(&mut self, kind: u8, kind_at: usize, depth: usize) -> Option<()> {
        let length = self.length()?;
        let start = self.at;
        if depth > MAX_DEPTH {
            self.edits.set_too_deep();
            self.make_bytes(kind_at);
            return self.skip(length);
        }
        let changes = self.edits.mark();
        let read = self.inside(length, |rewriter| {
            Some(if kind == b'F' { rewriter.table(depth) } else { rewriter.array(depth) })
        })?;
        if read.is_none() {
            // It is not a valid array or table. Its original bytes are restored.
            for (at, original) in self.edits.undo(changes) {
                if let Some(to) = self.bytes.get_mut(at..at + original.len()) {
                    to.copy_from_slice(&original);
                }
            }
            self.edits.set_unreadable_value();
            self.make_bytes(kind_at);
            self.at = start + length;
        }
        Some(())
    }

    fn make_bytes(&mut self, kind_at: usize) {
        if let Some(kind) = self.bytes.get_mut(kind_at) {
            *kind = b'x';
        }
    }

    /// Calls `then` with the payload limited to the next `length` bytes.
    fn inside<T>(&mut self, length: usize, then: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.end)?;
        let outer = std::mem::replace(&mut self.end, end);
        let read = then(self);
        self.end = outer;
        read
    }

    fn short_string(&mut self, location: TextLocation) -> Option<()> {
        let length = usize::from(self.octet()?);
        let start = self.at;
        self.skip(length)?;
        let text = self.bytes.get_mut(start..self.at)?;
        if !text.is_ascii() && std::str::from_utf8(text).is_err() {
            let original: Box<[u8]> = (&*text).into();
            replace_invalid_utf8(text);
            self.edits.add(location, start, original, text);
        }
        Some(())
    }

    fn octet(&mut self) -> Option<u8> {
        let at = self.at;
        self.skip(1)?;
        self.bytes.get(at).copied()
    }

    fn length(&mut self) -> Option<usize> {
        let at = self.at;
        self.skip(4)?;
        let length = self.bytes.get(at..)?.first_chunk::<4>()?;
        usize::try_from(u32::from_be_bytes(*length)).ok()
    }

    fn long(&mut self) -> Option<u64> {
        let at = self.at;
        self.skip(8)?;
        Some(u64::from_be_bytes(*self.bytes.get(at..)?.first_chunk::<8>()?))
    }

    fn skip(&mut self, length: usize) -> Option<()> {
        self.at = self.at.checked_add(length).filter(|at| *at <= self.end)?;
        Some(())
    }
}

/// Replaces each byte that is not part of a character by `?`.
fn replace_invalid_utf8(mut text: &mut [u8]) {
    while let Err(error) = std::str::from_utf8(text) {
        let (_, wrong) = text.split_at_mut(error.valid_up_to());
        let (wrong, rest) = wrong.split_at_mut(error.error_len().unwrap_or(wrong.len()));
        wrong.fill(b'?');
        text = rest;
    }
}
