use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::event::{
    DecodeOptions, Event, ExpectedFamily, Family, HeaderValue, Properties, SchemaFormat, SchemaKind, SchemaSource,
    SourceName, Validation,
};

const PRETTY: &str = "{\r\n  \"correlationId\": \"c 1\",\n  \"responseStatus\": \"DENIED\",\n  \"x\": [1,\n 2],\n}\n";

fn message(body: &str) -> Message {
    let properties = Properties {
        content_type: Some("application/json".to_owned()),
        content_encoding: Some("UTF-8".to_owned()),
        timestamp: Some(1_681_461_977),
        headers: vec![("regards.tenant".to_owned(), HeaderValue::Text("cnes-é".to_owned()))],
        ..Properties::default()
    };
    let source = SourceName::new("regards");
    Message { source, body: Bytes::copy_from_slice(body.as_bytes()), properties, redelivered: false }
}

fn event(message: &Message) -> Event {
    let family = Family::named("lta").expect("the family exists");
    let options = DecodeOptions {
        expects: ExpectedFamily::One(family),
        validation: Validation::Lenient,
        tenant: None,
        max_body: 10_000,
    };
    Event::decode(message, &options).expect("the body is valid")
}

fn encode_body(format: &Format, body: &str, carrier: Carrier) -> EncodedBody {
    let message = message(body);
    format.encode(EventView::of(&event(&message), &message), carrier).expect("the format fits")
}

fn cloudevents() -> Format {
    Format::CloudEvents { name: "urn:example:institute".to_owned() }
}

fn template(source: &str) -> Format {
    Format::Body(Template::compile(source).expect("the template compiles"))
}

fn check(format: &Format, carrier: Carrier, expected: &Expect) {
    let encoded = encode_body(format, PRETTY, carrier);
    let mut lines = vec![format!("{:?} {:?}", encoded.content_type, encoded.content_encoding)];
    lines.extend(encoded.headers.iter().map(|(name, value)| format!("{name}: {value}")));
    lines.extend(String::from_utf8(encoded.body.to_vec()));
    expected.assert_eq(&lines.join("\n"));
}

