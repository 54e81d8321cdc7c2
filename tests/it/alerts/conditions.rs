//! Alerts about parts of the relay: each is raised when its condition holds, once, and resolved when it no longer does.

use serde_json::Value;

use crate::support::webhook::Posted;
use crate::support::{Answer, Home, Kafka, Proxy, Rabbit, Receiver, Regards, Response, until};

/// The status, the subject and the words of each event that a receiver accepted.
fn told(pager: &Receiver) -> Vec<(String, String)> {
    let told = pager.accepted();
    told.iter().map(Posted::json).map(|event| (text(&event["status"]), text(&event["extra"]["subject"]))).collect()
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

fn pair(subject: &str) -> [(String, String); 2] {
    ["RAISED", "RESOLVED"].map(|status| (status.to_owned(), subject.to_owned()))
}

const FAILING: &str = r#"
version: 1
sources: { regards: { amqp: { url: "${REGARDS}", queue: "${QUEUE}" }, expects: lta } }
sinks:
  hook: { webhook: { url: "${HOOK}" }, retry: { initial_backoff: 100ms, max_backoff: 500ms } }
  pager: { webhook: { url: "${PAGER}" }, retry: { initial_backoff: 100ms, max_backoff: 500ms } }
routes: [{ name: all, to: hook }]
unrouted: dead_letter
alerts:
  - { name: trouble, sink_failing: { for: 1s }, to: [pager, hook] }
  - { name: filling, spool_filling: { above: 60% }, to: [hook, pager] }
spool: { max_size: 1MiB }
delivery: { shutdown_grace: 1s }
"#;

#[tokio::test]
async fn a_failing_sink_is_reported_to_others_once_and_resolved_when_it_delivers_again() {
    let (regards, pager, hook) = (Regards::new().await, Receiver::start().await, Receiver::start().await);
    let home = Home::of(&regards, FAILING).with("PAGER", &pager.url()).with("HOOK", &hook.url());
    hook.answers(|_| Answer::Status(503));
    let relay = home.start_ready().await;
    regards.publish(&Response::new("cnes-a", "c-1", "ERROR")).await;
    let raised = pager.wait_for_accepted(1).await[0].json();
    let fields = ["tenant", "correlationId", "productId", "expires"].map(|name| raised[name].clone());
    assert_eq!(fields, [Value::Null, Value::Null, Value::Null, Value::Null]);
    assert!(text(&raised["extra"]["error"]).contains("503"), "{raised}");
    home.wait_until_waiting("pager", 0).await;
    relay.kill();
    let relay = home.start_ready().await;
    assert_eq!(relay.metric("alerts_active", &[("alert", "trouble")]).await, Ok(Some(1.0)));
    hook.answers(|_| Answer::Status(204));
    let resolved = pager.wait_for_accepted(2).await[1].json();
    assert_eq!(
        [&resolved["extra"]["since"], &resolved["extra"]["alert"]],
        [&raised["extra"]["since"], &"trouble".into()]
    );
    // The kill may have cost the record of the first event.
    until("the last event in the journal", async || {
        let traced = home.run(&["trace", "trouble/sink hook", "--json"]);
        let traced: Value = serde_json::from_slice(&traced.stdout).map_err(|error| error.to_string())?;
        let events = &traced["requests"][0]["events"];
        let delivered = |event: &Value| event["deliveries"][0]["state"] == "delivered" && event["outcome"] == "alert";
        let last = events.as_array().and_then(|events| events.last());
        let is_whole = last.is_some_and(|event| event["status"] == "RESOLVED" && delivered(event));
        if is_whole { Ok(()) } else { Err(traced.to_string()) }
    })
    .await;
    relay.stop().await;
    assert_eq!(told(&pager), pair("sink hook"));
    assert!(hook.posted().iter().all(|posted| posted.json()["type"] != raised["type"]), "it heard nothing of itself");
}

#[tokio::test]
async fn a_share_of_the_spool_that_fills_up_is_reported() {
    let (regards, pager, hook) = (Regards::new().await, Receiver::start().await, Receiver::start().await);
    let home = Home::of(&regards, &FAILING.replace("for: 1s", "for: 1h"))
        .with("PAGER", &pager.url())
        .with("HOOK", &hook.url());
    hook.answers(|_| Answer::Status(503));
    let relay = home.start_ready().await;
    // 60 % of the share of one sink, half a mebibyte, are 315 kB.
    let large = |number| Response::new("cnes-a", &format!("c-{number}"), "ERROR").field("message", "x".repeat(40_000));
    regards.publish_all(&(0..9).map(large).collect::<Vec<_>>()).await;
    pager.wait_for_accepted(1).await;
    hook.answers(|_| Answer::Status(204));
    pager.wait_for_accepted(2).await;
    relay.stop().await;
    assert_eq!(told(&pager), pair("sink hook"));
}

#[tokio::test]
async fn a_source_that_is_down_is_reported() {
    let (regards, pager) = (Regards::new().await, Receiver::start().await);
    let mut proxy = Proxy::to(Rabbit::shared().services().amqp_port()).await;
    let url = regards.vhost.url_at(&regards.user, &regards.password, proxy.port());
    let routes = FAILING.replace("sink_failing: {", "source_down: {").replace("${REGARDS}", "${PROXIED}");
    let home = Home::of(&regards, &routes).with("PAGER", &pager.url()).with("HOOK", &pager.url()).with("PROXIED", &url);
    let relay = home.start_ready().await;
    proxy.go_down().await;
    pager.wait_for_accepted(2).await;
    proxy.come_back().await;
    pager.wait_for_accepted(4).await;
    relay.stop().await;
    let mut told = told(&pager);
    told.sort();
    told.dedup();
    assert_eq!(told, pair("source regards"), "both sinks get both");
}

const RECORDS: &str = r#"
version: 1
sources: { regards: { amqp: { url: "${REGARDS}", queue: "${QUEUE}" }, expects: lta } }
sinks:
  ops: { kafka: { brokers: "${KAFKA}", topic: "${TOPIC}" }, format: cloudevents }
routes: [{ name: all, to: ops }]
unrouted: dead_letter
alerts:
  - { name: letters, dead_letters: {}, to: ops }
  - { name: reload, reload_failed: {}, to: ops }
delivery: { shutdown_grace: 1s }
"#;

#[tokio::test]
async fn dead_letters_and_failed_reloads_are_reported_to_a_topic_each_pair_with_one_key() {
    let regards = Regards::new().await;
    let mut topic = Kafka::shared().topic("alerts", 3).await;
    let home = Home::of(&regards, RECORDS).with_kafka().with("TOPIC", topic.topic());
    let relay = home.start_ready().await;
    regards.publish(&Response::with_body("cnes-a", "<no json>")).await;
    relay.wait_for_metric("alerts_active", &[("alert", "letters")], 1.0).await;
    home.does(&["dead-letters", "purge", "--yes"]);
    relay.wait_for_metric("alerts_total", &[("alert", "letters"), ("status", "RESOLVED")], 1.0).await;
    relay.reload("version: 1", "failure").await;
    relay.wait_for_metric("alerts_active", &[("alert", "reload")], 1.0).await;
    relay.reload(RECORDS, "success").await;
    let records = topic.wait_for(4).await;
    relay.stop().await;
    for (subject, key) in [("dead letters", "letters/dead letters"), ("configuration", "reload/configuration")] {
        let pair: Vec<_> = records.iter().filter(|record| record.key.as_deref() == Some(key)).collect();
        let statuses: Vec<_> = pair.iter().map(|record| record.json()["status"].clone()).collect();
        assert_eq!(statuses, ["RAISED", "RESOLVED"], "{subject}");
        assert_eq!(pair[0].json()["extra"]["subject"], subject);
        let attributes = &pair[0].headers;
        assert!(
            attributes.contains_key("ce_id")
                && attributes.keys().all(|name| name != "ce_subject" && name != "ce_tenant")
        );
    }
}
