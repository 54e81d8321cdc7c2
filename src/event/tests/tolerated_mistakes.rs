//! Mistakes that the relay tolerates, most of them with a warning.

use expect_test::expect;

use super::*;

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
