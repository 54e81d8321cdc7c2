//! One frame's payload, made to be what lapin's parser takes. The parser is the measure, not the specification: it takes the types
//! that `RabbitMQ` knows, and demands that every table and array ends where its length says.

use super::notes::{Note, Place};

/// Arrays and tables lie inside one another so deep at most; what is deeper becomes a byte array. The same as a body's JSON may have, and
/// more than an event's headers may have ([`MAX_HEADER_DEPTH`](crate::amqp::values::MAX_HEADER_DEPTH)). Unoptimized, lapin's parser takes
/// 10 KiB of stack a level, 1.2 MiB for all; a thread has 2 MiB.
pub const MAX_DEPTH: usize = 128;

/// A content header's class, weight, body size and flags.
const FIXED: usize = 14;
/// The flags of the two properties by which a header that can't be read is replaced.
const CONTENT_TYPE: u16 = 1 << 15;
const HEADERS: u16 = 1 << 13;
/// What a short string takes at most, with its length.
const LONGEST_SHORT: usize = 256;

#[derive(Clone, Copy)]
enum Kind {
    Short,
    Table,
    Octet,
    Long,
}

/// The properties in the order of their flags, from the highest bit down (AMQP 0.9.1, 4.2.6.1).
const PROPERTIES: [(&str, Kind); 14] = [
    ("content_type", Kind::Short),
    ("content_encoding", Kind::Short),
    ("headers", Kind::Table),
    ("delivery_mode", Kind::Octet),
    ("priority", Kind::Octet),
    ("correlation_id", Kind::Short),
    ("reply_to", Kind::Short),
    ("expiration", Kind::Short),
    ("message_id", Kind::Short),
    ("timestamp", Kind::Long),
    ("type", Kind::Short),
    ("user_id", Kind::Short),
    ("app_id", Kind::Short),
    ("cluster_id", Kind::Short),
];

/// What a method means to the guard.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// A message follows, with this delivery tag.
    Delivery(u64),
    /// The channel is new.
    ChannelOpened,
    Other,
}

/// Edits the short strings of a method that say what outside data says: names, routing keys, and the reasons that quote them.
pub(super) fn method(payload: &mut [u8]) -> Method {
    let Some((&[c1, c0, m1, m0], arguments)) = payload.split_first_chunk_mut::<4>().map(|(id, rest)| (&*id, rest))
    else {
        return Method::Other;
    };
    let mut note = Note::default();
    let mut walk = Walk::new(arguments, &mut note);
    // s: a short string, a number: so many octets.
    match (u16::from_be_bytes([c1, c0]), u16::from_be_bytes([m1, m0])) {
        // basic.deliver: consumer tag, delivery tag, redelivered, exchange, routing key
        (60, 60) => walk.arguments(b"s").and_then(|()| walk.long()).map_or(Method::Other, |tag| {
            let _ = walk.arguments(b"1ss");
            Method::Delivery(tag)
        }),
        // basic.get-ok: delivery tag, redelivered, exchange, routing key, message count
        (60, 71) => walk.long().map_or(Method::Other, |tag| {
            let _ = walk.arguments(b"1ss");
            Method::Delivery(tag)
        }),
        // basic.return: code, text, exchange, routing key
        (60, 50) => walk.others(b"2sss"),
        // basic.consume-ok, basic.cancel, basic.cancel-ok: consumer tag; queue.declare-ok: queue; connection.blocked: reason
        (60, 21 | 30 | 31) | (50, 11) | (10, 60) => walk.others(b"s"),
        // connection.close, channel.close: code, text. Brokers cut the text at 255 bytes, which may be within a character.
        (10, 50) | (20, 40) => walk.others(b"2s"),
        (20, 11) => Method::ChannelOpened,
        _ => Method::Other,
    }
}

/// Edits a content header. None: nothing was to be edited.
pub(super) fn content_header(payload: &mut [u8]) -> Option<Note> {
    let (fixed, properties) = payload.split_first_chunk_mut::<FIXED>()?;
    let [.., high, low] = *fixed;
    let mut note = Note::default();
    let mut walk = Walk::new(properties, &mut note);
    if walk.properties(u16::from_be_bytes([high, low])).is_none() {
        note = Note::unreadable(properties);
        let flags = replace(properties);
        let [.., high, low] = fixed;
        [*high, *low] = flags.to_be_bytes();
    }
    (!note.is_empty()).then_some(note)
}

