//! Conditions in CEL and transforms, in a relay between real brokers.

use serde_json::{Value, json};

use crate::configuration::Edit;
use crate::support::{Answer, Home, Kafka, Receiver, Regards, Response, unique};

const ROUTES: &str = r#"
version: 1
sources: { regards: { amqp: { url: "${REGARDS}", queue: "${QUEUE}" }, expects: lta } }
sinks:
  large: { file: { path: large.ndjson } }
  archive: { file: { path: "{{ tenant }}.ndjson" } }
routes:
  - { name: large, when: { if: "headers['regards.converter'] == 'GSON' && extra.size > 3" }, to: large }
  - { name: cnes, when: { tenant: "cnes-*" }, to: archive }
unrouted: drop
"#;

#[tokio::test]
async fn an_event_whose_condition_fails_takes_another_route_or_becomes_a_dead_letter() {
    let regards = Regards::new().await;
    let home = Home::of(&regards, ROUTES);
    let relay = home.start_ready().await;
    let sized = |tenant: &str, id: &str, size: Value| Response::new(tenant, id, "ERROR").field("size", size);
    regards
        .publish_all(&[
            sized("esa", "small", 3.into()),
            sized("esa", "large", 4.into()),
            sized("esa", "unknown", "about 5".into()),
            sized("cnes-a", "unknown, too", "6?".into()),
            sized("cnes-a", "large, too", 7.into()),
        ])
        .await;
    let went = |lines: Vec<Value>| lines.iter().map(|line| line["correlationId"].clone()).collect::<Vec<_>>();
    assert_eq!(went(home.wait_for_lines("large.ndjson", 2).await), ["large", "large, too"]);
    assert_eq!(went(home.wait_for_lines("cnes-a.ndjson", 2).await), ["unknown, too", "large, too"]);
    relay.wait_for_metric("dead_letters_total", &[("reason", "rule_error")], 1.0).await;
    assert_eq!(relay.metric("route_errors_total", &[("route", "large")]).await, Ok(Some(2.0)));
    assert_eq!(relay.metric("unrouted_events_total", &[]).await, Ok(Some(1.0)), "the small one");
    let [letter] = &home.dead_letters()[..] else { panic!("one dead letter: {:?}", home.dead_letters()) };
    assert_eq!((&letter["correlationId"], &letter["reason"]), (&"unknown".into(), &"rule_error".into()));
    let detail = letter["detail"].as_str().expect("text");
    assert!(detail.starts_with("`if:` of the route large: ") && detail.contains("string"), "{detail}");
    assert_eq!(home.warnings_with(&["the `if:` of a route could not be evaluated", "large"]).len(), 1, "once a minute");

    let dry_run = home.does(&["dead-letters", "redrive", "--dry-run", "--json"]);
    assert!(dry_run.starts_with(r#"{"redriven":0,"sinks":{},"left":{"`if:` of the route large: "#), "{dry_run}");
    let right = ROUTES.edit("extra.size > 3", "(string(extra.size).startsWith('about') || extra.size > 3)");
    relay.reload(&right, "success").await;
    assert_eq!(home.does(&["dead-letters", "redrive", "--json"]), r#"{"redriven":1,"sinks":{"large":1},"left":{}}"#);
    assert_eq!(went(home.wait_for_lines("large.ndjson", 3).await), ["large", "large, too", "unknown"]);
    relay.stop().await;
    regards.assert_left_as_found().await;
}

const TRANSFORMED: &str = r#"
version: 1
sources: { regards: { amqp: { url: "${REGARDS}", queue: "${QUEUE}" }, expects: lta } }
sinks:
  pipeline:
    kafka: { brokers: "${KAFKA}", topic: "${STEM}.{{ team | default('others') }}" }
  on_call:
    webhook: { url: "${HOOK}", headers: { X-Team: "{{ team }}" } }
    body: '{{ subject }}'
    retry: { initial_backoff: 100ms, max_backoff: 500ms }
  archive: { file: { path: archive.ndjson } }
routes:
  - name: quota
    when: { status: ERROR }
    to: [pipeline, on_call]
    transform:
      - set: { team: storage, quota: { cel: "extra.size * 2" }, subject: { cel: "tenant + '/' + status" } }
      - remove: [session, extra]
      - rename: { productId: granuleId }
  - { name: others, to: [pipeline, archive] }
unrouted: drop
"#;

#[tokio::test]
async fn a_transform_changes_only_what_its_sinks_get() {
    let (regards, receiver, kafka, stem) =
        (Regards::new().await, Receiver::start().await, Kafka::shared(), unique("team"));
    receiver.answers(|_| Answer::Status(500));
    let topics = ["storage", "others"].map(|team| format!("{stem}.{team}"));
    for topic in &topics {
        kafka.create_topic(topic, 1, &[]).await;
    }
    let home = Home::of(&regards, TRANSFORMED).with_kafka().with("STEM", &stem).with("HOOK", &receiver.url());
    let relay = home.start_ready().await;
    let [error, unsized_error, granted] = [("one", "ERROR"), ("two", "ERROR"), ("one", "GRANTED")]
        .map(|(id, status)| Response::new("cnes-a", id, status).field("session", "s").field("productId", "p"));
    let [error, unsized_error] = [error.field("size", 4), unsized_error.field("size", "unknown")];
    regards.publish_all(&[error, unsized_error, granted]).await;

    let [archived, _, plain] = &home.wait_for_lines("archive.ndjson", 3).await[..] else { panic!("three lines") };
    let mut transformed = archived.clone();
    let fields = transformed.as_object_mut().expect("an event");
    for name in ["session", "extra", "productId"] {
        fields.remove(name);
    }
    fields.extend([("granuleId".into(), "p".into()), ("team".into(), "storage".into()), ("quota".into(), 8.into())]);
    fields.insert("subject".into(), "cnes-a/ERROR".into());
    let mut reader = kafka.reader(&[&topics[0], &topics[1]]).await;
    let records = reader.wait_for(2).await;
    let of = |topic: &str| records.iter().find(|record| record.topic == topic).expect("a record of that topic");
    let (storage, others) = (of(&topics[0]), of(&topics[1]));
    assert_eq!((storage.json(), &others.json()), (transformed, plain));
    assert_eq!(storage.key.as_deref(), Some("one"));
    let header = |name: &str| storage.headers.get(name).map(String::as_str);
    assert_eq!(header("regards-relay-id"), archived["id"].as_str(), "the id is the event's own");
    assert_eq!((header("regards-relay-tenant"), header("regards-relay-status")), (Some("cnes-a"), Some("ERROR")));

    relay.wait_for_metric("dead_letters_total", &[("reason", "render_failed")], 2.0).await;
    let letters = home.dead_letters();
    assert!(letters.iter().all(|letter| letter["correlationId"] == "two"), "{letters:?}");
    let detail = letters[0]["detail"].as_str().expect("text");
    assert!(detail.starts_with("transform: `set` of quota: "), "{detail}");

    home.wait_until_waiting("on_call", 1).await;
    let right = TRANSFORMED.edit("tenant + '/' + status", "'REGARDS ' + status").edit("extra.size * 2", "extra.size");
    relay.reload(&right, "success").await;
    receiver.answers(|_| Answer::Status(204));
    let redriven = home.does(&["dead-letters", "redrive", "--json"]);
    assert_eq!(redriven, r#"{"redriven":2,"sinks":{"on_call":1,"pipeline":1},"left":{}}"#);
    let posted = receiver.wait_for_accepted(2).await;
    for posted in &posted {
        assert_eq!((&posted.body[..], posted.header("x-team")), (&b"REGARDS ERROR"[..], Some("storage")));
    }
    let records = reader.wait_for(3).await;
    assert_eq!(records[2].json()["quota"], json!("unknown"), "{}", records[2].json());

    receiver.answers(|_| Answer::Status(500));
    regards.publish(&Response::new("cnes-a", "three", "ERROR").field("size", 3)).await;
    home.wait_until_waiting("on_call", 1).await;
    relay.reload(&right.edit("- name: quota", "- name: failures"), "success").await;
    relay.wait_for_metric("dead_letters_total", &[("sink", "on_call")], 2.0).await;
    let redriven = home.does(&["dead-letters", "redrive", "--json"]);
    let left = "its route is no longer in the configuration: add it again, or name a sink with `--to`";
    assert_eq!(redriven, format!(r#"{{"redriven":0,"sinks":{{}},"left":{{"{left}":1}}}}"#));
    home.does(&["dead-letters", "redrive", "--to", "archive"]);
    let archived = home.wait_for_lines("archive.ndjson", 5).await;
    assert_eq!(archived[3], archived[4], "once by its own route, and once redriven, as no route changed it");
    relay.stop().await;
    regards.assert_left_as_found().await;
}
