//! The main use: responses of REGARDS arrive, by the routes, in Kafka topics per tenant and status, at a webhook, in
//! another exchange and in a file.

mod shapes;

use std::collections::BTreeMap;

use lapin::ExchangeKind;
use lapin::types::{FieldTable, ShortString};
use serde_json::Value;

use crate::support::rabbit::AmqpMessage;
use crate::support::webhook::Posted;
use crate::support::{Home, Kafka, Rabbit, Receiver, Regards, kafka, lines_of, unique};
use shapes::Shape;

const STATUSES: [&str; 4] = ["GRANTED", "DENIED", "SUCCESS", "ERROR"];

const HOOK_SECRET: &str = "whsec_cmVnYXJkcy1yZWxheS10ZXN0LXNlY3JldA==";

const ROUTES: &str = r#"
version: 1
name: urn:example:institute
sources:
  regards:
    amqp: { url: "${REGARDS}", queue: "${QUEUE}" }
    expects: lta
sinks:
  pipeline:
    kafka: { brokers: "${KAFKA}", topic: "${TOPICS}.{{ tenant }}.{{ status }}" }
  on_call:
    webhook: { url: "${HOOK}", secret: "${HOOK_SECRET}", headers: { X-Team: "ground-{{ tenant }}" } }
  partner:
    amqp: { url: "${PARTNER}", exchange: partner.products, routing_key: "{{ tenant }}.{{ status }}" }
  archive:
    file: { path: "archive/{{ tenant }}.ndjson" }
routes:
  - name: everything
    to: [pipeline, archive]
  - name: failures-wake-someone
    when: { outcome: [failed, rejected] }
    to: on_call
  - name: esa-has-a-broker-of-its-own
    when: { tenant: esa }
    to: partner
unrouted: dead_letter
"#;

#[tokio::test]
async fn every_response_arrives_where_the_routes_send_it() {
    // Only this test uses the virtual host with the name that REGARDS uses.
    let regards = Regards::in_vhost(Rabbit::shared().vhost("regards.multitenant.manager").await).await;
    let partner = Rabbit::shared().new_vhost().await;
    partner.exchange("partner.products", ExchangeKind::Topic).await;
    partner.queue("products", FieldTable::default()).await;
    partner.bind("products", "partner.products", "esa.*").await;
    let products = partner.collect("products").await;
    let receiver = Receiver::start().await;
    let topics = unique("regards");
    let mut pipeline = topics_per_tenant_and_status(&topics).await;

    let home = Home::of(&regards, ROUTES)
        .with_kafka()
        .with("TOPICS", &topics)
        .with("HOOK", &receiver.url())
        .with("HOOK_SECRET", HOOK_SECRET)
        .keeping_secret(HOOK_SECRET)
        .with("PARTNER", &partner.admin_url());
    let relay = home.start_ready().await;

    let mut shapes = shapes::of_the_documents();
    shapes.extend(shapes::of_every_kind());
    regards.publish_all(shapes.iter().map(|shape| &shape.response)).await;

    let failures = expected(&shapes, |event| ["failed", "rejected"].contains(&text(event, "outcome")));
    let of_esa = expected(&shapes, |event| text(event, "tenant") == "esa");
    pipeline.wait_for(shapes.len()).await;
    receiver.wait_for_accepted(failures.len()).await;
    products.wait_for(of_esa.len()).await;
    relay.stop().await;

    let archived = [lines_of(home.data("archive/cnes-a.ndjson")), lines_of(home.data("archive/esa.ndjson"))].concat();
    assert_same_events("the files", &archived, &expected(&shapes, |_| true));

    let records = pipeline.all().await;
    assert_same_events("Kafka", &json_of(records, kafka::Record::json), &expected(&shapes, |_| true));
    for record in records {
        assert_record_is_addressed(record, &topics);
    }

    let posted = receiver.posted();
    assert_same_events("the webhook", &json_of(&posted, Posted::json), &failures);
    for request in &posted {
        assert_request_is_signed(request);
    }

    let messages = products.all();
    assert_same_events("the exchange", &json_of(&messages, AmqpMessage::json), &of_esa);
    for message in &messages {
        assert_message_is_addressed(message);
    }

    assert_one_id_for_each_event(&archived, &[json_of(records, kafka::Record::json), json_of(&posted, Posted::json)]);
    assert!(home.dead_letters().is_empty(), "{:?}", home.dead_letters());
    regards.assert_left_as_found().await;
}

async fn topics_per_tenant_and_status(prefix: &str) -> kafka::Reader {
    let kafka = Kafka::shared();
    let tenants = ["cnes-a", "esa"];
    let names =
        tenants.iter().flat_map(|tenant| STATUSES.iter().map(move |status| format!("{prefix}.{tenant}.{status}")));
    let names: Vec<String> = names.collect();
    for name in &names {
        kafka.create_topic(name, 2, &[]).await;
    }
    kafka.reader(&names.iter().map(String::as_str).collect::<Vec<_>>()).await
}

