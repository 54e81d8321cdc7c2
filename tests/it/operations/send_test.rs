//! `send-test`: one test event through the real destinations, beside a relay and without one.

use std::process::Output;

use lapin::ExchangeKind;
use lapin::types::FieldTable;
use serde_json::{Value, json};

use crate::support::{Answer, Home, Kafka, Receiver, Regards, lines_of, unique};

const SECRET: &str = "whsec_cmVnYXJkcy1yZWxheS10ZXN0LXNlY3JldA==";
const ROUTES: &str = r#"
version: 1
sources: { regards: { amqp: { url: "${REGARDS}", queue: "${QUEUE}" }, expects: lta } }
sinks:
  pipeline: { kafka: { brokers: "${KAFKA}", topic: "${TOPIC}.{{ tenant }}" } }
  hook: { webhook: { url: "${HOOK}", secret: "${SECRET}" }, format: cloudevents }
  partner: { amqp: { url: "${PARTNER}", exchange: products, routing_key: "{{ tenant }}.{{ status }}" }, format: original }
  archive: { file: { path: "archive/{{ granuleId }}.ndjson" }, body: '{"tenant": {{ tenant | tojson }}, "test": {{ extra.test | tojson }}}' }
routes:
  - { name: failures, when: { status: ERROR, tenant: esa }, to: [hook, pipeline] }
  - { name: products, when: { tenant: "cnes-*" }, to: archive, transform: [{ rename: { productId: granuleId } }] }
  - { name: all, to: partner }
unrouted: dead_letter
"#;

struct Setup {
    regards: Regards,
    receiver: Receiver,
    topic: String,
    home: Home,
}

async fn setup() -> Setup {
    let regards = Regards::new().await;
    let receiver = Receiver::start().await;
    let topic = unique("tested");
    let home = Home::of(&regards, ROUTES)
        .with_kafka()
        .with("TOPIC", &topic)
        .with("HOOK", &format!("{}?token=t0ken-in-the-url", receiver.url()))
        .with("SECRET", SECRET)
        .with("PARTNER", &regards.vhost.admin_url())
        .keeping_secret(SECRET)
        .keeping_secret("t0ken-in-the-url");
    Setup { regards, receiver, topic, home }
}

/// The output of a test that must succeed, as JSON.
fn sends(home: &Home, arguments: &[&str]) -> Value {
    let output = home.does(&[&["send-test", "--json"], arguments].concat());
    let report: Value = serde_json::from_str(&output).expect("one JSON object");
    assert_eq!((&report["state"], &report["error"]), (&"delivered".into(), &Value::Null), "{report}");
    assert!(!output.contains("t0ken") && !output.contains(SECRET), "{output}");
    report
}

