//! Which headers a delivery has: the relay's own, the format's, and the received headers that are passed through. All sinks
//! use these functions, so that no sink passes through a header that another one withholds.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::event::{
    AmqpNumber, EncodedBody, Event, EventView, Format, HOPS_HEADER, Header, HeaderValue, Message, RELAY_HEADER_PREFIX,
    Reason, Template, is_broker_header, is_relay_header,
};
use crate::rules::Glob;

use super::RenderError;

const ID: &str = "regards-relay-id";
const TYPE: &str = "regards-relay-type";
const TENANT: &str = "regards-relay-tenant";
const STATUS: &str = "regards-relay-status";
/// The relay's own headers on Kafka and AMQP.
pub const RELAY_HEADERS: [&str; 4] = [ID, TYPE, TENANT, STATUS];
/// Received headers that are always passed through: a trace is followed by them.
const TRACE: [&str; 2] = ["traceparent", "tracestate"];
/// The Java class of the body. Spring consumers instantiate that class, so the header is passed through only with the
/// original body.
const TYPE_ID: &str = "__TypeId__";
/// A message that went through more relays than this is considered to be in a loop.
const MAX_HOPS: i64 = 8;

/// All headers of a Kafka record or an AMQP message: the relay's, then those of the configuration, then the format's, then the
/// received ones that are passed through. If a name occurs twice, the first one is used.
pub(super) fn delivery_headers(
    view: EventView<'_>,
    configured: &[(String, Template)],
    format: &Format,
    keep: &[Glob],
    encoded: &EncodedBody,
) -> Result<Vec<Header>, RenderError> {
    let usual = RELAY_HEADERS.len() + configured.len() + encoded.headers.len() + TRACE.len();
    let mut headers = Vec::with_capacity(usual);
    headers.extend(relay_headers(view.event));
    for (name, template) in configured {
        let value = template.render(view).map_err(|error| RenderError::failed(&format!("header {name}"), error))?;
        headers.push((name.clone(), HeaderValue::Text(value)));
    }
    // The names of a format differ from each other.
    for (name, value) in &encoded.headers {
        if !has(&headers, name) {
            headers.push((name.to_string(), HeaderValue::Text(value.clone())));
        }
    }
    let made = headers.len();
    for kept in passed_through(view, format, keep) {
        if !headers.iter().take(made).any(|(name, _)| *name == kept.0) {
            headers.push(kept.clone());
        }
    }
    Ok(headers)
}

/// Whether there is a header of this name.
pub(super) fn has(headers: &[Header], name: &str) -> bool {
    headers.iter().any(|(known, _)| known == name)
}

/// The relay's own headers on Kafka and AMQP. They are those of the event before its transform. For a dead letter some are
/// unknown and left out.
fn relay_headers(event: &Event) -> impl Iterator<Item = Header> {
    let [kind, tenant, status] = [event.kind, &event.tenant, event.status].map(str::to_owned);
    let known = [(ID, event.id.to_string()), (TYPE, kind), (TENANT, tenant), (STATUS, status)];
    let known = known.into_iter().filter(|(_, value)| !value.is_empty());
    known.map(|(name, value)| (name.to_owned(), HeaderValue::Text(value)))
}

/// The header that counts relays, which AMQP messages have in addition: one more than in the received message. The error is
/// a loop, after more than [`MAX_HOPS`].
pub(super) fn hop_header(message: &Message) -> Result<Header, RenderError> {
    let before = message.properties.header(HOPS_HEADER).and_then(HeaderValue::integer).unwrap_or(0).max(0);
    let hops = before.saturating_add(1);
    if hops > MAX_HOPS {
        return Err(RenderError {
            reason: Reason::Loop,
            detail: format!("the message went through {before} relays; more than {MAX_HOPS} are considered a loop"),
            is_misfit: false,
        });
    }
    Ok((HOPS_HEADER.to_owned(), HeaderValue::Integer(hops)))
}

/// The received headers that are passed through: all of them with `format: original`, otherwise those that `keep_headers`
/// lists, and always those of a trace. Never those that belong to the broker, to another relay, or to a body that was
/// replaced. A dead letter has its reason in headers of the relay, which are passed through.
pub(super) fn passed_through<'a>(
    view: EventView<'a>,
    format: &Format,
    keep: &'a [Glob],
) -> impl Iterator<Item = &'a Header> {
    let original = matches!(format, Format::Original);
    view.message.properties.headers.iter().filter(move |(name, _)| {
        TRACE.contains(&name.as_str())
            || (view.is_dead_letter_copy && name.starts_with(RELAY_HEADER_PREFIX) && name != HOPS_HEADER)
            || (!is_reserved(name, original) && (original || keep.iter().any(|glob| glob.matches(name))))
    })
}

