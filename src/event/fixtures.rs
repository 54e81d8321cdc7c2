//! An event with values of every type, for the tests of templates and expressions.

use bytes::Bytes;

use super::{
    DecodeOptions, Event, EventView, ExpectedFamily, Family, HeaderValue, Message, Properties, SourceName, Validation,
};

/// A message with headers of every type.
pub(super) fn message(body: &str) -> Message {
    let header = |name: &str, value| (name.to_owned(), value);
    let properties = Properties {
        app_id: Some("rs-lta-manager".to_owned()),
        priority: Some(1),
        timestamp: Some(1_681_461_977),
        headers: vec![
            header("regards.tenant", HeaderValue::Text("cnes-a".to_owned())),
            header("count", HeaderValue::Integer(-3)),
            header("sent", HeaderValue::Timestamp(1_681_461_977)),
            header("blob", HeaderValue::Binary(Bytes::from_static(b"\xff\x00"))),
            header("list", HeaderValue::Array(vec![HeaderValue::Bool(true), HeaderValue::Null])),
            header("table", HeaderValue::Table(vec![header("a.b", HeaderValue::Text("deep".to_owned()))])),
            header("count", HeaderValue::Integer(4)),
        ],
        ..Properties::default()
    };
    Message {
        source: SourceName::new("regards"),
        body: Bytes::copy_from_slice(body.as_bytes()),
        properties,
        redelivered: false,
    }
}

/// A body without `session` and `expires`, and with extra fields of every type.
fn body() -> &'static str {
    r#"{"correlationId":"c/1 é","responseStatus":"ERROR","productId":"P \"1\"","message":"a\nb",
        "n":12,"f":1.5,"yes":true,"no":null,"deep":{"list":[1,null,{"x":"y"}],"text":"t"},"huge":1e999}"#
}

pub(super) fn with_event<T>(then: impl FnOnce(EventView<'_>) -> T) -> T {
    with_body(body(), then)
}

pub(super) fn with_body<T>(body: &str, then: impl FnOnce(EventView<'_>) -> T) -> T {
    let message = message(body);
    let family = Family::named("lta").expect("the family exists");
    let options = DecodeOptions {
        expects: ExpectedFamily::One(family),
        validation: Validation::Lenient,
        tenant: None,
        max_body: 100_000,
    };
    let event = Event::decode(&message, &options).expect("the body is valid");
    then(EventView::of(&event, &message))
}