/// The text of a test that must fail.
fn fails(home: &Home, arguments: &[&str], code: i32) -> String {
    let done: Output = home.run(&[&["send-test"], arguments].concat());
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(code), "{said}");
    assert!(!said.contains("t0ken") && !said.contains(SECRET), "{said}");
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_sink_gets_a_marked_event_without_a_relay() {
    let Setup { regards, receiver, topic, home } = setup().await;
    let vhost = &regards.vhost;
    vhost.exchange("products", ExchangeKind::Topic).await;
    vhost.queue("products", FieldTable::default()).await;
    vhost.bind("products", "products", "#").await;
    let products = vhost.collect("products").await;
    let topic = format!("{topic}.esa");
    Kafka::shared().create_topic(&topic, 3, &[]).await;
    let mut records = Kafka::shared().reader(&[&topic]).await;

    let report = sends(&home, &["--sink", "pipeline"]);
    assert_eq!((&report["tenant"], &report["kind"], &report["route"]), (&"esa".into(), &"kafka".into(), &Value::Null));
    assert_eq!(report["destination"], json!({ "topic": topic, "key": report["correlationId"] }));
    let record = records.wait_for(1).await[0].clone();
    assert_eq!(report["to"], json!({ "topic": topic, "partition": record.partition, "offset": record.offset }));
    assert_eq!(record.json()["extra"], json!({ "test": true }));
    assert_eq!(record.json()["status"], "ERROR", "what the route to the sink matches");
    assert_eq!(record.key.as_deref(), report["correlationId"].as_str());
    assert_eq!(record.headers["regards-relay-test"], "true");
    assert_eq!(record.headers["regards-relay-id"], report["id"].as_str().unwrap());

    let report = sends(&home, &["--sink", "hook", "--route", "failures", "--tenant", "esa"]);
    let posted = receiver.wait_for_accepted(1).await;
    posted[0].assert_signed_with(SECRET);
    assert_eq!(posted[0].header("regards-relay-test"), Some("true"));
    assert_eq!(posted[0].header("webhook-id"), report["id"].as_str());
    assert_eq!(posted[0].json()["data"]["extra"], json!({ "test": true }));
    assert_eq!(report["body"], String::from_utf8(posted[0].body.clone()).unwrap());
    assert_eq!((&report["to"]["status"], &report["to"]["url"]), (&204.into(), &report["destination"]["url"]));

    let report = sends(&home, &["--sink", "partner", "--tenant", "other"]);
    let message = products.wait_for(1).await[0].clone();
    assert_eq!(message.routing_key, "other.GRANTED");
    assert_eq!(message.json()["test"], true, "as REGARDS would have sent it");
    assert_eq!(message.header("regards-relay-test").as_deref(), Some("true"));
    assert_eq!(message.header("regards.tenant").as_deref(), Some("other"));
    assert_eq!(report["destination"], json!({ "exchange": "products", "routingKey": "other.GRANTED" }));
    assert_eq!(report["to"], report["destination"]);

    let report = sends(&home, &["--sink", "archive", "--route", "products"]);
    let line = json!({ "tenant": "cnes-test", "test": true });
    assert_eq!(lines_of(home.data("archive/regards-relay-test.ndjson")), [line]);
    assert_eq!((&report["route"], &report["to"]["offset"]), (&"products".into(), &0.into()));
    assert_eq!(report["to"]["path"], report["destination"]["path"]);

    assert!(!home.data("spool.db").exists(), "no spool");
    assert_eq!(receiver.posted().len(), 1);
    let text = home.does(&["send-test", "--sink", "hook"]);
    assert!(text.starts_with("hook (webhook), in its own format\n") && text.contains("\ndelivered in "), "{text}");
    assert!(text.ends_with(" answered 204"), "{text}");
    assert!(!text.contains("t0ken"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_relay_does_not_count_a_test() {
    let Setup { regards: _regards, receiver, home, .. } = setup().await;
    let relay = home.start_ready().await;
    home.does(&["pause", "--sink", "hook"]);
    let report = sends(&home, &["--sink", "hook"]);
    sends(&home, &["--sink", "archive", "--route", "products"]);
    assert_eq!(receiver.accepted().len(), 1, "also while the relay sends nothing");
    for name in ["deliveries_total", "delivery_attempts_total", "messages_received_total", "spool_deliveries"] {
        assert_eq!(relay.metric(name, &[]).await, Ok(Some(0.0)), "{name}");
    }
    assert_eq!(home.does(&["dead-letters", "list", "--json"]), "");
    let trace: Value = serde_json::from_str(&home.does(&["trace", report["id"].as_str().unwrap(), "--json"])).unwrap();
    let event = &trace["requests"][0]["events"][0];
    assert_eq!((&event["test"], &event["deliveries"][0]["to"]), (&true.into(), &report["to"]));
    assert!(home.does(&["trace", report["correlationId"].as_str().unwrap()]).contains(", a test, event"));
    assert_eq!(home.does(&["replay", "--sink", "hook", "--dry-run"]), "no events would be replayed to sink hook");
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_that_does_not_take_the_event_is_explained() {
    let Setup { regards: _regards, mut receiver, home, topic } = setup().await;
    receiver.answers(|_| Answer::Status(401));
    let said = fails(&home, &["--sink", "hook"], 1);
    assert!(said.contains("the sink hook did not take the test event: ") && said.contains("401"), "{said}");
    receiver.answers(|_| Answer::Status(422));
    let said = fails(&home, &["--sink", "hook"], 1);
    assert!(said.contains("the sink hook refused the test event: ") && said.contains("422"), "{said}");
    let report = home.run(&["send-test", "--sink", "hook", "--json"]);
    let json: Value = serde_json::from_slice(&report.stdout).unwrap();
    assert_eq!((&json["state"], report.status.code()), (&"refused".into(), Some(1)), "{json}");
    assert!(json["error"].as_str().unwrap().contains("422"), "{json}");
    assert_eq!(receiver.posted().len(), 3, "each once: a test is not retried");
    receiver.go_down().await;
    let said = fails(&home, &["--sink", "hook"], 1);
    assert!(said.contains("Connection refused"), "{said}");

    let said = fails(&home, &["--sink", "partner"], 1);
    assert!(said.contains("products"), "the exchange is missing: {said}");
    let said = fails(&home, &["--sink", "pipeline"], 1);
    assert!(said.contains(&format!("{topic}.esa")) && said.contains("`--tenant`"), "the topic is missing: {said}");
    let said = fails(&home, &["--sink", "archive"], 1);
    assert!(said.contains("granuleId") && said.contains("`--route products`"), "{said}");
    std::fs::create_dir_all(home.data("archive/regards-relay-test.ndjson")).unwrap();
    let said = fails(&home, &["--sink", "archive", "--route", "products"], 1);
    assert!(said.contains("archive/regards-relay-test.ndjson"), "{said}");
}

/// The limit of a minute is shortened to two seconds.
#[tokio::test]
async fn a_destination_that_never_answers_ends_the_test() {
    let Setup { regards: _regards, receiver, home, .. } = setup().await;
    home.write_routes(&ROUTES.replace(r#"secret: "${SECRET}""#, "timeout: 1h"));
    let home = home.with("REGARDS_RELAY_TIME_DIVISOR", "30");
    receiver.answers(|_| Answer::Never);
    let said = fails(&home, &["--sink", "hook"], 1);
    assert!(said.contains("no answer within 2 s; the event may still arrive"), "{said}");
    assert_eq!(receiver.posted().len(), 1);
}

#[tokio::test]
async fn wrong_names_and_a_missing_variable_are_mistakes_of_the_caller() {
    let Setup { regards: _regards, receiver, home, .. } = setup().await;
    assert!(fails(&home, &["--sink", "hok"], 2).contains("did you mean `hook`?"));
    assert!(fails(&home, &["--sink", "hook", "--route", "products"], 2).contains("these do: failures"));
    let unset = Home::new(&ROUTES.replace("${SECRET}", "${NOT_SET}")).with("HOOK", &receiver.url());
    assert!(fails(&unset, &["--sink", "hook"], 2).contains("NOT_SET"));
    assert_eq!(receiver.posted().len(), 0);
}
