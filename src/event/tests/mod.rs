//! Events decoded from messages of REGARDS.

mod errors;
pub(super) mod generated;
mod tolerated_mistakes;
mod valid_messages;

use bytes::Bytes;

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

/// docs/event.md is part of the contract.
#[test]
fn the_documentation_of_events_is_complete_and_correct() {
    let page = include_str!("../../../docs/event.md");
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
