//! The properties of a recorded message. JSON would keep them as well, but takes several times as long to write.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::event::{HeaderValue, Properties};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum StoredProperties<'a> {
    #[serde(borrow)]
    Plain(PlainProperties<'a>),
    /// All others, as [`Properties::to_json`] has them.
    #[serde(borrow)]
    Json(Cow<'a, str>),
}

/// Properties whose headers are of the types that REGARDS uses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct PlainProperties<'a> {
    content_type: Option<&'a str>,
    content_encoding: Option<&'a str>,
    delivery_mode: Option<u8>,
    priority: Option<u8>,
    correlation_id: Option<&'a str>,
    reply_to: Option<&'a str>,
    expiration: Option<&'a str>,
    message_id: Option<&'a str>,
    timestamp: Option<u64>,
    kind: Option<&'a str>,
    user_id: Option<&'a str>,
    app_id: Option<&'a str>,
    cluster_id: Option<&'a str>,
    #[serde(borrow)]
    headers: Vec<(&'a str, PlainValue<'a>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum PlainValue<'a> {
    Text(&'a str),
    Integer(i64),
    Bool(bool),
}

impl<'a> StoredProperties<'a> {
    pub(super) fn of(properties: &'a Properties) -> Self {
        PlainProperties::of(properties).map_or_else(|| Self::Json(Cow::Owned(properties.to_json())), Self::Plain)
    }

    pub(super) fn to_properties(&self) -> Result<Properties, String> {
        match self {
            Self::Plain(plain) => Ok(plain.to_properties()),
            Self::Json(json) => Properties::from_json(json).map_err(|error| error.to_string()),
        }
    }
}

impl<'a> PlainProperties<'a> {
    fn of(properties: &'a Properties) -> Option<Self> {
        let Properties { headers, headers_too_deep: false, not_utf8, .. } = properties else { return None };
        if !not_utf8.is_empty() {
            return None;
        }
        let plain = |(name, value): &'a (String, HeaderValue)| Some((name.as_str(), PlainValue::of(value)?));
        let headers = headers.iter().map(plain).collect::<Option<_>>()?;
        Some(Self {
            content_type: properties.content_type.as_deref(),
            content_encoding: properties.content_encoding.as_deref(),
            delivery_mode: properties.delivery_mode,
            priority: properties.priority,
            correlation_id: properties.correlation_id.as_deref(),
            reply_to: properties.reply_to.as_deref(),
            expiration: properties.expiration.as_deref(),
            message_id: properties.message_id.as_deref(),
            timestamp: properties.timestamp,
            kind: properties.kind.as_deref(),
            user_id: properties.user_id.as_deref(),
            app_id: properties.app_id.as_deref(),
            cluster_id: properties.cluster_id.as_deref(),
            headers,
        })
    }

    fn to_properties(&self) -> Properties {
        let text = |text: Option<&str>| text.map(str::to_owned);
        Properties {
            content_type: text(self.content_type),
            content_encoding: text(self.content_encoding),
            delivery_mode: self.delivery_mode,
            priority: self.priority,
            correlation_id: text(self.correlation_id),
            reply_to: text(self.reply_to),
            expiration: text(self.expiration),
            message_id: text(self.message_id),
            timestamp: self.timestamp,
            kind: text(self.kind),
            user_id: text(self.user_id),
            app_id: text(self.app_id),
            cluster_id: text(self.cluster_id),
            headers: self.headers.iter().map(|(name, value)| ((*name).to_owned(), value.to_value())).collect(),
            headers_too_deep: false,
            not_utf8: Vec::new(),
        }
    }
}

impl<'a> PlainValue<'a> {
    fn of(value: &'a HeaderValue) -> Option<Self> {
        match value {
            HeaderValue::Text(text) => Some(Self::Text(text)),
            HeaderValue::Integer(number) => Some(Self::Integer(*number)),
            HeaderValue::Bool(value) => Some(Self::Bool(*value)),
            _ => None,
        }
    }

    fn to_value(self) -> HeaderValue {
        match self {
            Self::Text(text) => HeaderValue::Text(text.to_owned()),
            Self::Integer(number) => HeaderValue::Integer(number),
            Self::Bool(value) => HeaderValue::Bool(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::event::NotUtf8;

    fn whole() -> Properties {
        let text = |text: &str| Some(text.to_owned());
        let header = |name: &str, value| (name.to_owned(), value);
        Properties {
            content_type: text("application/json"),
            content_encoding: text("UTF-8"),
            delivery_mode: Some(2),
            priority: Some(1),
            correlation_id: text("order-1"),
            reply_to: text("replies"),
            expiration: text("60000"),
            message_id: text("m-1"),
            timestamp: Some(1_681_461_977),
            kind: text("response"),
            user_id: text("regards"),
            app_id: text("rs-lta-manager"),
            cluster_id: text("c"),
            headers: vec![
                header("regards.tenant", HeaderValue::Text("cnes-a".to_owned())),
                header("x-delivery-count", HeaderValue::Integer(-3)),
                header("replayed", HeaderValue::Bool(true)),
            ],
            headers_too_deep: false,
            not_utf8: Vec::new(),
        }
    }

    /// Writes the properties and reads them. Also returns whether they are plain.
    fn read_back(properties: &Properties) -> (bool, Properties) {
        let written = postcard::to_allocvec(&StoredProperties::of(properties)).unwrap();
        let read: StoredProperties<'_> = postcard::from_bytes(&written).unwrap();
        (matches!(read, StoredProperties::Plain(_)), read.to_properties().unwrap())
    }

    #[test]
    fn the_usual_properties_are_plain() {
        for properties in [whole(), Properties::default()] {
            assert_eq!(read_back(&properties), (true, properties));
        }
    }

    #[test]
    fn all_others_are_kept_as_well() {
        let values = [
            HeaderValue::Null,
            HeaderValue::Float(0.5),
            HeaderValue::Timestamp(1),
            HeaderValue::Binary(Bytes::from_static(b"\xff")),
            HeaderValue::BinaryText(Bytes::from_static(b"\xff")),
            HeaderValue::Array(vec![HeaderValue::Bool(false)]),
            HeaderValue::Table(vec![("a".to_owned(), HeaderValue::Null)]),
        ];
        let with_header = values.map(|value| {
            let mut properties = whole();
            properties.headers.push(("more".to_owned(), value));
            properties
        });
        let not_utf8 = vec![NotUtf8 { place: "app_id".to_owned(), bytes: Bytes::from_static(b"\xff") }];
        let others = [Properties { headers_too_deep: true, ..whole() }, Properties { not_utf8, ..whole() }];
        for properties in with_header.into_iter().chain(others) {
            assert_eq!(read_back(&properties), (false, properties));
        }
    }
}
