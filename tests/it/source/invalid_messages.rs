//! Every message that cannot be read or delivered becomes a dead letter, with its reason and its bytes.

use std::collections::BTreeMap;

use base64::Engine;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::Value;

use crate::support::raw_amqp::{DEEPEST, Login, Nested, publish_nested};
use crate::support::regards::EXCHANGE;
use crate::support::{Answer, Home, Kafka, Rabbit, Receiver, Regards, Response, lines_of};

/// The bodies of messages whose headers are nested as deeply as one frame allows.
const BELOW: [&str; 2] = [
    r#"{"correlationId": "below 26,000 arrays", "responseStatus": "SUCCESS"}"#,
    r#"{"correlationId": "below 21,000 tables", "responseStatus": "SUCCESS"}"#,
];

const ROUTES: &str = r#"
version: 1
sources:
  regards:
    amqp: { url: "${REGARDS}", queue: "${QUEUE}" }
    expects: lta
    max_body: 64KiB
sinks:
  archive: { file: { path: archive.ndjson } }
  by_product: { file: { path: "by-product/{{ productId }}.ndjson" } }
  by_session: { kafka: { brokers: "${KAFKA}", topic: "{{ session }}" } }
  picky: { webhook: { url: "${PICKY}" } }
  hopeless: { webhook: { url: "${HOPELESS}" }, retry: { initial_backoff: 50ms, max_attempts: 3 } }
  back_to_rabbit: { amqp: { url: "${PARTNER}", exchange: back, routing_key: any } }
routes:
  - { name: good, when: { tenant: good }, to: archive }
  - { name: product, when: { tenant: by-product }, to: by_product }
  - { name: session, when: { tenant: by-session }, to: by_session }
  - { name: picky, when: { tenant: picky }, to: picky }
  - { name: hopeless, when: { tenant: hopeless }, to: hopeless }
  - { name: back, when: { tenant: back }, to: back_to_rabbit }
unrouted: dead_letter
"#;

struct Case {
    reason: &'static str,
    response: Response,
    /// The sink that rejected the event, or `None` if the message did not reach a sink.
    sink: Option<&'static str>,
}

