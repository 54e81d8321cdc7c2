//! Which headers go out with an event: ours, the format's, and those of the source that may go along. One place for all
//! sinks, so that no sink lets out what another keeps in.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::event::{
    AmqpNumber, Encoded, Event, Format, HOPS, Header, HeaderValue, Message, OUR_HEADERS, Reason, is_ours,
};
use crate::rules::Glob;

use super::Unrenderable;

/// Ours.
const ID: &str = "regards-relay-id";
const TYPE: &str = "regards-relay-type";
const TENANT: &str = "regards-relay-tenant";
const STATUS: &str = "regards-relay-status";
/// The source's headers always passed on: what a trace is followed by.
const TRACE: [&str; 2] = ["traceparent", "tracestate"];
/// Java's class name of the body: Spring consumers instantiate it, so it goes only with the body it belongs to.
const TYPE_ID: &str = "__TypeId__";
/// More hops than this are a loop.
const MAX_HOPS: i64 = 8;

/// All headers of a Kafka record or an AMQP message: ours, then the format's, then what goes along. No name twice.
pub(super) fn all(event: &Event, message: &Message, format: &Format, keep: &[Glob], encoded: &Encoded) -> Vec<Header> {
    let mut headers = ours(event);
    headers.extend(encoded.headers.iter().map(|(name, value)| (name.to_string(), HeaderValue::Text(value.clone()))));
    let made = headers.len();
    for kept in kept(event, message, format, keep) {
        if !headers.iter().take(made).any(|(name, _)| *name == kept.0) {
            headers.push(kept.clone());
        }
    }
    headers
}

/// Our headers on Kafka and AMQP: always the untransformed event's. Of a dead letter some are unknown.
pub(super) fn ours(event: &Event) -> Vec<Header> {
    let id = event.id.to_string();
    let known = [(ID, id.as_str()), (TYPE, event.kind), (TENANT, &event.tenant), (STATUS, event.status)];
    let known = known.into_iter().filter(|(_, value)| !value.is_empty());
    known.map(|(name, value)| (name.to_owned(), HeaderValue::Text(value.to_owned()))).collect()
}

/// On AMQP also: this relay's hop, one more than the last one's. More than [`MAX_HOPS`] are a loop.
pub(super) fn hop(message: &Message) -> Result<Header, Unrenderable> {
    let before = message.properties.header(HOPS).and_then(HeaderValue::integer).unwrap_or(0).max(0);
    let hops = before.saturating_add(1);
    if hops > MAX_HOPS {
        return Err(Unrenderable {
            reason: Reason::Loop,
            detail: format!("it went through {before} relays; more than {MAX_HOPS} are taken for a loop"),
        });
    }
    Ok((HOPS.to_owned(), HeaderValue::Integer(hops)))
}

/// The source's headers that go along: all with `format: original`, else those that `keep` lists; the trace's always; never
/// those that belong to the broker, to another relay, or to a body that is no longer there. What a dead letter died of is
/// in headers of ours, and goes along.
pub(super) fn kept<'a>(
    event: &Event,
    message: &'a Message,
    format: &Format,
    keep: &'a [Glob],
) -> impl Iterator<Item = &'a Header> {
    let original = matches!(format, Format::Original);
    let is_dead_letter = event.is_dead_letter();
    message.properties.headers.iter().filter(move |(name, _)| {
        TRACE.contains(&name.as_str())
            || (is_dead_letter && name.starts_with(OUR_HEADERS) && name != HOPS)
            || (!forbidden(name, original) && (original || keep.iter().any(|glob| glob.matches(name))))
    })
}

/// A header's value where values are bytes without a type: text and bytes as they are, the rest as JSON; null is none.
pub(super) fn untyped(value: &HeaderValue) -> Option<Cow<'_, [u8]>> {
    match value {
        HeaderValue::Null => None,
        HeaderValue::Text(text) => Some(Cow::Borrowed(text.as_bytes())),
        HeaderValue::Binary(bytes) | HeaderValue::BinaryText(bytes) => Some(Cow::Borrowed(bytes)),
        // Text keys and values through and through: serializing them can't fail.
        other => Some(Cow::Owned(serde_json::to_vec(&Untyped(other)).unwrap_or_default())),
    }
}