#[test]
fn normalized_is_one_line_of_json_on_every_carrier() {
    let expected = expect![[r#"
        Some("application/json") None
        {"id":"807e8beb-cf29-552a-a11a-d99e32f80744","type":"fr.cnes.regards.lta.submission.response","source":"regards","tenant":"cnes-é","status":"DENIED","outcome":"rejected","correlationId":"c 1","productId":null,"session":null,"expires":null,"message":null,"time":"2023-04-14T08:46:17Z","extra":{"x":[1,2]},"warnings":[]}"#]];
    check(&Format::Normalized, Carrier::Kafka, &expected);
    for carrier in [Carrier::Http, Carrier::Amqp, Carrier::Line] {
        let body = |carrier| encode_body(&Format::Normalized, PRETTY, carrier).body;
        assert_eq!(body(carrier), body(Carrier::Kafka));
    }
}

#[test]
fn original_is_the_body_as_received_without_line_breaks_in_a_file() {
    for carrier in [Carrier::Http, Carrier::Kafka, Carrier::Amqp] {
        let encoded = encode_body(&Format::Original, PRETTY, carrier);
        assert_eq!(encoded.body, PRETTY);
        assert_eq!(encoded.content_type.as_deref(), Some("application/json"));
        assert_eq!(encoded.content_encoding.as_deref(), Some("UTF-8"));
    }
    check(
        &Format::Original,
        Carrier::Line,
        &expect![[r#"
        Some("application/json") Some("UTF-8")
        {    "correlationId": "c 1",   "responseStatus": "DENIED",   "x": [1,  2], } "#]],
    );
}

#[test]
fn cloudevents_are_structured_over_http_and_in_files() {
    check(
        &cloudevents(),
        Carrier::Http,
        &expect![[r#"
        Some("application/cloudevents+json") None
        {"specversion":"1.0","id":"807e8beb-cf29-552a-a11a-d99e32f80744","source":"urn:example:institute/regards","type":"fr.cnes.regards.lta.submission.response","subject":"c 1","time":"2023-04-14T08:46:17Z","tenant":"cnes-é","status":"DENIED","outcome":"rejected","datacontenttype":"application/json","data":{"id":"807e8beb-cf29-552a-a11a-d99e32f80744","type":"fr.cnes.regards.lta.submission.response","source":"regards","tenant":"cnes-é","status":"DENIED","outcome":"rejected","correlationId":"c 1","productId":null,"session":null,"expires":null,"message":null,"time":"2023-04-14T08:46:17Z","extra":{"x":[1,2]},"warnings":[]}}"#]],
    );
    assert_eq!(encode_body(&cloudevents(), PRETTY, Carrier::Line), encode_body(&cloudevents(), PRETTY, Carrier::Http));
}

#[test]
fn cloudevents_are_binary_over_kafka() {
    check(
        &cloudevents(),
        Carrier::Kafka,
        &expect![[r#"
        Some("application/json") None
        ce_specversion: 1.0
        ce_id: 807e8beb-cf29-552a-a11a-d99e32f80744
        ce_source: urn:example:institute/regards
        ce_type: fr.cnes.regards.lta.submission.response
        ce_subject: c 1
        ce_time: 2023-04-14T08:46:17Z
        ce_tenant: cnes-é
        ce_status: DENIED
        ce_outcome: rejected
        {"id":"807e8beb-cf29-552a-a11a-d99e32f80744","type":"fr.cnes.regards.lta.submission.response","source":"regards","tenant":"cnes-é","status":"DENIED","outcome":"rejected","correlationId":"c 1","productId":null,"session":null,"expires":null,"message":null,"time":"2023-04-14T08:46:17Z","extra":{"x":[1,2]},"warnings":[]}"#]],
    );
}

#[test]
fn cloudevents_are_binary_over_amqp() {
    check(
        &cloudevents(),
        Carrier::Amqp,
        &expect![[r#"
        Some("application/json") None
        ce-specversion: 1.0
        ce-id: 807e8beb-cf29-552a-a11a-d99e32f80744
        ce-source: urn:example:institute/regards
        ce-type: fr.cnes.regards.lta.submission.response
        ce-subject: c 1
        ce-time: 2023-04-14T08:46:17Z
        ce-tenant: cnes-é
        ce-status: DENIED
        ce-outcome: rejected
        {"id":"807e8beb-cf29-552a-a11a-d99e32f80744","type":"fr.cnes.regards.lta.submission.response","source":"regards","tenant":"cnes-é","status":"DENIED","outcome":"rejected","correlationId":"c 1","productId":null,"session":null,"expires":null,"message":null,"time":"2023-04-14T08:46:17Z","extra":{"x":[1,2]},"warnings":[]}"#]],
    );
}

#[test]
fn a_cloudevent_without_a_time_has_no_such_attribute() {
    let mut message = message(PRETTY);
    message.properties.timestamp = None;
    let event = event(&message);
    for carrier in [Carrier::Http, Carrier::Kafka] {
        let encoded = cloudevents().encode(EventView::of(&event, &message), carrier).expect("it fits");
        let text = format!("{encoded:?}");
        assert!(text.contains("subject") && !text.contains("ce_time") && !text.contains("\\\"time\\\":\\\""), "{text}");
    }
}

#[test]
fn cloudevents_attributes_have_no_forbidden_characters() {
    let body = r#"{"correlationId":"a\nb\u0000\uffff\u009fé","responseStatus":"ERROR"}"#;
    let encoded = encode_body(&cloudevents(), body, Carrier::Kafka);
    let subject = encoded.headers.iter().find(|(name, _)| name == "ce_subject").map(|(_, value)| value.as_str());
    assert_eq!(subject, Some("a\u{fffd}b\u{fffd}\u{fffd}\u{fffd}é"));
    let mut message = message(PRETTY);
    message.source = SourceName::new("my source/é");
    let encoded = cloudevents().encode(EventView::of(&event(&message), &message), Carrier::Kafka).expect("it fits");
    let source = encoded.headers.iter().find(|(name, _)| name == "ce_source").map(|(_, value)| value.as_str());
    assert_eq!(source, Some("urn:example:institute/my%20source%2F%C3%A9"));
}

#[test]
fn the_content_type_of_a_templated_body_says_whether_it_is_json() {
    for (source, mime) in [
        ("{\"id\": {{ correlationId | tojson }}}", "application/json"),
        ("[{{ status | tojson }}]", "application/json"),
        ("{\"id\": {{ correlationId }}}", "text/plain; charset=utf-8"),
        ("{{ status }}", "text/plain; charset=utf-8"),
        ("12", "text/plain; charset=utf-8"),
    ] {
        let encoded = encode_body(&template(source), PRETTY, Carrier::Http);
        assert_eq!(encoded.content_type.as_deref(), Some(mime), "{source}");
    }
}

#[test]
fn a_templated_body_in_a_file_is_one_line() {
    let encoded = encode_body(&template("a\r\nb\n{{ status }}\n"), PRETTY, Carrier::Line);
    assert_eq!(encoded.body, "a  b DENIED");
}

#[test]
fn a_template_that_fails_is_an_error() {
    let message = message(PRETTY);
    let format = template("{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}");
    assert!(format.encode(EventView::of(&event(&message), &message), Carrier::Http).is_err());
}

proptest! {
    /// Any body is one line in a file, with the same JSON.
    #[test]
    fn every_format_is_one_line_in_a_file(text in any::<String>(), space in "[ \\n\\r\\t]{0,4}") {
        let text = serde_json::json!(text);
        let body = format!(r#"{{"correlationId":{space}"c", "responseStatus":"ERROR",{space}"message":{text}, "x":[{space}]}}"#);
        for format in [Format::Normalized, Format::Original, cloudevents(), template("{{ message }}")] {
            let encoded = encode_body(&format, &body, Carrier::Line);
            prop_assert!(!encoded.body.contains(&b'\n') && !encoded.body.contains(&b'\r'));
        }
        let line = encode_body(&Format::Original, &body, Carrier::Line).body;
        let json = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).expect("JSON");
        prop_assert_eq!(json(&line), json(body.as_bytes()));
    }
}

#[test]
fn a_digest_is_a_json_array_of_its_events() {
    let encode = |format: &Format, carrier| {
        let messages = [message(PRETTY), message(r#"{"correlationId":"c 2","responseStatus":"ERROR"}"#)];
        let events = messages.each_ref().map(event);
        let views = [EventView::of(&events[0], &messages[0]), EventView::of(&events[1], &messages[1])];
        let envelope = crate::event::DigestEnvelope::of(&views, &["tenant"]).unwrap();
        format.encode(envelope.view(&views), carrier).expect("the format fits")
    };
    let encoded = encode(&Format::Normalized, Carrier::Kafka);
    assert_eq!(encoded.content_type.as_deref(), Some("application/json"));
    let body: Vec<serde_json::Value> = serde_json::from_slice(&encoded.body).unwrap();
    assert_eq!((&body[0]["correlationId"], &body[1]["status"]), (&"c 1".into(), &"ERROR".into()));
    let encoded = encode(&cloudevents(), Carrier::Http);
    assert_eq!(encoded.content_type.as_deref(), Some("application/cloudevents-batch+json"));
    let body: Vec<serde_json::Value> = serde_json::from_slice(&encoded.body).unwrap();
    assert_eq!((&body[0]["subject"], &body[1]["data"]["status"]), (&"c 1".into(), &"ERROR".into()));
}

#[test]
fn the_content_type_is_known_before_there_is_an_event() {
    let message = message(PRETTY);
    let event = event(&message);
    let view = EventView::of(&event, &message);
    for format in [Format::Normalized, cloudevents()] {
        for carrier in [Carrier::Http, Carrier::Kafka, Carrier::Amqp, Carrier::Line] {
            let encoded = format.encode(view, carrier).expect("the format fits");
            assert_eq!(encoded.content_type.as_deref(), format.content_type(carrier, false), "{format:?} {carrier:?}");
        }
        let digest = EventView { digest: Some(&[view, view]), ..view };
        let encoded = format.encode(digest, Carrier::Http).expect("the format fits");
        assert_eq!(encoded.content_type.as_deref(), format.content_type(Carrier::Http, true), "{format:?}");
    }
    for format in [Format::Original, template("{{ status }}")] {
        assert_eq!(format.content_type(Carrier::Http, false), None, "it depends on the message or the result");
    }
    for kind in SchemaKind::ALL {
        let format =
            Format::Schema(Box::new(SchemaFormat { kind, source: SchemaSource::Event, json: Format::Normalized }));
        let encoded = format.encode(view, Carrier::Kafka).expect("the format fits");
        assert_eq!(encoded.content_type.as_deref(), format.content_type(Carrier::Kafka, false), "{kind:?}");
    }
}
