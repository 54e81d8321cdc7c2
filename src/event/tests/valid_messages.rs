//! Valid messages, among them the examples of REGARDS' interface documents.

use expect_test::{Expect, expect};

use super::*;

fn check(body: &str, expected: &Expect) {
    expected.assert_eq(&json(&decode(body.to_owned())));
}

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
            [$(($name, &include_bytes!(concat!("../../../tests/fixtures/documents/", $name))[..])),*]
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
