//! Samples: messages as JSON, one object a line, with the properties as REGARDS' documents show them.
//!
//! ```json
//! {"properties": {"app_id": "…", "timestamp": 1681461977, "headers": {"regards.tenant": "t"}}, "body": "…"}
//! ```
//!
//! `body` is the body as text. It can also be an object, whose JSON is the body then, so that people can write samples. A body
//! that is not UTF-8 is in `body_base64`. For `properties` see [`Properties::to_json`].
//!
//! Two other formats are read too: the output of `dead-letters show --json`, and a message from `RabbitMQ`'s management API
//! (<https://rawcdn.githack.com/rabbitmq/rabbitmq-server/v3.13.0/deps/rabbitmq_management/priv/www/api/index.html>, `queues/…/get`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use super::json::{ObjectMembers, kind_of};
use super::{Message, Properties, SampleError, SourceName};
use crate::telemetry::printable_json;

/// Whether the text is a sample, and not the bare body of a message.
#[must_use]
pub fn is_sample(text: &str) -> bool {
    let is_body = |name: &str| matches!(name, "body" | "body_base64" | "payload");
    let named = |ObjectMembers(members): ObjectMembers<'_>| members.iter().any(|(name, _)| is_body(name));
    serde_json::from_str(only(text)).is_ok_and(named)
}

/// The management API answers with a list: takes the message out if it is the only one.
fn only(text: &str) -> &str {
    if !text.trim_start().starts_with('[') {
        return text;
    }
    match serde_json::from_str::<Vec<&RawValue>>(text).as_deref() {
        Ok([one]) => one.get(),
        _ => text,
    }
}

// The other members in the output of `dead-letters show --json` and of the management API. They are ignored.
const DEAD_LETTER_MEMBERS: [&str; 11] =
    ["id", "reason", "detail", "sink", "source", "tenant", "status", "correlationId", "attempts", "at", "event"];
const MANAGEMENT_MEMBERS: [&str; 6] =
    ["payload_encoding", "payload_bytes", "redelivered", "exchange", "routing_key", "message_count"];

