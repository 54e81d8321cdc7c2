//! A typical response, and routes for it.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use regards_relay::amqp::values;
use regards_relay::event::{DecodeOptions, ExpectedFamily, Family, Message, SourceName, Validation};
use regards_relay::rules::{Condition, Field, Glob, Route, RouteName, Rules, SinkIndex, Unrouted};

pub const SOURCE: &str = "regards";
const TENANT: &str = "tenant-0";
const JAVA_TYPE: &str = "fr.cnes.regards.modules.ltamanager.amqp.output.SubmissionResponseDtoEvent";

/// The properties that `rs-lta-manager` sets, as lapin's type.
pub fn properties(number: usize) -> BasicProperties {
    let mut headers = FieldTable::default();
    for (name, value) in [
        ("__TypeId__", JAVA_TYPE),
        ("regards.converter", "GSON"),
        ("regards.tenant", TENANT),
        ("regards.type", JAVA_TYPE),
    ] {
        headers.insert(ShortString::from(name), AMQPValue::LongString(value.into()));
    }
    BasicProperties::default()
        .with_content_type("application/json".into())
        .with_content_encoding("UTF-8".into())
        .with_headers(headers)
        .with_delivery_mode(2)
        .with_priority(1)
        .with_correlation_id(correlation_id(number).into())
        .with_timestamp(1_681_461_977)
        .with_app_id("rs-lta-manager".into())
}

/// A body of about 300 bytes, as most have.
pub fn body(number: usize, status: &str) -> Vec<u8> {
    let id = correlation_id(number);
    let product = format!("URN:AIP:DATA:{TENANT}:4f2e6a10-9f5b-3c43-b15e-{number:012}:V1");
    format!(
        r#"{{"correlationId":"{id}","productId":"{product}","responseStatus":"{status}","expires":"2023-05-14T08:46:17.000Z","session":"2023-04-14 nominal","message":"The product is stored, and can be ordered"}}"#
    )
    .into_bytes()
}

fn correlation_id(number: usize) -> String {
    format!("1c0a8a5e-6b1f-4b9e-9d0e-{number:012}")
}

pub fn message() -> Message {
    let properties = values::decode_properties(&properties(0), None);
    Message { source: SourceName::new(SOURCE), body: body(0, "SUCCESS").into(), properties, redelivered: false }
}

pub fn options() -> DecodeOptions {
    let family = Family::named("lta").expect("a family");
    DecodeOptions {
        expects: ExpectedFamily::One(family),
        validation: Validation::Lenient,
        tenant: None,
        max_body: 1024 * 1024,
    }
}

/// One route for each tenant; the route of the message is in the middle.
pub fn rules(count: usize) -> Rules {
    let route = |number: usize| {
        let tenant = vec![Glob::new(&format!("tenant-{}", (number + count - count / 2) % count))];
        let when = Condition { fields: vec![(Field::Tenant, tenant)], ..Condition::default() };
        Route {
            name: RouteName::new(&format!("route-{number}")),
            when,
            to: vec![SinkIndex(0)],
            transform: None,
            is_final: false,
        }
    };
    Rules::new((0..count).map(route).collect(), Unrouted::DeadLetter)
}