/// A header's value for destinations whose header values have no type: text and bytes unchanged, the rest as JSON. Null is
/// `None`.
pub(super) fn to_bytes(value: &HeaderValue) -> Option<Cow<'_, [u8]>> {
    match value {
        HeaderValue::Null => None,
        HeaderValue::Text(text) => Some(Cow::Borrowed(text.as_bytes())),
        HeaderValue::Binary(bytes) | HeaderValue::BinaryText(bytes) => Some(Cow::Borrowed(bytes)),
        // All keys are text, so serializing can't fail.
        other => Some(Cow::Owned(serde_json::to_vec(&AsJson(other)).unwrap_or_default())),
    }
}

/// Serializes a header value as JSON, numbers with all their digits. It is nested no deeper than `amqp::values` lets a received
/// message be.
struct AsJson<'a>(&'a HeaderValue);

impl Serialize for AsJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            HeaderValue::Null => serializer.serialize_unit(),
            HeaderValue::Bool(value) => serializer.serialize_bool(*value),
            HeaderValue::Integer(value) => serializer.serialize_i64(*value),
            HeaderValue::Float(value) => serializer.serialize_f64(*value),
            HeaderValue::Number(AmqpNumber::Float(value)) => serializer.serialize_f64((*value).into()),
            HeaderValue::Number(number) => {
                RawValue::from_string(number.to_string()).map_err(S::Error::custom)?.serialize(serializer)
            }
            HeaderValue::Timestamp(value) => serializer.serialize_u64(*value),
            HeaderValue::Text(text) => serializer.serialize_str(text),
            HeaderValue::Binary(bytes) | HeaderValue::BinaryText(bytes) => {
                serializer.serialize_str(&String::from_utf8_lossy(bytes))
            }
            HeaderValue::Array(values) => serializer.collect_seq(values.iter().map(AsJson)),
            HeaderValue::Table(headers) => {
                let members: BTreeMap<_, _> = headers.iter().map(|(name, value)| (name, AsJson(value))).collect();
                serializer.collect_map(members)
            }
        }
    }
}