/// Parses a sample into a message of that source.
pub fn parse(text: &str, source: &SourceName) -> Result<Message, SampleError> {
    let ObjectMembers(members) = serde_json::from_str(only(text))
        .map_err(|error| SampleError(format!("a sample must be a JSON object: {error}")))?;
    let has = |name: &str| members.iter().any(|(known, _)| known == name);
    let ignored: &[&str] = match () {
        () if has("id") && has("reason") => &DEAD_LETTER_MEMBERS,
        () if has("payload") => &MANAGEMENT_MEMBERS,
        () => &[],
    };
    let is_base64 = members.iter().any(|(name, value)| name == "payload_encoding" && value.get() == r#""base64""#);
    let mut properties = Properties::default();
    let mut body = None;
    for (name, value) in members {
        let json = value.get();
        let unreadable = |error| SampleError(format!("{name} can't be read: {error}"));
        let bytes = match &*name {
            name if ignored.contains(&name) => continue,
            // The management API writes absent properties as an empty list.
            "properties" if json == "[]" && !ignored.is_empty() => continue,
            "properties" => {
                properties = Properties::from_json(json)?;
                continue;
            }
            "body" if json.starts_with('{') => json.to_owned().into_bytes(),
            "body" if json.starts_with('"') => {
                serde_json::from_str::<String>(json).map_err(|error| unreadable(error.to_string()))?.into_bytes()
            }
            "body" => return Err(SampleError(format!("body is {}; expected text or an object", kind_of(json)))),
            "payload" if !is_base64 => {
                serde_json::from_str::<String>(json).map_err(|error| unreadable(error.to_string()))?.into_bytes()
            }
            "body_base64" | "payload" => {
                let text: String = serde_json::from_str(json).map_err(|error| unreadable(error.to_string()))?;
                STANDARD.decode(text).map_err(|error| unreadable(error.to_string()))?
            }
            _ => {
                let known = "a sample has properties, and body or body_base64";
                return Err(SampleError(format!("there is no {name}: {known}")));
            }
        };
        if body.replace(bytes).is_some() {
            return Err(SampleError("there are two bodies".to_owned()));
        }
    }
    let body = body.ok_or_else(|| SampleError("there is no body".to_owned()))?;
    Ok(Message { source: source.clone(), body: Bytes::from(body), properties, redelivered: false })
}

/// A message as a sample in JSON.
#[derive(Debug, Serialize)]
pub struct Sample<'a> {
    properties: &'a Properties,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

impl<'a> Sample<'a> {
    #[must_use]
    pub fn of(message: &'a Message) -> Self {
        let body = std::str::from_utf8(&message.body).ok();
        let body_base64 = body.is_none().then(|| STANDARD.encode(&message.body));
        Self { properties: &message.properties, body, body_base64 }
    }
}

/// The message as a sample: one line without a line break, safe for a terminal.
#[must_use]
pub fn print(message: &Message) -> String {
    // All keys and values are text: serializing them can't fail.
    let json = serde_json::to_string(&Sample::of(message)).unwrap_or_default();
    printable_json(&json).into_owned()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proptest::prelude::*;

    use super::*;
    use crate::event::HeaderValue;

    fn source() -> SourceName {
        SourceName::new("samples")
    }

    #[test]
    fn properties_and_bodies_of_the_interface_documents_make_a_sample() {
        let properties = include_str!("../../tests/fixtures/documents/lta-v1-properties.json");
        let body = include_str!("../../tests/fixtures/documents/lta-v1-granted.json");
        let sample = format!(r#"{{"properties": {properties}, "body": {}}}"#, serde_json::json!(body));
        let message = parse(&sample, &source()).expect("a sample");
        assert_eq!(message.body, body);
        assert_eq!(message.properties.app_id.as_deref(), Some("REGARDS"));
        assert_eq!(message.properties.timestamp, Some(1_681_461_977));
        assert_eq!(message.properties.header("regards.tenant"), Some(&HeaderValue::Text("tenant".to_owned())));
        expect![[r#"{"properties":{"app_id":"REGARDS","timestamp":1681461977,"correlation_id":"xxx","priority":1,"delivery_mode":2,"content_encoding":"UTF-8","content_type":"application/json","headers":{"regards.tenant":"tenant"}},"body":"{\n    \"correlationId\": \"xxx\",\n    \"productId\": \"xxx\",\n    \"responseStatus\": \"GRANTED\",\n}\n"}"#]].assert_eq(&print(&message));
    }

    #[test]
    fn a_body_may_be_an_object_and_needs_no_properties() {
        let message = parse(r#"{"body": {"correlationId": "c",  "x": [1]}}"#, &source()).expect("a sample");
        assert_eq!(message.body, r#"{"correlationId": "c",  "x": [1]}"#);
        assert_eq!(message.properties, Properties::default());
    }

    #[test]
    fn mistakes_are_named() {
        let told = |json: &str| parse(json, &source()).expect_err(json).to_string();
        expect![[r"
            a sample must be a JSON object: expected value at line 1 column 1
            a sample must be a JSON object: invalid type: sequence, expected an object at line 1 column 0
            there is no body
            body is a number; expected text or an object
            there are two bodies
            body_base64 can't be read: Invalid symbol 63, offset 0.
            there is no header: a sample has properties, and body or body_base64
            there is no property x"]]
        .assert_eq(
            &[
                "x",
                "[]",
                "{}",
                r#"{"body":1}"#,
                r#"{"body":"a","body_base64":"YQ=="}"#,
                r#"{"body_base64":"?"}"#,
                r#"{"body":"a","header":{}}"#,
                r#"{"body":"a","properties":{"x":1}}"#,
            ]
            .map(told)
            .join("\n"),
        );
    }

    #[test]
    fn a_bare_body_is_distinguished_from_a_sample() {
        assert!(is_sample(r#"{"body":"x"}"#));
        assert!(is_sample(r#"{"properties":{},"body_base64":"eA=="}"#));
        assert!(!is_sample(r#"{"correlationId":"c","responseStatus":"ERROR"}"#));
        assert!(!is_sample("not JSON"));
    }

    proptest! {
        #[test]
        fn a_message_survives_the_round_trip(
            properties in crate::event::properties::tests::properties(),
            text in any::<String>(),
            bytes in prop::collection::vec(any::<u8>(), 0..16),
            is_text in any::<bool>(),
        ) {
            let body = if is_text { Bytes::from(text) } else { Bytes::from(bytes) };
            let message = Message { source: source(), body, properties, redelivered: false };
            let line = print(&message);
            prop_assert!(!line.contains('\n'));
            let again = parse(&line, &source()).expect("a printed sample");
            prop_assert_eq!(again.body, message.body);
            prop_assert_eq!(again.properties, message.properties);
        }
    }

    /// As `explain -` gets them from a pipe or the clipboard.
    #[test]
    fn messages_from_the_management_api_and_dead_letters_are_samples_too() {
        let body = r#"{"correlationId":"c","responseStatus":"ERROR"}"#;
        let text = serde_json::to_string(body).unwrap();
        let encoded = STANDARD.encode(body);
        let shown = [
            format!(
                r#"{{"id":7,"reason":"refused","detail":"413","sink":"s","source":"r","tenant":"esa","status":null,"correlationId":"c",
                "attempts":3,"at":"2025-05-01T12:00:00.000Z","properties":{{"app_id":"a"}},"body":{text},"event":null}}"#
            ),
            format!(
                r#"[{{"payload_bytes":46,"redelivered":false,"exchange":"x","routing_key":"","message_count":0,
                "properties":{{"app_id":"a"}},"payload":{text},"payload_encoding":"string"}}]"#
            ),
            format!(r#"{{"properties":{{"app_id":"a"}},"payload":"{encoded}","payload_encoding":"base64"}}"#),
        ];
        for shown in shown {
            assert!(is_sample(&shown), "{shown}");
            let message = parse(&shown, &SourceName::new("regards")).unwrap();
            assert_eq!(message.body, body.as_bytes());
            assert_eq!(message.properties.app_id.as_deref(), Some("a"));
        }
        let bare = r#"{"properties":[],"payload":"x","payload_encoding":"string"}"#;
        assert_eq!(parse(bare, &SourceName::new("regards")).unwrap().properties, Properties::default());
        let misspelt = parse(r#"{"body":"x","detial":"y"}"#, &SourceName::new("regards")).unwrap_err();
        assert!(misspelt.to_string().contains("there is no detial"), "{misspelt}");
    }
}
