//! `replay`: events of the journal again, to any sink.

use lapin::ExchangeKind;
use lapin::types::FieldTable;
use serde_json::Value;

use crate::support::{Answer, Home, Kafka, Receiver, Regards, Response, Services, lines_of, until};

const ROUTES: &str = r#"
version: 1
sources: { regards: { amqp: { url: "${REGARDS}", queue: "${QUEUE}" }, expects: lta } }
sinks:
  archive: { file: { path: archive.ndjson } }
  pipeline: { kafka: { brokers: "${KAFKA}", topic: "${TOPIC}" } }
  hook: { webhook: { url: "${HOOK}" }, retry: { initial_backoff: 50ms } }
  partner: { amqp: { url: "${BROKER}", exchange: partner, routing_key: "{{ tenant }}" } }
routes:
  - { name: all, to: archive }
  - { name: to-hook, when: { tenant: nobody }, to: hook, transform: [{ set: { team: storage } }] }
  - { name: to-others, when: { tenant: nobody }, to: [pipeline, partner] }
unrouted: dead_letter
"#;

/// A home whose webhook is `receiver`. Its other brokers are not there, and get nothing.
fn home(regards: &Regards, receiver: &Receiver, routes: &str) -> Home {
    Home::of(regards, routes)
        .with("HOOK", &receiver.url())
        .with("BROKER", "amqp://127.0.0.1:1")
        .with("TOPIC", "replay")
        .with("KAFKA", "127.0.0.1:1")
}

/// The ids of the archive's events that match, in the order of receipt.
fn archived(home: &Home, matches: impl Fn(&Value) -> bool) -> Vec<String> {
    let events = lines_of(home.data("archive.ndjson"));
    events.iter().filter(|event| matches(event)).map(|event| event["id"].as_str().unwrap().to_owned()).collect()
}

fn responses() -> Vec<Response> {
    let response = |number: usize| {
        let (tenant, status) = (["cnes-a", "esa"][number % 2], ["GRANTED", "ERROR"][number / 2 % 2]);
        Response::new(tenant, &format!("order-{}", number % 10), status).field("message", format!("number {number}"))
    };
    (0..200).map(response).collect()
}

#[tokio::test]
async fn a_replay_reaches_each_kind_of_sink_in_order_and_marked() {
    let regards = Regards::new().await;
    regards.vhost.exchange("partner", ExchangeKind::Topic).await;
    regards.vhost.queue("partner", FieldTable::default()).await;
    regards.vhost.bind("partner", "partner", "#").await;
    let partner = regards.vhost.collect("partner").await;
    let mut topic = Kafka::shared().topic("replay", 3).await;
    let receiver = Receiver::start().await;
    let services = Services::shared();
    let home = home(&regards, &receiver, ROUTES)
        .with("BROKER", &regards.vhost.url_for(services.amqp_user(), services.amqp_password()))
        .with("TOPIC", topic.topic())
        .with_kafka();
    let relay = home.start_ready().await;
    regards.publish_all(&responses()).await;
    regards.wait_until_acknowledged().await;
    let errors = archived(&home, |event| event["status"] == "ERROR");
    // The event and its delivery.
    relay.wait_for_metric("journal_records", &[], 400.0).await;

    let dry = home.does(&["replay", "--sink", "pipeline", "--status", "ERROR", "--dry-run"]);
    assert_eq!(dry, "100 events would be replayed to sink pipeline");
    assert_eq!(topic.all().await.len(), 0);
    let replayed = home.does(&["replay", "--sink", "pipeline", "--status", "ERROR", "--yes"]);
    assert_eq!(replayed, "100 events spooled for delivery to sink pipeline");
    let records = topic.wait_for(100).await;
    let mut by_request: std::collections::HashMap<String, Vec<String>> = std::collections::HashMap::new();
    for record in records {
        assert_eq!(record.headers["regards-relay-replayed"], "true");
        let event = record.json();
        let request = format!("{} {}", event["tenant"], event["correlationId"]);
        by_request.entry(request).or_default().push(event["id"].as_str().unwrap().to_owned());
    }
    for (request, ids) in &by_request {
        let expected = archived(&home, |event| {
            event["status"] == "ERROR" && format!("{} {}", event["tenant"], event["correlationId"]) == *request
        });
        assert_eq!(*ids, expected, "{request}");
    }
    assert_eq!(by_request.values().map(Vec::len).sum::<usize>(), errors.len());

    home.does(&[
        "replay",
        "--sink",
        "hook",
        "--tenant",
        "esa",
        "--correlation-id",
        "order-3",
        "--rate",
        "100/s",
        "--yes",
    ]);
    let expected = archived(&home, |event| event["correlationId"] == "order-3");
    let posted = receiver.wait_for_accepted(expected.len()).await;
    let ids: Vec<_> = posted.iter().map(|posted| posted.header("webhook-id").unwrap().to_owned()).collect();
    assert_eq!(ids, expected);
    for posted in &posted {
        assert_eq!(posted.header("regards-relay-replayed"), Some("true"));
        assert_eq!(posted.json().get("team"), None, "no route leads there today, so there is no transform");
    }

    home.does(&["replay", "--sink", "partner", "--correlation-id", "order-4", "--yes"]);
    let expected = archived(&home, |event| event["correlationId"] == "order-4");
    let messages = partner.wait_for(expected.len()).await;
    let ids: Vec<_> =
        messages.iter().map(|message| message.properties.message_id().as_ref().unwrap().to_string()).collect();
    assert_eq!(ids, expected);
    assert!(messages.iter().all(|message| message.header("regards-relay-replayed").as_deref() == Some("true")));

    let all = home.does(&["replay", "--sink", "archive", "--yes", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&all).unwrap()["replayed"], 200);
    home.wait_for_lines("archive.ndjson", 400).await;
    let trace = until("the replayed delivery in the trace", async || {
        let trace: Value = serde_json::from_str(&home.does(&["trace", "order-4", "--json"])).unwrap();
        let event = &trace["requests"][0]["events"][0];
        match event["deliveries"].as_array().unwrap().iter().filter(|delivery| delivery["replayed"] == true).count() {
            2 => Ok(event.clone()),
            _ => Err(event.to_string()),
        }
    })
    .await;
    assert_eq!(
        trace["deliveries"].as_array().unwrap().iter().filter(|delivery| delivery["replayed"] == false).count(),
        1
    );
    relay.stop().await;
}