/// Properties of just this length that can be read. Returns their flags.
fn replace(properties: &mut [u8]) -> u16 {
    let length = properties.len();
    match properties {
        [first, text @ ..] if length <= LONGEST_SHORT => {
            text.fill(b'?');
            *first = u8::try_from(text.len()).unwrap_or(u8::MAX);
            CONTENT_TYPE
        }
        // A table with one header, whose name is empty and whose value is a byte array.
        [t3, t2, t1, t0, name, kind, v3, v2, v1, v0, value @ ..] => {
            let size = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
            [*t3, *t2, *t1, *t0] = size(length - 4);
            [*v3, *v2, *v1, *v0] = size(value.len());
            (*name, *kind) = (0, b'x');
            HEADERS
        }
        // None: more than 256 bytes are more than ten.
        _ => 0,
    }
}

/// Goes over fields as lapin's parser does, and edits what that would refuse. None: it would refuse the whole.
struct Walk<'a> {
    bytes: &'a mut [u8],
    at: usize,
    /// Where the innermost table or array ends.
    end: usize,
    note: &'a mut Note,
}

impl<'a> Walk<'a> {
    fn new(bytes: &'a mut [u8], note: &'a mut Note) -> Self {
        let end = bytes.len();
        Self { bytes, at: 0, end, note }
    }

    fn others(&mut self, layout: &[u8]) -> Method {
        let _ = self.arguments(layout);
        Method::Other
    }

    fn arguments(&mut self, layout: &[u8]) -> Option<()> {
        for argument in layout {
            match argument {
                b's' => self.short(Place::Argument)?,
                octets => self.skip(usize::from(octets.saturating_sub(b'0')))?,
            }
        }
        Some(())
    }

    fn properties(&mut self, flags: u16) -> Option<()> {
        let set = PROPERTIES.iter().zip((0..16).rev()).filter(|(_, bit)| flags & (1 << bit) != 0);
        for ((name, kind), _) in set {
            match kind {
                Kind::Short => self.short(Place::Property(name))?,
                Kind::Octet => self.skip(1)?,
                Kind::Long => self.skip(8)?,
                Kind::Table => {
                    let length = self.length()?;
                    self.inside(length, |walk| walk.table(0))?;
                }
            }
        }
        (self.at == self.end).then_some(())
    }

    fn table(&mut self, depth: usize) -> Option<()> {
        while self.at < self.end {
            self.short(Place::HeaderName)?;
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

    /// An array or table, whose type stands at `kind_at`.
    fn nested(&mut self, kind: u8, kind_at: usize, depth: usize) -> Option<()> {
        let length = self.length()?;
        let start = self.at;
        if depth > MAX_DEPTH {
            self.note.set_too_deep();
            self.make_bytes(kind_at);
            return self.skip(length);
        }
        let changes = self.note.mark();
        let read =
            self.inside(length, |walk| Some(if kind == b'F' { walk.table(depth) } else { walk.array(depth) }))?;
        if read.is_none() {
            // It isn't what it says it is. Its bytes are as they came.
            for (at, original) in self.note.undo(changes) {
                if let Some(to) = self.bytes.get_mut(at..at + original.len()) {
                    to.copy_from_slice(&original);
                }
            }
            self.note.set_unreadable_value();
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

    /// Does something with the next `length` bytes as if they were all.
    fn inside<T>(&mut self, length: usize, then: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.end)?;
        let outer = std::mem::replace(&mut self.end, end);
        let read = then(self);
        self.end = outer;
        read
    }

    fn short(&mut self, place: Place) -> Option<()> {
        let length = usize::from(self.octet()?);
        let start = self.at;
        self.skip(length)?;
        let text = self.bytes.get_mut(start..self.at)?;
        if !text.is_ascii() && std::str::from_utf8(text).is_err() {
            let original: Box<[u8]> = (&*text).into();
            mend(text);
            self.note.add(place, start, original, text);
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

/// Makes `?` of each byte that belongs to no character.
fn mend(mut text: &mut [u8]) {
    while let Err(error) = std::str::from_utf8(text) {
        let (_, wrong) = text.split_at_mut(error.valid_up_to());
        let (wrong, rest) = wrong.split_at_mut(error.error_len().unwrap_or(wrong.len()));
        wrong.fill(b'?');
        text = rest;
    }
}
