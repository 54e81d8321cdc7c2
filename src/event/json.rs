//! The JSON of message bodies: the bound on its depth, the mistakes that are tolerated, and its members without copies.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Reason;

/// Arrays and objects in a body can be nested so deep.
pub(super) const MAX_DEPTH: usize = 128;

/// The members of an object in their order, duplicates included.
pub(super) struct ObjectMembers<'a>(pub Vec<(Cow<'a, str>, &'a RawValue)>);

pub(super) fn members(text: &str) -> Result<ObjectMembers<'_>, (Reason, String)> {
    serde_json::from_str(text).map_err(|error| match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) if error.is_data() => {
            (Reason::NotAnObject, format!("the body is {}; expected an object", kind_of(text.trim_start())))
        }
        _ => (Reason::NotJson, format!("the body is not JSON: {error}")),
    })
}

/// Whether arrays and objects are nested deeper than [`MAX_DEPTH`].
pub(super) fn too_deep(text: &str) -> bool {
    deeper_than(text, MAX_DEPTH)
}

/// Whether arrays and objects are nested deeper than that. Doesn't recurse, and works for any text.
pub(super) fn deeper_than(text: &str, levels: usize) -> bool {
    // Only a text with more opening brackets can be too deep. Counting them is many times faster than the scan.
    if count_opening(text.as_bytes()) <= levels {
        return false;
    }
    let mut depth = 0_usize;
    let mut deepest = 0;
    tokens(text, |_, byte| {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    });
    deepest > levels
}

/// Counts in pieces of at most 255 bytes, so that a byte holds the sum and the compiler can vectorize.
fn count_opening(text: &[u8]) -> usize {
    // `[` and `{` differ in this bit only; no other byte becomes `{` by it.
    const BETWEEN: u8 = b'[' ^ b'{';
    let piece = |piece: &[u8]| piece.iter().map(|byte| u8::from(byte | BETWEEN == b'{')).sum::<u8>();
    text.chunks(255).map(|bytes| usize::from(piece(bytes))).sum()
}

/// `text` with each trailing comma of an object or array replaced by a space; none if there is no such comma.
///
/// Commas with nothing before them (`[,]`, `[1,,]`) stay, and stay errors.
pub(super) fn without_trailing_commas(text: &str) -> Option<String> {
    let mut trailing = Vec::new();
    let mut before = None;
    let mut comma = None;
    tokens(text, |at, byte| {
        if byte.is_ascii_whitespace() {
            return;
        }
        if matches!(byte, b'}' | b']') {
            trailing.extend(comma);
        }
        comma = (byte == b',' && !matches!(before, None | Some(b',' | b'{' | b'[' | b':'))).then_some(at);
        before = Some(byte);
    });
    if trailing.is_empty() {
        return None;
    }
    let mut relaxed = String::with_capacity(text.len());
    let mut from = 0;
    for at in trailing {
        relaxed.push_str(text.get(from..at)?);
        relaxed.push(' ');
        from = at + 1;
    }
    relaxed.push_str(text.get(from..)?);
    Some(relaxed)
}

/// Calls `each` with the offset and value of every byte outside strings, and of the opening quote of each string.
fn tokens(text: &str, mut each: impl FnMut(usize, u8)) {
    let mut in_string = false;
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        if !in_string {
            in_string = byte == b'"';
            each(at, byte);
        } else if escaped {
            escaped = false;
        } else {
            escaped = byte == b'\\';
            in_string = byte != b'"';
        }
    }
}

/// The same value without white space between its tokens.
pub(super) fn compact(raw: &RawValue) -> Box<RawValue> {
    let text = raw.get();
    if !text.bytes().any(|byte| byte.is_ascii_whitespace()) {
        return raw.to_owned();
    }
    let mut compact = String::with_capacity(text.len());
    let mut in_string = false;
    let mut escaped = false;
    for char in text.chars() {
        if in_string {
            if escaped {
                escaped = false;
            } else {
                escaped = char == '\\';
                in_string = char != '"';
            }
        } else if char.is_ascii_whitespace() {
            continue;
        } else {
            in_string = char == '"';
        }
        compact.push(char);
    }
    RawValue::from_string(compact).unwrap_or_else(|_| raw.to_owned())
}

/// A value as far as the event's own fields need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TextValue<'a> {
    Empty, // `null` or `""`
    /// Text that is not empty.
    Text(Cow<'a, str>),
    /// Any other value: its type for people.
    Other(&'static str),
}

impl<'a> TextValue<'a> {
    pub(super) fn of(raw: &'a RawValue) -> Self {
        let json = raw.get();
        let Some(inner) = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
            return if json == "null" { Self::Empty } else { Self::Other(kind_of(json)) };
        };
        if inner.is_empty() {
            Self::Empty
        } else if inner.contains('\\') {
            // JSON's grammar allows half a surrogate pair, Unicode doesn't.
            serde_json::from_str(json)
                .map_or(Self::Other("text that is not Unicode"), |text| Self::Text(Cow::Owned(text)))
        } else {
            Self::Text(Cow::Borrowed(inner))
        }
    }
}

/// The type of a JSON value for people: "a number".
pub(super) fn kind_of(json: &str) -> &'static str {
    match json.bytes().next() {
        Some(b'"') => "text",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for ObjectMembers<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = ObjectMembers<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                // Enough for the largest family.
                let mut members = Vec::with_capacity(8);
                while let Some((Name(name), value)) = map.next_entry()? {
                    members.push((name, value));
                }
                Ok(ObjectMembers(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}
