//! A message as a source received it.

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use super::{AmqpNumber, SourceName};

/// The longest short string of AMQP 0.9.1, in bytes: names, routing keys and most properties are short strings.
pub const MAX_SHORT_STRING: usize = 255;

#[derive(Debug, Clone)]
pub struct Message {
    pub source: SourceName,
    pub body: Bytes,
    pub properties: Properties,
    /// The broker's redelivered flag: it was delivered before.
    pub redelivered: bool,
}

/// The basic properties and headers of AMQP 0.9.1.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Properties {
    pub content_type: Option<String>,
    /// REGARDS puts the character set here.
    pub content_encoding: Option<String>,
    pub delivery_mode: Option<u8>, // 1 transient, 2 persistent
    pub priority: Option<u8>,
    pub correlation_id: Option<String>,
    pub reply_to: Option<String>,
    pub expiration: Option<String>, // milliseconds
    pub message_id: Option<String>,
    pub timestamp: Option<u64>, // seconds since 1970
    pub kind: Option<String>,   // the property `type`
    pub user_id: Option<String>,
    /// The REGARDS service that sent the message.
    pub app_id: Option<String>,
    pub cluster_id: Option<String>,
    /// In the order of the message.
    pub headers: Vec<Header>,
    /// A header was nested deeper than the bound; the levels below the bound are left out.
    pub headers_too_deep: bool,
    /// The properties that are not UTF-8. They are absent above.
    pub not_utf8: Vec<NotUtf8>,
}

/// A property or the name of a header that is not UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotUtf8 {
    /// The name of a property; or `headers.` and the name that a header got instead; or [`UNREADABLE`] for all properties; or
    /// `headers` for headers that there was no room to keep.
    pub place: String,
    pub bytes: Bytes,
}

/// The `place` of a [`NotUtf8`] if none of the properties could be read.
pub const UNREADABLE: &str = "properties";

pub type Header = (String, HeaderValue);

/// An AMQP field value. The letters are the type tags of AMQP 0.9.1.
#[derive(Debug, Clone, PartialEq)]
pub enum HeaderValue {
    Null,
    Bool(bool),   // t
    Integer(i64), // l
    Float(f64),   // d
    /// A number of another type than `l` and `d`.
    Number(AmqpNumber),
    /// `T`, in seconds since 1970.
    Timestamp(u64),
    Text(String),
    Binary(Bytes), // x
    /// A string that is not UTF-8.
    BinaryText(Bytes),
    Array(Vec<HeaderValue>), // A
    Table(Vec<Header>),      // F
}

impl Message {
    /// How often a quorum queue delivered the message before (`x-delivery-count`); zero for other queues.
    #[must_use]
    pub fn delivery_count(&self) -> u64 {
        let counts = self.properties.headers.iter().filter(|(name, _)| name == "x-delivery-count");
        let count = counts.filter_map(|(_, value)| u64::try_from(value.integer()?).ok());
        count.max().unwrap_or(0)
    }

    /// The approximate size in memory, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        let Properties { headers, not_utf8, .. } = &self.properties;
        let not_utf8: usize = not_utf8.iter().map(|one| one.place.len() + one.bytes.len()).sum();
        self.body.len() + headers_size(headers) + not_utf8
    }

    /// A hash that is the same for every copy of one message: headers that a broker adds (`x-…`) are left out. The spool
    /// stores it, so its recipe never changes.
    #[must_use]
    pub fn fingerprint(&self) -> u128 {
        let properties = &self.properties;
        let mut hash = Xxh3::new();
        let mut part = |bytes: &[u8]| {
            hash.update(&(bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        part(&self.body);
        part(&properties.timestamp.unwrap_or(u64::MAX).to_be_bytes());
        for text in
            [&properties.correlation_id, &properties.message_id, &properties.app_id, &properties.content_encoding]
        {
            part(text.as_deref().unwrap_or_default().as_bytes());
        }
        for (name, value) in properties.headers.iter().filter(|(name, _)| !name.starts_with("x-")) {
            part(name.as_bytes());
            match (value, value.integer()) {
                (HeaderValue::Text(text), _) => part(text.as_bytes()),
                (_, Some(value)) => part(&value.to_be_bytes()),
                // Rare in REGARDS' headers; the other parts are enough to tell messages apart.
                _ => {}
            }
        }
        for NotUtf8 { place, bytes } in &properties.not_utf8 {
            part(place.as_bytes());
            part(bytes);
        }
        hash.digest128()
    }
}

fn headers_size(headers: &[Header]) -> usize {
    headers.iter().map(|(name, value)| name.len() + size_of::<String>() + value.size()).sum()
}

impl HeaderValue {
    /// The value, if the type is an integer.
    #[must_use]
    pub fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(value) => Some(*value),
            Self::Number(number) => number.integer(),
            _ => None,
        }
    }

    /// The approximate size in memory, in bytes.
    fn size(&self) -> usize {
        let content = match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) | Self::BinaryText(bytes) => bytes.len(),
            Self::Array(values) => values.iter().map(Self::size).sum(),
            Self::Table(headers) => headers_size(headers),
            Self::Null | Self::Bool(_) | Self::Integer(_) | Self::Number(_) | Self::Float(_) | Self::Timestamp(_) => 0,
        };
        size_of::<Self>() + content
    }

    /// The type for people: "a number".
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Integer(_) | Self::Float(_) | Self::Number(_) => "a number",
            Self::Timestamp(_) => "a timestamp",
            Self::Text(_) => "text",
            Self::Binary(_) | Self::BinaryText(_) => "binary",
            Self::Array(_) => "an array",
            Self::Table(_) => "a table",
        }
    }
}

impl Properties {
    /// The first header of that name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&HeaderValue> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }
}