fn assert_record_is_addressed(record: &kafka::Record, prefix: &str) {
    let event = record.json();
    assert_eq!(record.topic, format!("{prefix}.{}.{}", text(&event, "tenant"), text(&event, "status")));
    assert_eq!(record.key.as_deref(), event["correlationId"].as_str());
    let ours: BTreeMap<&str, &str> = record
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .filter(|(name, _)| name.starts_with("regards-relay-"))
        .collect();
    let expected = [
        ("regards-relay-id", text(&event, "id")),
        ("regards-relay-type", text(&event, "type")),
        ("regards-relay-tenant", text(&event, "tenant")),
        ("regards-relay-status", text(&event, "status")),
    ];
    assert_eq!(ours, BTreeMap::from(expected));
    let theirs: Vec<_> =
        record.headers.keys().filter(|name| ["regards.tenant", "__TypeId__"].contains(&name.as_str())).collect();
    assert!(theirs.is_empty(), "headers of the source went along: {theirs:?}");
}

fn assert_request_is_signed(request: &Posted) {
    let event = request.json();
    request.assert_signed_with(HOOK_SECRET);
    assert_eq!(request.header("webhook-id"), event["id"].as_str());
    assert_eq!(request.header("x-team"), Some(format!("ground-{}", text(&event, "tenant")).as_str()));
    assert!(request.header("content-type").is_some_and(|kind| kind.starts_with("application/json")));
    assert_eq!(request.path, "/hooks/regards");
}

fn assert_message_is_addressed(message: &AmqpMessage) {
    let event = message.json();
    assert_eq!(message.routing_key, format!("{}.{}", text(&event, "tenant"), text(&event, "status")));
    let properties = &message.properties;
    assert_eq!(properties.delivery_mode(), &Some(2));
    assert_eq!(properties.message_id().as_ref().map(ShortString::as_str), event["id"].as_str());
    let correlation_id = event["correlationId"].as_str().filter(|id| id.len() <= 255);
    assert_eq!(properties.correlation_id().as_ref().map(ShortString::as_str), correlation_id);
    assert_eq!(properties.content_type().as_ref().map(ShortString::as_str), Some("application/json"));
    assert!(properties.timestamp().is_some() && properties.kind().is_some() && properties.app_id().is_some());
    for (header, field) in [("id", "id"), ("type", "type"), ("tenant", "tenant"), ("status", "status")] {
        assert_eq!(message.header(&format!("regards-relay-{header}")).as_deref(), event[field].as_str());
    }
    assert!(message.header("regards-relay-hops").is_some());
    assert_eq!(message.header("__TypeId__"), None, "Spring consumers would instantiate it");
}

/// The expected events of these shapes, for those that `wanted` selects.
fn expected(shapes: &[Shape], wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
    shapes.iter().map(|shape| shape.event.clone()).filter(|event| wanted(event)).collect()
}

/// Compares events without their ids and the texts of their warnings, in any order, because priorities reorder them.
fn assert_same_events(at: &str, arrived: &[Value], expected: &[Value]) {
    let comparable = |events: &[Value]| {
        let mut lines: Vec<String> = events.iter().map(|event| comparable(event.clone()).to_string()).collect();
        lines.sort();
        lines
    };
    let (arrived, expected) = (comparable(arrived), comparable(expected));
    let missing: Vec<_> = expected.iter().filter(|line| !arrived.contains(line)).collect();
    let unexpected: Vec<_> = arrived.iter().filter(|line| !expected.contains(line)).collect();
    assert!(missing.is_empty() && unexpected.is_empty(), "{at}: missing {missing:#?}, unexpected {unexpected:#?}");
    assert_eq!(arrived.len(), expected.len(), "{at}: each of them once");
}

fn comparable(mut event: Value) -> Value {
    let fields = event.as_object_mut().expect("an object");
    fields.remove("id");
    let warned = fields["warnings"].as_array().expect("warnings").len();
    fields.insert("warnings".to_owned(), warned.into());
    event
}

/// The ids are UUIDs of version 5. They differ between events, and one event has the same id at every sink.
fn assert_one_id_for_each_event(archived: &[Value], others: &[Vec<Value>]) {
    let by_id: BTreeMap<&str, &Value> = archived.iter().map(|event| (text(event, "id"), event)).collect();
    assert_eq!(by_id.len(), archived.len(), "different events have different ids");
    for id in by_id.keys() {
        assert_eq!(uuid::Uuid::parse_str(id).expect("a UUID").get_version_num(), 5);
    }
    for event in others.iter().flatten() {
        assert_eq!(by_id.get(text(event, "id")), Some(&event), "the same event everywhere, under the same id");
    }
}

fn json_of<T>(all: &[T], json: impl Fn(&T) -> Value) -> Vec<Value> {
    all.iter().map(json).collect()
}

fn text<'a>(event: &'a Value, field: &str) -> &'a str {
    event[field].as_str().unwrap_or_else(|| panic!("{field} of {event}"))
}
