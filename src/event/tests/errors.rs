//! Invalid messages, with every reason.

use expect_test::expect;

use super::*;

#[test]
fn each_error_names_what_was_found_and_expected() {
    let valid = r#"{"correlationId":"c","responseStatus":"GRANTED"}"#;
    let with = |change: fn(&mut Properties)| {
        let mut message = message(valid);
        change(&mut message.properties);
        error_of_message(&message, &lta())
    };
    let mut lines = Vec::new();
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
        lines.push(format!("{reason}: {detail}"));
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
    .assert_eq(&lines.join("\n"));
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