#[tokio::test]
async fn a_replay_without_a_relay_is_delivered_after_the_next_start() {
    let regards = Regards::new().await;
    let receiver = Receiver::start().await;
    let home = home(&regards, &receiver, ROUTES);
    let relay = home.start_ready().await;
    regards.publish_all(&responses()).await;
    regards.wait_until_acknowledged().await;
    relay.stop().await;
    let spooled = home.does(&["replay", "--sink", "hook", "--tenant", "esa", "--yes"]);
    assert_eq!(spooled, "100 events spooled for delivery to sink hook");
    assert_eq!(home.waiting("hook"), 100);
    receiver.answers(|_| Answer::Status(200));
    let relay = home.start_ready().await;
    let posted = receiver.wait_for_accepted(100).await;
    assert!(posted.iter().all(|posted| posted.header("regards-relay-replayed") == Some("true")));
    relay.stop().await;

    let unknown = home.run(&["replay", "--sink", "hok"]);
    assert_eq!(unknown.status.code(), Some(2));
    home.write_routes(&format!("{ROUTES}journal: none\n"));
    let disabled = home.run(&["replay", "--sink", "hook"]);
    let said = String::from_utf8_lossy(&disabled.stderr);
    assert_eq!(disabled.status.code(), Some(2));
    assert!(said.contains("there is no journal to replay"), "{said}");
}

#[tokio::test]
async fn without_messages_a_replay_fails_and_says_why() {
    let regards = Regards::new().await;
    let receiver = Receiver::start().await;
    let home = home(&regards, &receiver, &format!("{ROUTES}journal: {{ bodies: false }}\n"));
    let relay = home.start_ready().await;
    regards.publish_all(&responses()).await;
    regards.wait_until_acknowledged().await;
    relay.stop().await;
    let failed = home.run(&["replay", "--sink", "hook", "--yes"]);
    let said = String::from_utf8_lossy(&failed.stderr);
    assert_eq!(failed.status.code(), Some(1));
    assert!(said.contains("the messages of these 200 events were not recorded"), "{said}");
    let trace: Value = serde_json::from_str(&home.does(&["trace", "order-1", "--json"])).unwrap();
    assert_eq!(trace["requests"][0]["events"][0]["message"], Value::Null);
}