/// As JSON, its numbers with all their digits. Nested no deeper than the bound under which a message was received.
struct Untyped<'a>(&'a HeaderValue);

impl Serialize for Untyped<'_> {
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
            HeaderValue::Array(values) => serializer.collect_seq(values.iter().map(Untyped)),
            HeaderValue::Table(headers) => {
                let members: BTreeMap<_, _> = headers.iter().map(|(name, value)| (name, Untyped(value))).collect();
                serializer.collect_map(members)
            }
        }
    }
}

/// `CC` and `BCC` would make a broker route copies; `x-` belongs to the broker; ours are set anew.
fn forbidden(name: &str, original: bool) -> bool {
    name.eq_ignore_ascii_case("cc")
        || name.eq_ignore_ascii_case("bcc")
        || name.get(..2).is_some_and(|begin| begin.eq_ignore_ascii_case("x-"))
        || is_ours(name)
        || (name == TYPE_ID && !original)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Carrier, DEAD_LETTER, Death, Scope};
    use crate::sink::fixtures::{event, message};

    fn text(value: &str) -> HeaderValue {
        HeaderValue::Text(value.to_owned())
    }

    fn received(names: &[&str]) -> Message {
        let mut message = message();
        message.properties.headers = names.iter().map(|name| ((*name).to_owned(), text("v"))).collect();
        message
    }

    fn names<'a>(message: &'a Message, format: &Format, keep: &'a [Glob]) -> Vec<&'a str> {
        kept(&event(), message, format, keep).map(|(name, _)| name.as_str()).collect()
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
    fn only_the_trace_goes_along_by_itself() {
        let message = received(&ALL);
        assert_eq!(names(&message, &Format::Normalized, &[]), ["traceparent", "tracestate"]);
        assert_eq!(names(&message, &Format::CloudEvents { name: "urn:x".into() }, &[]), ["traceparent", "tracestate"]);
    }

    #[test]
    fn the_original_takes_its_headers_along_but_for_the_brokers_and_ours() {
        let message = received(&ALL);
        assert_eq!(
            names(&message, &Format::Original, &[]),
            ["regards.tenant", "__TypeId__", "traceparent", "tracestate", "mine"]
        );
    }

    #[test]
    fn a_dead_letter_says_why_it_died() {
        let death = Death {
            number: 17,
            reason: Reason::NotJson,
            detail: "found `<`\nat 0",
            sink: Some("archive"),
            attempts: 2,
            at: "2026-01-02T03:04:05.678Z".to_owned(),
        };
        let message = received(&ALL).with_death(&death);
        let event = Event::of_dead_letter(&message, &"".into(), uuid::Uuid::from_u128(7));
        let encoded = Format::Original.encode(Scope::of(&event, &message), Carrier::Kafka).unwrap();
        let headers = all(&event, &message, &Format::Original, &[], &encoded);
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
    fn listed_ones_go_along_but_never_the_forbidden() {
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
    fn ours_and_the_formats_come_first_and_are_never_overridden() {
        let message = received(&["ce_id", "mine"]);
        let encoded = Encoded {
            body: bytes::Bytes::new(),
            content_type: None,
            content_encoding: None,
            headers: vec![("ce_id".into(), "1".to_owned())],
        };
        let event = event();
        let headers = all(&event, &message, &Format::Normalized, &[Glob::new("*")], &encoded);
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
    fn values_without_a_type_are_text_or_json() {
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
            assert_eq!(untyped(&value).as_deref(), expected.map(str::as_bytes), "{value:?}");
        }
        assert_eq!(untyped(&HeaderValue::Binary(vec![255, 0].into())).as_deref(), Some(&[255, 0][..]));
    }

    #[test]
    fn the_ninth_hop_is_a_loop() {
        let mut message = message();
        assert_eq!(hop(&message), Ok((HOPS.to_owned(), HeaderValue::Integer(1))));
        message.properties.headers = vec![(HOPS.to_owned(), HeaderValue::Integer(7))];
        assert_eq!(hop(&message), Ok((HOPS.to_owned(), HeaderValue::Integer(8))));
        message.properties.headers = vec![(HOPS.to_owned(), HeaderValue::Integer(8))];
        assert_eq!(hop(&message).unwrap_err().reason, Reason::Loop);
    }
}