/// `CC` and `BCC` would make a broker route copies; `x-` is the broker's prefix; the relay sets its own headers itself.
fn is_reserved(name: &str, original: bool) -> bool {
    is_broker_header(name) || is_relay_header(name) || (name == TYPE_ID && !original)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Carrier, DEAD_LETTER, DeadLetterInfo};
    use crate::sink::fixtures::{event, message};

    fn text(value: &str) -> HeaderValue {
        HeaderValue::Text(value.to_owned())
    }

    fn received(names: &[&str]) -> Message {
        let mut message = message();
        message.properties.headers = names.iter().map(|name| ((*name).to_owned(), text("v"))).collect();
        message
    }

    fn names(message: &Message, format: &Format, keep: &[Glob]) -> Vec<String> {
        passed_through(EventView::of(&event(), message), format, keep).map(|(name, _)| name.clone()).collect()
    }

    const ALL: [&str; 12] = [
        "regards.tenant",
        "__TypeId__",
        "CC",
        "BCC",
        "cc",
        "x-death",
        "X-Stream",
        "regards-relay-id",
        "Regards-Relay-Hops",
        "traceparent",
        "tracestate",
        "mine",
    ];

    #[test]
    fn only_trace_headers_are_passed_through_by_default() {
        let message = received(&ALL);
        assert_eq!(names(&message, &Format::Normalized, &[]), ["traceparent", "tracestate"]);
        assert_eq!(names(&message, &Format::CloudEvents { name: "urn:x".into() }, &[]), ["traceparent", "tracestate"]);
    }

    #[test]
    fn the_original_format_passes_all_headers_through_except_the_brokers_and_the_relays() {
        let message = received(&ALL);
        assert_eq!(
            names(&message, &Format::Original, &[]),
            ["regards.tenant", "__TypeId__", "traceparent", "tracestate", "mine"]
        );
    }

    #[test]
    fn a_dead_letter_has_its_reason_in_headers() {
        let death = DeadLetterInfo {
            number: 17,
            reason: Reason::NotJson,
            detail: "found `<`\nat 0",
            sink: Some("archive"),
            attempts: 2,
            at: "2026-01-02T03:04:05.678Z".to_owned(),
        };
        let message = received(&ALL).with_dead_letter_headers(&death);
        let event = Event::of_dead_letter(&message, &"".into(), uuid::Uuid::from_u128(7));
        let view = EventView::of_dead_letter_copy(&event, &message);
        let encoded = Format::Original.encode(view, Carrier::Kafka).unwrap();
        let headers = delivery_headers(view, &[], &Format::Original, &[], &encoded).unwrap();
        let expected = [
            ("regards-relay-id", text(&event.id.to_string())),
            ("regards-relay-type", text(DEAD_LETTER)),
            ("regards.tenant", text("v")),
            ("__TypeId__", text("v")),
            ("traceparent", text("v")),
            ("tracestate", text("v")),
            ("mine", text("v")),
            ("regards-relay-dead-letter", HeaderValue::Integer(17)),
            ("regards-relay-reason", text("not_json")),
            ("regards-relay-detail", text("found `<` at 0")),
            ("regards-relay-sink", text("archive")),
            ("regards-relay-attempts", HeaderValue::Integer(2)),
            ("regards-relay-at", text("2026-01-02T03:04:05.678Z")),
        ];
        assert_eq!(headers, expected.map(|(name, value)| (name.to_owned(), value)));
    }

    #[test]
    fn listed_headers_are_passed_through_but_never_reserved_ones() {
        let message = received(&ALL);
        assert_eq!(
            names(&message, &Format::Normalized, &[Glob::new("regards.*")]),
            ["regards.tenant", "traceparent", "tracestate"]
        );
        assert_eq!(
            names(&message, &Format::Normalized, &[Glob::new("*")]),
            ["regards.tenant", "traceparent", "tracestate", "mine"]
        );
    }

    #[test]
    fn headers_of_the_relay_and_the_format_come_first_and_are_never_overridden() {
        let message = received(&["ce_id", "mine"]);
        let encoded = EncodedBody {
            body: bytes::Bytes::new(),
            content_type: None,
            content_encoding: None,
            headers: vec![("ce_id".into(), "1".to_owned())],
        };
        let event = event();
        let headers =
            delivery_headers(EventView::of(&event, &message), &[], &Format::Normalized, &[Glob::new("*")], &encoded)
                .unwrap();
        let expected = [
            ("regards-relay-id", text(&event.id.to_string())),
            ("regards-relay-type", text("fr.cnes.regards.lta.submission.response")),
            ("regards-relay-tenant", text("cnes-a")),
            ("regards-relay-status", text("ERROR")),
            ("ce_id", text("1")),
            ("mine", text("v")),
        ];
        assert_eq!(headers, expected.map(|(name, value)| (name.to_owned(), value)));
    }

    #[test]
    fn untyped_values_are_text_or_json() {
        let table = HeaderValue::Table(vec![
            ("n".to_owned(), HeaderValue::Integer(-3)),
            ("a".to_owned(), HeaderValue::Array(vec![HeaderValue::Bool(true), HeaderValue::Null, text("x")])),
        ]);
        for (value, expected) in [
            (HeaderValue::Null, None),
            (text("é"), Some("é")),
            (HeaderValue::Bool(false), Some("false")),
            (HeaderValue::Timestamp(7), Some("7")),
            (HeaderValue::Float(1.5), Some("1.5")),
            (HeaderValue::Number(AmqpNumber::LongInt(-3)), Some("-3")),
            (HeaderValue::Number(AmqpNumber::Float(0.1)), Some("0.10000000149011612")),
            (HeaderValue::Number(AmqpNumber::Decimal { value: 150, scale: 2 }), Some("1.50")),
            (
                HeaderValue::Array(vec![HeaderValue::Number(AmqpNumber::Decimal { value: -15, scale: 1 })]),
                Some("[-1.5]"),
            ),
            (table, Some(r#"{"a":[true,null,"x"],"n":-3}"#)),
        ] {
            assert_eq!(to_bytes(&value).as_deref(), expected.map(str::as_bytes), "{value:?}");
        }
        assert_eq!(to_bytes(&HeaderValue::Binary(vec![255, 0].into())).as_deref(), Some(&[255, 0][..]));
    }

    #[test]
    fn the_ninth_hop_is_a_loop() {
        let mut message = message();
        assert_eq!(hop_header(&message), Ok((HOPS_HEADER.to_owned(), HeaderValue::Integer(1))));
        message.properties.headers = vec![(HOPS_HEADER.to_owned(), HeaderValue::Integer(7))];
        assert_eq!(hop_header(&message), Ok((HOPS_HEADER.to_owned(), HeaderValue::Integer(8))));
        message.properties.headers = vec![(HOPS_HEADER.to_owned(), HeaderValue::Integer(8))];
        assert_eq!(hop_header(&message).unwrap_err().reason, Reason::Loop);
    }
}