#[tokio::test]
async fn each_invalid_message_is_a_dead_letter_with_its_reason_and_bytes() {
    let regards = Regards::new().await;
    let partner = Rabbit::shared().new_vhost().await;
    partner.exchange("back", lapin::ExchangeKind::Fanout).await;
    let receiver = Receiver::start().await;
    receiver.answers(|request| Answer::Status(if request.path.ends_with("picky") { 422 } else { 500 }));
    let home = Home::of(&regards, ROUTES)
        .with_kafka()
        .with("PICKY", &format!("{}/picky", receiver.url()))
        .with("HOPELESS", &format!("{}/hopeless", receiver.url()))
        .with("PARTNER", &partner.admin_url());
    let relay = home.start_ready().await;

    let mut cases = unreadable();
    cases.extend(without_a_good_tenant());
    cases.extend(undeliverable());
    for case in &cases {
        regards.publish(&case.response).await;
    }
    for (nested, body) in DEEPEST.into_iter().zip(BELOW) {
        publish_deepest(&regards, nested, body).await;
    }
    let good = Response::new("good", "after all that", "SUCCESS");
    regards.publish(&good).await;

    relay.wait_for_metric("dead_letters_total", &[], count(cases.len() + BELOW.len())).await;
    relay.wait_for_metric("deliveries_total", &[("sink", "archive"), ("result", "delivered")], 1.0).await;
    relay.stop().await;

    let mut found: BTreeMap<Vec<u8>, Value> =
        home.dead_letters().into_iter().map(|letter| (bytes_of(&letter), letter)).collect();
    let mut wrong = Vec::new();
    for case in &cases {
        match found.remove(&case.response.body) {
            Some(letter) => wrong.extend(differences(case, &letter)),
            None => wrong.push(format!("no dead letter of {}: {}", case.reason, shown(&case.response.body))),
        }
    }
    for body in BELOW {
        match found.remove(body.as_bytes()) {
            Some(letter) => assert_eq!(letter["reason"], "too_deep", "{letter}"),
            None => wrong.push(format!("no dead letter of {body}")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(found.is_empty(), "unexpected dead letters: {found:#?}");
    assert_eq!(lines_of(home.data("archive.ndjson")).len(), 1, "the good one after all that");
    assert_eq!(receiver.posted().iter().filter(|request| request.path.ends_with("hopeless")).count(), 3);
    regards.assert_left_as_found().await;
}

/// Messages that are not LTA responses.
fn unreadable() -> Vec<Case> {
    let good = |body: &str| Response::with_body("good", body);
    let case = |reason, response| Case { reason, response, sink: None };
    let not_utf8 = [br#"{"correlationId": ""#.as_slice(), b"\xff\xfe", br#"", "responseStatus": "SUCCESS"}"#].concat();
    let too_large = Response::new("good", "too-large", "ERROR").field("message", "x".repeat(64 << 10));
    let nested = format!(
        r#"{{"correlationId": "nested", "responseStatus": "SUCCESS", "x": {}{}}}"#,
        "[".repeat(200),
        "]".repeat(200)
    );
    vec![
        case("not_utf8", Response::with_body("good", not_utf8)),
        case("not_json", good("correlationId=1, responseStatus=SUCCESS")),
        case("not_json", good(r#"{"correlationId": "half", "responseStatus": "SUCC"#)),
        case("not_json", good(r#"{"correlationId": "two commas", "responseStatus": "SUCCESS",,}"#)),
        case("not_json", good("")),
        case("not_an_object", good(r#"[{"correlationId": "in an array", "responseStatus": "SUCCESS"}]"#)),
        case("not_an_object", good(r#""SUCCESS""#)),
        case("not_an_object", good("null")),
        case("too_large", too_large),
        case("too_deep", good(&nested)),
        case("unsupported_encoding", Response::new("good", "zipped", "SUCCESS").encoding("gzip")),
        case("missing_field", good(r#"{"responseStatus": "SUCCESS", "productId": "no correlationId"}"#)),
        case("missing_field", good(r#"{"correlationId": null, "responseStatus": "SUCCESS"}"#)),
        case("missing_field", good(r#"{"correlationId": "no status"}"#)),
        case("invalid_field", good(r#"{"correlationId": 7, "responseStatus": "SUCCESS"}"#)),
        case("invalid_field", good(r#"{"correlationId": "status of 7", "responseStatus": 7}"#)),
        case("unknown_status", Response::new("good", "done", "DONE")),
        case("unknown_status", Response::new("good", "lower case", "success")),
    ]
}

fn without_a_good_tenant() -> Vec<Case> {
    let case = |reason, response| Case { reason, response, sink: None };
    let of = |tenant: &str, id: &str| Response::new(tenant, id, "SUCCESS");
    let mut deep = AMQPValue::FieldArray(lapin::types::FieldArray::default());
    for _ in 0..300 {
        deep = AMQPValue::FieldArray(vec![deep].into());
    }
    let mut inner = FieldTable::default();
    inner.insert("deep".into(), deep);
    vec![
        case("missing_tenant", of("any", "no tenant").without_header("regards.tenant")),
        case("invalid_tenant", of("control\u{1}character", "a control character")),
        case("invalid_tenant", of(&"t".repeat(256), "256 bytes of tenant")),
        case("invalid_tenant", of("any", "a number").header("regards.tenant", AMQPValue::LongInt(7))),
        case("too_deep", of("good", "a deep header").header("table", AMQPValue::FieldTable(inner))),
    ]
}

/// Valid events that their sinks reject, or that no route matches.
fn undeliverable() -> Vec<Case> {
    let of = |tenant: &str| Response::new(tenant, &format!("of {tenant}"), "SUCCESS");
    let without_product = |tenant: &str| of(tenant).field("productId", Value::Null);
    let case = |reason, response, sink| Case { reason, response, sink };
    vec![
        case("unrouted", of("nobody's"), None),
        case("render_failed", without_product("by-product"), Some("by_product")),
        case("render_failed", of("by-product").field("productId", "../../../etc/passwd"), Some("by_product")),
        case("render_failed", of("by-session").field("session", "no such/topic!"), Some("by_session")),
        case("loop", of("back").header("regards-relay-hops", AMQPValue::LongInt(9)), Some("back_to_rabbit")),
        case("refused", of("picky"), Some("picky")),
        case("gave_up", of("hopeless"), Some("hopeless")),
    ]
}

async fn publish_deepest(regards: &Regards, nested: Nested, body: &'static str) {
    let publish = move |login: &Login<'_>| publish_nested(login, EXCHANGE, "good", nested, body.as_bytes());
    regards.publish_by_hand(publish).await;
}

/// Lists the fields of a dead letter that differ from the expected values.
fn differences(case: &Case, letter: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut expect = |field: &str, expected: Value| {
        if letter[field] != expected {
            wrong.push(format!("{field} is {}, not {expected}: {letter}", letter[field]));
        }
    };
    expect("reason", case.reason.into());
    expect("sink", case.sink.into());
    expect("source", "regards".into());
    if case.sink.is_some() {
        expect("correlationId", case.response.correlation_id.clone().into());
        expect("status", "SUCCESS".into());
    }
    if case.reason == "gave_up" {
        expect("attempts", 3.into());
    }
    if letter["detail"].as_str().is_none_or(str::is_empty) {
        wrong.push(format!("no detail: {letter}"));
    }
    if letter["properties"]["app_id"] != "rs-lta-manager" {
        wrong.push(format!("not its properties: {letter}"));
    }
    wrong
}

/// The body of a dead letter as `show --json` prints it.
fn bytes_of(letter: &Value) -> Vec<u8> {
    match (&letter["body"], &letter["body_base64"]) {
        (Value::String(body), _) => body.clone().into_bytes(),
        (_, Value::String(body)) => base64::engine::general_purpose::STANDARD.decode(body).expect("base64"),
        _ => panic!("a dead letter without a body: {letter}"),
    }
}

fn shown(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(100)]).into_owned()
}

#[expect(clippy::cast_precision_loss, reason = "a handful")]
fn count(of: usize) -> f64 {
    of as f64
}

#[tokio::test]
async fn kafka_refuses_a_record_that_is_too_large() {
    let regards = Regards::new().await;
    let kafka = Kafka::shared();
    let topic = crate::support::unique("small");
    kafka.create_topic(&topic, 1, &[("max.message.bytes", "2000")]).await;
    let mut reader = kafka.reader(&[&topic]).await;
    let home = Home::of(
        &regards,
        r#"
version: 1
sources: { regards: { amqp: { url: "${REGARDS}", queue: "${QUEUE}" }, expects: lta } }
sinks: { small: { kafka: { brokers: "${KAFKA}", topic: "${TOPIC}" } } }
routes: [{ name: all, to: small }]
unrouted: dead_letter
"#,
    )
    .with_kafka()
    .with("TOPIC", &topic);
    let relay = home.start_ready().await;
    regards.publish(&Response::new("t", "large", "ERROR").field("message", "x".repeat(5_000))).await;
    regards.publish(&Response::new("t", "small", "ERROR")).await;
    reader.wait_for(1).await;
    relay.wait_for_metric("dead_letters_total", &[("reason", "refused"), ("sink", "small")], 1.0).await;
    relay.stop().await;
    assert_eq!(reader.all().await.len(), 1);
    let letters = home.dead_letters();
    assert_eq!(
        (letters.len(), &letters[0]["reason"], &letters[0]["correlationId"]),
        (1, &"refused".into(), &"large".into())
    );
    regards.assert_left_as_found().await;
}
