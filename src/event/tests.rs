//! Every reason, every leniency, and the documents' own examples.

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

/// A message as REGARDS sends it, with that body.
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

fn read(body: impl Into<Bytes>) -> Event {
    Event::decode(&message(body), &lta()).expect("the body is valid")
}

fn refused(message: &Message, options: &DecodeOptions) -> (Reason, String) {
    let invalid = Event::decode(message, options).expect_err("the message is invalid");
    (invalid.reason, invalid.detail)
}

/// The reason and detail of a message with that body.
fn refusal(body: impl Into<Bytes>) -> (Reason, String) {
    refused(&message(body), &lta())
}

fn json(event: &Event) -> String {
    serde_json::to_string_pretty(event).expect("an event is JSON")
}

fn check(body: &str, expected: &Expect) {
    expected.assert_eq(&json(&read(body.to_owned())));
}

// What is normal.

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
fn every_example_of_the_documents_is_accepted_as_it_is() {
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
        let event = read(body);
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
fn missing_null_and_empty_optional_fields_are_normal() {
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
fn every_status_has_its_outcome() {
    for (status, outcome) in [
        ("GRANTED", Outcome::Accepted),
        ("DENIED", Outcome::Rejected),
        ("SUCCESS", Outcome::Succeeded),
        ("ERROR", Outcome::Failed),
    ] {
        let event = read(format!(r#"{{"correlationId":"c","responseStatus":"{status}"}}"#));
        assert_eq!((event.status, event.outcome), (status, outcome));
    }
}

#[test]
fn escapes_in_names_and_texts_are_read() {
    let event = read(r#"{"\u0063orrelationId":"\u00e9\ud83d\ude00\\n","responseStatus":"GRANTED"}"#);
    assert_eq!(event.correlation_id, "é😀\\n");
}

#[test]
fn a_copy_has_the_same_id_and_another_response_another() {
    let body = r#"{"correlationId":"c","responseStatus":"GRANTED"}"#;
    let mut copy = message(body);
    copy.redelivered = true;
    copy.source = SourceName::new("other");
    assert_eq!(Event::decode(&copy, &lta()).expect("valid").id, read(body).id);
    copy.properties.timestamp = None;
    assert_ne!(Event::decode(&copy, &lta()).expect("valid").id, read(body).id);
}

// What is tolerated.

#[test]
fn trailing_commas_are_tolerated_and_nothing_else() {
    for body in [
        r#"{"correlationId":"c","responseStatus":"GRANTED",}"#,
        r#"{"correlationId":"c","responseStatus":"GRANTED" , }"#,
        r#"{"correlationId":"c","responseStatus":"GRANTED","x":[1,{"y":2,},],}"#,
        "{\"correlationId\":\"c\",\"responseStatus\":\"GRANTED\",\r\n\t}\n",
    ] {
        assert_eq!(read(body).status, "GRANTED", "{body}");
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
        assert_eq!(refusal(body).0, Reason::NotJson, "{body}");
    }
    // A comma in a text stays what it is.
    let event = read(r#"{"correlationId":"a,}","responseStatus":"GRANTED","x":"[1,]\",}",}"#);
    assert_eq!((event.correlation_id.as_str(), event.extra["x"].get()), ("a,}", r#""[1,]\",}""#));
}

#[test]
fn an_optional_field_of_another_type_is_null_with_a_warning_and_an_error_when_strict() {
    let body = r#"{"correlationId":"c","responseStatus":"ERROR","productId":7,"session":[],"expires":"soon","message":"\ud800"}"#;
    let event = read(body);
    assert_eq!((event.product_id, event.session, event.expires, event.message), (None, None, None, None));
    expect![[r#"
        productId is a number; expected text
        session is an array; expected text
        expires is "soon"; expected a date such as 2025-05-01T10:25:52.243Z
        message is text that is not Unicode; expected text"#]]
    .assert_eq(&event.warnings.join("\n"));
    let strict = DecodeOptions { validation: Validation::Strict, ..lta() };
    expect![[r#"(InvalidField, "productId is a number; expected text")"#]]
        .assert_eq(&format!("{:?}", refused(&message(body), &strict)));
}

#[test]
fn what_strict_validation_does_not_mean() {
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
fn of_a_field_that_is_there_twice_the_last_one_counts() {
    let event = read(r#"{"x":1,"correlationId":"c","responseStatus":"ERROR","responseStatus":"SUCCESS","x":{"y": 2}}"#);
    assert_eq!((event.status, event.extra["x"].get()), ("SUCCESS", r#"{"y":2}"#));
    expect![[r#"
        "responseStatus" is there more than once; the last one counts
        "x" is there more than once; the last one counts"#]]
    .assert_eq(&event.warnings.join("\n"));
}

#[test]
fn warnings_are_bounded() {
    let event = read(format!(r#"{{"correlationId":"c","responseStatus":"ERROR"{}}}"#, r#","x":1"#.repeat(1000)));
    assert_eq!(event.warnings.len(), 17);
    assert_eq!(event.warnings[16], "and 983 more");
}

#[test]
fn an_empty_correlation_id_among_the_properties_says_nothing() {
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
fn the_tenant_is_the_headers_and_else_the_sources() {
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

// Why not.

#[test]
fn each_reason_says_what_was_found_and_what_was_expected() {
    let valid = r#"{"correlationId":"c","responseStatus":"GRANTED"}"#;
    let with = |change: fn(&mut Properties)| {
        let mut message = message(valid);
        change(&mut message.properties);
        refused(&message, &lta())
    };
    let mut told = Vec::new();
    for (reason, detail) in [
        refused(&message(valid), &DecodeOptions { max_body: 47, ..lta() }),
        with(|properties| properties.content_encoding = Some("gzip".to_owned())),
        with(|properties| properties.headers_too_deep = true),
        refusal(&b"{\"a\":\"\xff\"}"[..]),
        refusal("[".repeat(129)),
        refusal("not json"),
        refusal(""),
        refusal(r#"{"a":1,"#),
        refusal("[1,2]"),
        refusal(" 12 "),
        refusal("null"),
        refusal("[1,]"),
        refusal(r#"{"responseStatus":"GRANTED"}"#),
        refusal(r#"{"correlationId":null,"responseStatus":"GRANTED"}"#),
        refusal(r#"{"correlationId":"","responseStatus":"GRANTED"}"#),
        refusal(r#"{"correlationId":"c"}"#),
        refusal(r#"{"correlationId":7,"responseStatus":"GRANTED"}"#),
        refusal(r#"{"correlationId":"\udc00","responseStatus":"GRANTED"}"#),
        refusal(r#"{"correlationId":"c","responseStatus":true}"#),
        refusal(r#"{"correlationId":"c","responseStatus":"granted\n"}"#),
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
    assert_eq!(read(nested(128, "[", "]")).extra["x"].get().len(), 254);
    assert_eq!(refusal(nested(129, "[", "]")).0, Reason::TooDeep);
    assert_eq!(refusal(nested(2_000, "[", "]")).0, Reason::TooDeep);
    let flat = format!(r#"{{"correlationId":"c","responseStatus":"GRANTED","x":"\"{}"}}"#, "[{".repeat(1000));
    assert_eq!(read(flat).status, "GRANTED");
    let wide = format!(r#"{{"correlationId":"c","responseStatus":"GRANTED","x":[{}1]}}"#, "[],".repeat(1000));
    assert_eq!(read(wide).status, "GRANTED");
}

#[test]
fn a_body_of_a_million_brackets_is_refused_without_a_stack() {
    let options = DecodeOptions { max_body: usize::MAX, ..lta() };
    assert_eq!(refused(&message("[".repeat(1_000_000)), &options).0, Reason::TooDeep);
    assert_eq!(refused(&message(r#"{"a":"#.repeat(1_000_000)), &options).0, Reason::TooDeep);
}

#[test]
fn what_could_be_read_of_an_invalid_message_is_kept() {
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
fn a_word_and_its_reason_are_the_same() {
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

    /// A trailing comma anywhere changes nothing but itself: the same event, but for the id, which is over the bytes.
    #[test]
    fn trailing_commas_change_no_value(value in json_value(), text in any::<String>()) {
        let body = serde_json::json!({"correlationId": "c", "responseStatus": "ERROR", "message": text, "x": value});
        let strict = body.to_string();
        let mut relaxed = String::new();
        write_with_trailing_commas(&body, &mut relaxed);
        let (mut event, mut same) = (read(strict), read(relaxed));
        event.id = Uuid::nil();
        same.id = Uuid::nil();
        prop_assert_eq!(json(&event), json(&same));
    }

    /// Reading is a pure function, and what it gives is one line of JSON.
    #[test]
    fn the_same_message_gives_the_same_line(value in json_value(), text in any::<String>()) {
        let body = serde_json::json!({"correlationId": "c", "responseStatus": "ERROR", "message": text, "x": value});
        let body = serde_json::to_string_pretty(&body).expect("JSON");
        let line = serde_json::to_string(&read(body.clone())).expect("JSON");
        prop_assert!(!line.contains(['\n', '\r']));
        prop_assert_eq!(&line, &serde_json::to_string(&read(body)).expect("JSON"));
        // What was normalized once stays so: `extra` read again is the same.
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

/// The page is a promise, too.
#[test]
fn the_page_on_events_tells_all_and_tells_the_truth() {
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
    let example = json(&read(r#"{"correlationId":"c-1","responseStatus":"GRANTED"}"#));
    assert!(page.contains(&example), "{example}");
}

#[test]
fn responses_of_all_families_are_told_apart_by_their_classes() {
    let auto = DecodeOptions { expects: ExpectedFamily::Auto, ..lta() };
    let read = |headers: &[(&str, &str)], body: &str| {
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
            assert_eq!(read(&[("__TypeId__", class)], &body), Ok(family.kind));
            assert_eq!(read(&[("__TypeId__", "java.util.HashMap"), ("regards.type", class)], &body), Ok(family.kind));
        }
    }
    let missing = "the message has neither of the headers __TypeId__ and regards.type, which `auto` needs";
    assert_eq!(read(&[], lta), Err((Reason::MissingField, missing.to_owned())));
    let unknown = "__TypeId__ or regards.type is \"java.util.HashMap\"; expected the Java class of a known response";
    assert_eq!(read(&[("regards.type", "java.util.HashMap")], done), Err((Reason::InvalidField, unknown.to_owned())));
    let (order, wrong) = (FAMILIES[1].classes[0], read(&[("__TypeId__", FAMILIES[1].classes[0])], lta));
    assert_eq!(read(&[("__TypeId__", order)], done), Ok(FAMILIES[1].kind));
    assert_eq!(wrong.unwrap_err().0, Reason::MissingField, "it is none of that class");
}
