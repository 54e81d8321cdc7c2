//! What a source received, before anything is made of it.

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use super::{AmqpNumber, SourceName};

/// One AMQP message as it was received.
#[derive(Debug, Clone)]
pub struct Message {
    /// The source that received it.
    pub source: SourceName,
    /// The body, byte for byte.
    pub body: Bytes,
    /// The AMQP properties and headers.
    pub properties: Properties,
    /// The broker says that it was delivered before.
    pub redelivered: bool,
}

/// The AMQP 0.9.1 basic properties of a message.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Properties {
    /// `content_type`: MIME type of the body.
    pub content_type: Option<String>,
    /// `content_encoding`: REGARDS puts the character set here.
    pub content_encoding: Option<String>,
    /// `delivery_mode`: 1 transient, 2 persistent.
    pub delivery_mode: Option<u8>,
    /// `priority`: 0 to 255.
    pub priority: Option<u8>,
    /// `correlation_id`.
    pub correlation_id: Option<String>,
    /// `reply_to`.
    pub reply_to: Option<String>,
    /// `expiration`: milliseconds, as text.
    pub expiration: Option<String>,
    /// `message_id`: REGARDS never sets it.
    pub message_id: Option<String>,
    /// `timestamp`: seconds since 1970.
    pub timestamp: Option<u64>,
    /// `type`.
    pub kind: Option<String>,
    /// `user_id`.
    pub user_id: Option<String>,
    /// `app_id`: the REGARDS service that sent it.
    pub app_id: Option<String>,
    /// `cluster_id`.
    pub cluster_id: Option<String>,
    /// The headers in the order they came.
    pub headers: Vec<Header>,
    /// Some header was nested deeper than the bound, and what lay below it was left out.
    pub headers_too_deep: bool,
    /// What can't be read: such a property is none.
    pub not_utf8: Vec<NotUtf8>,
}

/// Something of the properties that is no UTF-8, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotUtf8 {
    /// A property's name; `headers.` and what a header is called instead; [`UNREADABLE`] for all of them; `headers` for what there was
    /// no room to keep.
    pub place: String,
    /// Its bytes.
    pub bytes: Bytes,
}

/// Where [`NotUtf8`] stands for properties of which none could be read.
pub const UNREADABLE: &str = "properties";

/// One header: its name and its value.
pub type Header = (String, HeaderValue);

/// The value of a header: an AMQP field value.
#[derive(Debug, Clone, PartialEq)]
pub enum HeaderValue {
    /// No value.
    Null,
    /// `t`.
    Bool(bool),
    /// `l`.
    Integer(i64),
    /// `d`.
    Float(f64),
    /// Of any other type.
    Number(AmqpNumber),
    /// `T`: seconds since 1970.
    Timestamp(u64),
    /// A string in UTF-8.
    Text(String),
    /// `x`.
    Binary(Bytes),
    /// A string that is not UTF-8.
    BinaryText(Bytes),
    /// `A`.
    Array(Vec<HeaderValue>),
    /// `F`.
    Table(Vec<Header>),
}

impl Message {
    /// How often a quorum queue gave it out before, as the queue says; zero where it doesn't.
    #[must_use]
    pub fn delivery_count(&self) -> u64 {
        let counts = self.properties.headers.iter().filter(|(name, _)| name == "x-delivery-count");
        let count = counts.filter_map(|(_, value)| u64::try_from(value.integer()?).ok());
        count.max().unwrap_or(0)
    }

    /// What it takes in memory, in bytes, about.
    #[must_use]
    pub fn size(&self) -> usize {
        let Properties { headers, not_utf8, .. } = &self.properties;
        let not_utf8: usize = not_utf8.iter().map(|one| one.place.len() + one.bytes.len()).sum();
        self.body.len() + headers_size(headers) + not_utf8
    }

    /// A hash that is the same for every copy of one message: what the broker adds on its way (`x-…`) is left out. It is kept
    /// on disk, so it never changes.
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
                // Rare in REGARDS' headers, and what stands beside them tells messages apart.
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
    /// What it is worth, if it is whole by its type.
    #[must_use]
    pub fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(value) => Some(*value),
            Self::Number(number) => number.integer(),
            _ => None,
        }
    }

    /// What it takes in memory, in bytes.
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

    /// What it is, for people: "a number".
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
    /// The header of that name, the first if there are several.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&HeaderValue> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }
}
