//! Every reason, every tolerated mistake, and the examples of REGARDS' interface documents.

use bytes::Bytes;
use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

fn lta() -> DecodeOptions {
    let family = Family::named("lta").expect("the family exists");
    DecodeOptions {
        expects: ExpectedFamily::One(family),
        validation: Validation::Lenient,
        tenant: None,
        max_body: 1024 * 1024,
    }
}

/// A message as REGARDS sends it.
fn message(body: impl Into<Bytes>) -> Message {
    let properties = Properties {
        content_type: Some("application/json".to_owned()),
        content_encoding: Some("UTF-8".to_owned()),
        delivery_mode: Some(2),
        priority: Some(1),
        timestamp: Some(1_681_461_977),
        app_id: Some("rs-lta-manager".to_owned()),
        headers: vec![("regards.tenant".to_owned(), HeaderValue::Text("cnes-a".to_owned()))],
        ..Properties::default()
    };
    Message { source: SourceName::new("regards"), body: body.into(), properties, redelivered: false }
}

fn decode(body: impl Into<Bytes>) -> Event {
    Event::decode(&message(body), &lta()).expect("the body is valid")
}

fn error_of_message(message: &Message, options: &DecodeOptions) -> (Reason, String) {
    let invalid = Event::decode(message, options).expect_err("the message is invalid");
    (invalid.reason, invalid.detail)
}

fn error_of(body: impl Into<Bytes>) -> (Reason, String) {
    error_of_message(&message(body), &lta())
}

fn json(event: &Event) -> String {
    serde_json::to_string_pretty(event).expect("an event is JSON")
}

fn check(body: &str, expected: &Expect) {
    expected.assert_eq(&json(&decode(body.to_owned())));
}

// Valid messages.

#[test]
fn a_typical_response_becomes_an_event() {
    check(
        r#"{"correlationId":"c-1","productId":"p-1","responseStatus":"SUCCESS","expires":"2022-12-22T11:25:52.243+01:00",
            "session":"s","message":"all \"fine\"\n","size":  12, "more": {"a": [1.50, null, " x "]}}"#,
        &expect![[r#"
            {
              "id": "882478cc-fafb-5dfd-97f1-4d7d02ae2c19",
              "type": "fr.cnes.regards.lta.submission.response",
              "source": "regards",
              "tenant": "cnes-a",
              "status": "SUCCESS",
              "outcome": "succeeded",
              "correlationId": "c-1",
              "productId": "p-1",
              "session": "s",
              "expires": "2022-12-22T10:25:52.243Z",
              "message": "all \"fine\"\n",
              "time": "2023-04-14T08:46:17Z",
              "extra": {
                "more": {"a":[1.50,null," x "]},
                "size": 12
              },
              "warnings": []
            }"#]],
    );
}

#[test]
fn every_example_of_the_interface_documents_is_decoded() {
    macro_rules! examples {
        ($($name:literal),*) => {
            [$(($name, &include_bytes!(concat!("../../tests/fixtures/documents/", $name))[..])),*]
        };
    }
    let mut seen = Vec::new();
    for (name, body) in examples![
        "lta-v1-granted.json",
        "lta-v1-success.json",
        "lta-v1-denied.json",
        "lta-v1-error.json",
        "lta-v2-granted.json",
        "lta-v2-success.json",
        "lta-v2-denied.json",
        "lta-v2-error.json"
    ] {
        let event = decode(body);
        let (session, expires, message) = (&event.session, &event.expires, &event.message);
        let (status, outcome, extra, warnings) = (event.status, event.outcome, &event.extra, &event.warnings);
        seen.push(format!("{name}: {status} {outcome} {session:?} {expires:?} {message:?} {extra:?} {warnings:?}"));
        assert_eq!((event.correlation_id.as_str(), event.product_id.as_deref()), ("xxx", Some("xxx")), "{name}");
    }
    expect![[r#"
        lta-v1-granted.json: GRANTED accepted None None None {} []
        lta-v1-success.json: SUCCESS succeeded Some("xxx") None None {} []
        lta-v1-denied.json: DENIED rejected Some("xxx") None None {} []
        lta-v1-error.json: ERROR failed Some("xxx") None Some("Cause of the internal error") {} []
        lta-v2-granted.json: GRANTED accepted None None None {} []
        lta-v2-success.json: SUCCESS succeeded Some("xxx") Some("2022-12-22T10:25:52.243Z") None {} []
        lta-v2-denied.json: DENIED rejected None None None {} []
        lta-v2-error.json: ERROR failed Some("xxx") Some("2022-12-22T10:25:52.243Z") Some("Cause of the internal error") {} []"#]].assert_eq(&seen.join("\n"));
}

#[test]
fn missing_null_and_empty_optional_fields_are_valid() {
    for body in [
        r#"{"correlationId":"c","responseStatus":"ERROR"}"#,
        r#"{"correlationId":"c","responseStatus":"ERROR","productId":null,"session":null,"expires":null,"message":null}"#,
        r#"{"correlationId":"c","responseStatus":"ERROR","productId":"","session":"","expires":"","message":""}"#,
    ] {
        let strict = DecodeOptions { validation: Validation::Strict, ..lta() };
        let event = Event::decode(&message(body), &strict).expect("nothing is wrong with it");
        assert_eq!((event.product_id, event.session, event.expires, event.message), (None, None, None, None));
        assert!(event.warnings.is_empty());
    }
}

#[test]
fn every_status_has_an_outcome() {
    for (status, outcome) in [
        ("GRANTED", Outcome::Accepted),
        ("DENIED", Outcome::Rejected),
        ("SUCCESS", Outcome::Succeeded),
        ("ERROR", Outcome::Failed),
    ] {
        let event = decode(format!(r#"{{"correlationId":"c","responseStatus":"{status}"}}"#));
        assert_eq!((event.status, event.outcome), (status, outcome));
    }
}

#[test]
fn escapes_in_names_and_texts_are_decoded() {
    let event = decode(r#"{"\u0063orrelationId":"\u00e9\ud83d\ude00\\n","responseStatus":"GRANTED"}"#);
    assert_eq!(event.correlation_id, "é😀\\n");
}

#[test]
fn copies_of_a_response_have_the_same_id() {
    let body = r#"{"correlationId":"c","responseStatus":"GRANTED"}"#;
    let mut copy = message(body);
    copy.redelivered = true;
    copy.source = SourceName::new("other");
    assert_eq!(Event::decode(&copy, &lta()).expect("valid").id, decode(body).id);
    copy.properties.timestamp = None;
    assert_ne!(Event::decode(&copy, &lta()).expect("valid").id, decode(body).id);
}

// Tolerated mistakes.

#[test]
fn only_trailing_commas_are_tolerated() {
    for body in [
        r#"{"correlationId":"c","responseStatus":"GRANTED",}"#,
        r#"{"correlationId":"c","responseStatus":"GRANTED" , }"#,
        r#"{"correlationId":"c","responseStatus":"GRANTED","x":[1,{"y":2,},],}"#,
        "{\"correlationId\":\"c\",\"responseStatus\":\"GRANTED\",\r\n\t}\n",
    ] {
        assert_eq!(decode(body).status, "GRANTED", "{body}");
    }
    for body in [
        "{,}",
        r#"{,"correlationId":"c","responseStatus":"GRANTED"}"#,
        r#"{"correlationId":"c",,"responseStatus":"GRANTED"}"#,
        r#"{"correlationId":"c","responseStatus":"GRANTED",,}"#,
        r#"{"correlationId":"c","responseStatus":"GRANTED"},"#,
        r#"{"correlationId":"c","responseStatus":"GRANTED","x":[,]}"#,
        r#"{"correlationId":"c","responseStatus":"GRANTED","x":,}"#,
        r#"{"correlationId":"c","responseStatus":"GRANTED" // no
            }"#,
        r"{'correlationId':'c','responseStatus':'GRANTED'}",
        r#"{correlationId:"c","responseStatus":"GRANTED"}"#,
        r#"{"correlationId":"c","responseStatus":"GRANTED","x":NaN}"#,
        r#"{"correlationId":"c","responseStatus":"GRANTED","x":01}"#,
        r#"{"correlationId":"c","responseStatus":"GRANTED"} {}"#,
        r#"{"correlationId":"c","responseStatus":"GRANTED""#,
        "\u{feff}{\"correlationId\":\"c\",\"responseStatus\":\"GRANTED\"}",
    ] {
        assert_eq!(error_of(body).0, Reason::NotJson, "{body}");
    }
    // A comma within text stays.
    let event = decode(r#"{"correlationId":"a,}","responseStatus":"GRANTED","x":"[1,]\",}",}"#);
    assert_eq!((event.correlation_id.as_str(), event.extra["x"].get()), ("a,}", r#""[1,]\",}""#));
}

#[test]
fn an_optional_field_of_the_wrong_type_is_a_warning_or_with_strict_an_error() {
    let body = r#"{"correlationId":"c","responseStatus":"ERROR","productId":7,"session":[],"expires":"soon","message":"\ud800"}"#;
    let event = decode(body);
    assert_eq!((event.product_id, event.session, event.expires, event.message), (None, None, None, None));
    expect![[r#"
        productId is a number; expected text
        session is an array; expected text
        expires is "soon"; expected a date such as 2025-05-01T10:25:52.243Z
        message is text that is not Unicode; expected text"#]]
    .assert_eq(&event.warnings.join("\n"));
    let strict = DecodeOptions { validation: Validation::Strict, ..lta() };
    expect![[r#"(InvalidField, "productId is a number; expected text")"#]]
        .assert_eq(&format!("{:?}", error_of_message(&message(body), &strict)));
}

#[test]
fn strict_validation_tolerates_everything_but_types_and_dates() {
    let mut message = message(r#"{"correlationId":"c","correlationId":"d","responseStatus":"ERROR",}"#);
    message.properties.correlation_id = Some("c".to_owned());
    message.properties.timestamp = Some(253_402_300_800);
    let strict = DecodeOptions { validation: Validation::Strict, ..lta() };
    let event = Event::decode(&message, &strict).expect("only types and dates are strict");
    assert_eq!((event.correlation_id.as_str(), event.time), ("d", None));
    expect![[r#"
        "correlationId" is there more than once; the last one counts
        the property correlation_id is "c", the body's correlationId is "d"
        the property timestamp is 253402300800: not within the years 0001 to 9999"#]]
    .assert_eq(&event.warnings.join("\n"));
}

#[test]
fn the_last_one_of_duplicate_fields_is_used() {
    let event =
        decode(r#"{"x":1,"correlationId":"c","responseStatus":"ERROR","responseStatus":"SUCCESS","x":{"y": 2}}"#);
    assert_eq!((event.status, event.extra["x"].get()), ("SUCCESS", r#"{"y":2}"#));
    expect![[r#"
        "responseStatus" is there more than once; the last one counts
        "x" is there more than once; the last one counts"#]]
    .assert_eq(&event.warnings.join("\n"));
}

#[test]
fn the_number_of_warnings_is_bounded() {
    let event = decode(format!(r#"{{"correlationId":"c","responseStatus":"ERROR"{}}}"#, r#","x":1"#.repeat(1000)));
    assert_eq!(event.warnings.len(), 17);
    assert_eq!(event.warnings[16], "and 983 more");
}

#[test]
fn an_empty_property_correlation_id_causes_no_warning() {
    let mut message = message(r#"{"correlationId":"c","responseStatus":"ERROR"}"#);
    message.properties.correlation_id = Some(String::new());
    assert!(Event::decode(&message, &lta()).expect("valid").warnings.is_empty());
}

#[test]
fn the_character_sets_that_are_utf_8_are_accepted() {
    for encoding in [None, Some(""), Some("UTF-8"), Some("utf8"), Some("Us-Ascii")] {
        let mut message = message(r#"{"correlationId":"c","responseStatus":"ERROR"}"#);
        message.properties.content_encoding = encoding.map(str::to_owned);
        assert!(Event::decode(&message, &lta()).is_ok(), "{encoding:?}");
    }
}

#[test]
fn the_tenant_comes_from_the_header_or_the_source() {
    let own = DecodeOptions { tenant: Some("own".into()), ..lta() };
    let body = r#"{"correlationId":"c","responseStatus":"ERROR"}"#;
    let tenant = |header: Option<HeaderValue>| {
        let mut message = message(body);
        message.properties.headers = header.into_iter().map(|value| ("regards.tenant".to_owned(), value)).collect();
        Event::decode(&message, &own).map(|event| event.tenant.to_string()).map_err(|invalid| invalid.reason)
    };
    assert_eq!(tenant(Some(HeaderValue::Text("cnes-b".to_owned()))), Ok("cnes-b".to_owned()));
    assert_eq!(tenant(Some(HeaderValue::Text(String::new()))), Ok("own".to_owned()));
    assert_eq!(tenant(Some(HeaderValue::Null)), Ok("own".to_owned()));
    assert_eq!(tenant(None), Ok("own".to_owned()));
    assert_eq!(tenant(Some(HeaderValue::Integer(7))), Err(Reason::InvalidTenant));
}

// Errors.

#[test]
fn each_error_names_what_was_found_and_expected() {
    let valid = r#"{"correlationId":"c","responseStatus":"GRANTED"}"#;
    let with = |change: fn(&mut Properties)| {
        let mut message = message(valid);
        change(&mut message.properties);
        error_of_message(&message, &lta())
    };
    let mut told = Vec::new();
    for (reason, detail) in [
        error_of_message(&message(valid), &DecodeOptions { max_body: 47, ..lta() }),
        with(|properties| properties.content_encoding = Some("gzip".to_owned())),
        with(|properties| properties.headers_too_deep = true),
        error_of(&b"{\"a\":\"\xff\"}"[..]),
        error_of("[".repeat(129)),
        error_of("not json"),
        error_of(""),
        error_of(r#"{"a":1,"#),
        error_of("[1,2]"),
        error_of(" 12 "),
        error_of("null"),
        error_of("[1,]"),
        error_of(r#"{"responseStatus":"GRANTED"}"#),
        error_of(r#"{"correlationId":null,"responseStatus":"GRANTED"}"#),
        error_of(r#"{"correlationId":"","responseStatus":"GRANTED"}"#),
        error_of(r#"{"correlationId":"c"}"#),
        error_of(r#"{"correlationId":7,"responseStatus":"GRANTED"}"#),
        error_of(r#"{"correlationId":"\udc00","responseStatus":"GRANTED"}"#),
        error_of(r#"{"correlationId":"c","responseStatus":true}"#),
        error_of(r#"{"correlationId":"c","responseStatus":"granted\n"}"#),
        with(|properties| properties.headers.clear()),
        with(|properties| properties.headers = vec![("regards.tenant".to_owned(), HeaderValue::Integer(1))]),
        with(|properties| {
            properties.headers = vec![("regards.tenant".to_owned(), HeaderValue::Text("a\nb".to_owned()))];
        }),
        with(|properties| properties.headers = vec![("regards.tenant".to_owned(), HeaderValue::Text("é".repeat(128)))]),
    ] {
        told.push(format!("{reason}: {detail}"));
    }
    expect![[r#"
        too_large: the body has 48 bytes; max_body is 47
        unsupported_encoding: content_encoding is "gzip"; expected UTF-8
        too_deep: a header is nested deeper than the relay supports
        not_utf8: the body is not UTF-8: an invalid byte at offset 6
        too_deep: the body is nested more than 128 levels deep
        not_json: the body is not JSON: expected ident at line 1 column 2
        not_json: the body is not JSON: EOF while parsing a value at line 1 column 0
        not_json: the body is not JSON: EOF while parsing a value at line 1 column 7
        not_an_object: the body is an array; expected an object
        not_an_object: the body is a number; expected an object
        not_an_object: the body is null; expected an object
        not_an_object: the body is an array; expected an object
        missing_field: correlationId is missing; every response has it
        missing_field: correlationId is null; every response has it
        missing_field: correlationId is empty; every response has it
        missing_field: responseStatus is missing; every response has it
        invalid_field: correlationId is a number; expected text
        invalid_field: correlationId is text that is not Unicode; expected text
        invalid_field: responseStatus is a boolean; expected text
        unknown_status: responseStatus is "granted\n"; expected one of GRANTED, DENIED, SUCCESS, ERROR
        missing_tenant: no header regards.tenant, and the source has no tenant of its own
        invalid_tenant: the header regards.tenant is a number; expected text
        invalid_tenant: the tenant "a\nb" has control characters
        invalid_tenant: the tenant has 256 bytes; at most 255 are allowed"#]]
    .assert_eq(&told.join("\n"));
}

#[test]
fn a_body_is_at_most_128_deep_and_brackets_in_texts_do_not_count() {
    let nested = |levels: usize, open: &str, close: &str| {
        let (open, close) = (open.repeat(levels - 1), close.repeat(levels - 1));
        format!(r#"{{"correlationId":"c","responseStatus":"GRANTED","x":{open}{close}}}"#)
    };
    assert_eq!(decode(nested(128, "[", "]")).extra["x"].get().len(), 254);
    assert_eq!(error_of(nested(129, "[", "]")).0, Reason::TooDeep);
    assert_eq!(error_of(nested(2_000, "[", "]")).0, Reason::TooDeep);
    let flat = format!(r#"{{"correlationId":"c","responseStatus":"GRANTED","x":"\"{}"}}"#, "[{".repeat(1000));
    assert_eq!(decode(flat).status, "GRANTED");
    let wide = format!(r#"{{"correlationId":"c","responseStatus":"GRANTED","x":[{}1]}}"#, "[],".repeat(1000));
    assert_eq!(decode(wide).status, "GRANTED");
}

#[test]
fn a_body_of_a_million_brackets_does_not_overflow_the_stack() {
    let options = DecodeOptions { max_body: usize::MAX, ..lta() };
    assert_eq!(error_of_message(&message("[".repeat(1_000_000)), &options).0, Reason::TooDeep);
    assert_eq!(error_of_message(&message(r#"{"a":"#.repeat(1_000_000)), &options).0, Reason::TooDeep);
}

#[test]
fn an_error_has_the_fields_that_could_be_read() {
    let invalid = |message: &Message| Event::decode(message, &lta()).expect_err("invalid");
    let mut lost = message(r#"{"correlationId":"c","responseStatus":"LOST"}"#);
    let found = invalid(&lost);
    assert_eq!(found.tenant.as_deref(), Some("cnes-a"));
    assert_eq!(found.status.as_deref(), Some("LOST"));
    assert_eq!(found.correlation_id.as_deref(), Some("c"));
    lost.properties.headers.clear();
    assert_eq!(invalid(&lost).tenant, None);
    let mut unreadable = message("{");
    unreadable.properties.correlation_id = Some("by property".to_owned());
    let found = invalid(&unreadable);
    assert_eq!((found.status.as_deref(), found.correlation_id.as_deref()), (None, Some("by property")));
}

#[test]
fn reasons_are_parsed_from_their_words() {
    for reason in Reason::ALL {
        assert_eq!(reason.as_str().parse(), Ok(*reason));
    }
    assert!("NotJson".parse::<Reason>().is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Event::decode(&message(body), &lta());
    }

    #[test]
    fn nothing_like_json_makes_it_panic(body in "[{}\\[\\],:\"\\\\ntu0-9a-e \\n]{0,60}") {
        let _ = Event::decode(&message(body), &lta());
    }

    /// Trailing commas change nothing but the id, which is a hash of the bytes.
    #[test]
    fn trailing_commas_change_no_value(value in json_value(), text in any::<String>()) {
        let body = serde_json::json!({"correlationId": "c", "responseStatus": "ERROR", "message": text, "x": value});
        let strict = body.to_string();
        let mut relaxed = String::new();
        write_with_trailing_commas(&body, &mut relaxed);
        let (mut event, mut same) = (decode(strict), decode(relaxed));
        event.id = Uuid::nil();
        same.id = Uuid::nil();
        prop_assert_eq!(json(&event), json(&same));
    }

    /// Decoding is a pure function, and an event is one line of JSON.
    #[test]
    fn the_same_message_gives_the_same_line(value in json_value(), text in any::<String>()) {
        let body = serde_json::json!({"correlationId": "c", "responseStatus": "ERROR", "message": text, "x": value});
        let body = serde_json::to_string_pretty(&body).expect("JSON");
        let line = serde_json::to_string(&decode(body.clone())).expect("JSON");
        prop_assert!(!line.contains(['\n', '\r']));
        prop_assert_eq!(&line, &serde_json::to_string(&decode(body)).expect("JSON"));
        // Decoding `extra` again changes nothing.
        let extra = &serde_json::from_str::<serde_json::Value>(&line).expect("JSON")["extra"]["x"];
        prop_assert_eq!(extra, &value);
    }
}

fn json_value() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[,\\]} \"\\\\]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[,}\\] a-c\"]{0,4}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn write_with_trailing_commas(value: &serde_json::Value, out: &mut String) {
    match value {
        serde_json::Value::Array(items) => {
            out.push('[');
            for item in items {
                write_with_trailing_commas(item, out);
                out.push(',');
            }
            out.push(']');
        }
        serde_json::Value::Object(members) => {
            out.push('{');
            for (name, member) in members {
                *out += &serde_json::to_string(name).expect("JSON");
                out.push(':');
                write_with_trailing_commas(member, out);
                out.push_str(", ");
            }
            out.push_str(" }");
        }
        other => *out += &other.to_string(),
    }
}

/// docs/event.md is part of the contract.
#[test]
fn the_documentation_of_events_is_complete_and_correct() {
    let page = include_str!("../../docs/event.md");
    for reason in Reason::ALL {
        assert!(page.contains(&format!("| `{reason}` |")), "{reason}");
    }
    for outcome in Outcome::NAMES {
        assert!(page.contains(&format!("`{outcome}`")), "{outcome}");
    }
    for family in FAMILIES {
        assert!(page.contains(&format!("| `{}` | `{}` |", family.name, family.kind)), "{}", family.name);
        for (status, outcome) in family.statuses {
            assert!(page.contains(&format!("{status} → `{outcome}`")), "{status}");
        }
    }
    assert!(page.contains(&NAMESPACE.to_string()));
    let example = json(&decode(r#"{"correlationId":"c-1","responseStatus":"GRANTED"}"#));
    assert!(page.contains(&example), "{example}");
}

#[test]
fn the_java_class_decides_the_family() {
    let auto = DecodeOptions { expects: ExpectedFamily::Auto, ..lta() };
    let decode = |headers: &[(&str, &str)], body: &str| {
        let mut message = message(body.to_owned());
        let text = |(name, value): &(&str, &str)| ((*name).to_owned(), HeaderValue::Text((*value).to_owned()));
        message.properties.headers.extend(headers.iter().map(text));
        Event::decode(&message, &auto).map(|event| event.kind).map_err(|invalid| (invalid.reason, invalid.detail))
    };
    let (done, lta) = (r#"{"correlationId":"c","status":"DONE"}"#, r#"{"correlationId":"c","responseStatus":"ERROR"}"#);
    for family in FAMILIES {
        let (status, _) = family.statuses[0];
        let body = format!(r#"{{"{}":"c","{}":"{status}"}}"#, family.key, family.status);
        for class in family.classes {
            assert_eq!(decode(&[("__TypeId__", class)], &body), Ok(family.kind));
            assert_eq!(decode(&[("__TypeId__", "java.util.HashMap"), ("regards.type", class)], &body), Ok(family.kind));
        }
    }
    let missing = "the message has neither of the headers __TypeId__ and regards.type, which `auto` needs";
    assert_eq!(decode(&[], lta), Err((Reason::MissingField, missing.to_owned())));
    let unknown = "__TypeId__ or regards.type is \"java.util.HashMap\"; expected the Java class of a known response";
    assert_eq!(decode(&[("regards.type", "java.util.HashMap")], done), Err((Reason::InvalidField, unknown.to_owned())));
    let (order, wrong) = (FAMILIES[1].classes[0], decode(&[("__TypeId__", FAMILIES[1].classes[0])], lta));
    assert_eq!(decode(&[("__TypeId__", order)], done), Ok(FAMILIES[1].kind));
    assert_eq!(wrong.unwrap_err().0, Reason::MissingField, "no response of that class");
}
