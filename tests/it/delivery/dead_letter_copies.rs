//! `dead_letters.to`: a sink receives a copy of each dead letter, with the original bytes and the reason.

use std::collections::BTreeMap;

use lapin::ExchangeKind;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::Value;

use crate::configuration::Edit;
use crate::support::{Answer, Home, Kafka, Rabbit, Receiver, Regards, Response};

const ROUTES: &str = r#"
version: 1
sources: { regards: { amqp: { url: "${REGARDS}", queue: "${QUEUE}" }, expects: lta } }
sinks:
  picky: { webhook: { url: "${PICKY}" } }
  morgue: MORGUE
routes: [{ name: picky, when: { tenant: picky }, to: picky }]
unrouted: dead_letter
dead_letters: { to: morgue }
delivery: { shutdown_grace: 1s }
"#;

/// Three messages that become dead letters: an unreadable one, an unrouted one, and one that its sink refuses.
fn dying() -> [Response; 3] {
    [
        Response::with_body("esa", b"\xff<no text>\n".as_slice())
            .header("regards-relay-reason", AMQPValue::LongString("forged".into())),
        Response::new("nobody's", "unrouted", "SUCCESS"),
        Response::new("picky", "refused", "ERROR"),
    ]
}

/// The body of a copy, and its headers by their names in lower case.
type Copy = (Vec<u8>, BTreeMap<String, String>);

/// Checks that each message of [`dying`] was copied unchanged, with the fields of its dead letter as headers.
fn assert_copied(mut copies: Vec<Copy>, letters: &[Value]) {
    copies.sort_by_key(|(_, headers)| headers["regards-relay-reason"].clone());
    let found = copies.iter().map(|(body, headers)| {
        (&**body, headers["regards-relay-reason"].as_str(), headers.get("regards-relay-sink").map(String::as_str))
    });
    let [unreadable, unrouted, refused] = &dying();
    let expected = [
        (&*unreadable.body, "not_utf8", None),
        (&*refused.body, "refused", Some("picky")),
        (&*unrouted.body, "unrouted", None),
    ];
    assert_eq!(found.collect::<Vec<_>>(), expected);
    for (_, headers) in &copies {
        let number: i64 = headers["regards-relay-dead-letter"].parse().expect("a number");
        let letter = letters.iter().find(|letter| letter["id"] == number);
        let letter = letter.expect("the dead letter is kept");
        for field in ["reason", "detail", "at"] {
            assert_eq!(letter[field], headers[&format!("regards-relay-{field}")].as_str(), "{field}");
        }
        assert_eq!(letter["attempts"].to_string(), headers["regards-relay-attempts"]);
        assert_eq!(headers["__typeid__"], crate::support::response::JAVA_TYPE, "the source's own go along");
    }
}

/// Publishes all messages of [`dying`], waits for their copies, and returns the dead letters.
async fn copied_to(home: &Home, regards: &Regards) -> Vec<Value> {
    let relay = home.start_ready().await;
    regards.publish_all(&dying()).await;
    relay.wait_for_metric("deliveries_total", &[("sink", "morgue"), ("result", "delivered")], 3.0).await;
    relay.stop().await;
    regards.assert_left_as_found().await;
    home.dead_letters()
}

async fn picky() -> Receiver {
    let picky = Receiver::start().await;
    picky.answers(|_| Answer::Status(422));
    picky
}

#[tokio::test]
async fn kafka_receives_copies_of_dead_letters() {
    let (regards, picky) = (Regards::new().await, picky().await);
    let mut topic = Kafka::shared().topic("morgue", 1).await;
    let sink = "{ kafka: { brokers: \"${KAFKA}\", topic: \"${TOPIC}\", key: \"{{ reason }}\" } }";
    let home = Home::of(&regards, &ROUTES.edit("MORGUE", sink))
        .with_kafka()
        .with("TOPIC", topic.topic())
        .with("PICKY", &picky.url());
    let letters = copied_to(&home, &regards).await;
    let records = topic.all().await.to_vec();
    for record in &records {
        assert_eq!(record.key.as_ref(), record.headers.get("regards-relay-reason"));
    }
    let lower =
        |headers: BTreeMap<String, String>| headers.into_iter().map(|(name, value)| (name.to_lowercase(), value));
    assert_copied(records.into_iter().map(|record| (record.body, lower(record.headers).collect())).collect(), &letters);
}

#[tokio::test]
async fn an_exchange_receives_copies_of_dead_letters() {
    let (regards, picky) = (Regards::new().await, picky().await);
    let partner = Rabbit::shared().new_vhost().await;
    partner.exchange("morgue", ExchangeKind::Topic).await;
    partner.queue("dead", FieldTable::default()).await;
    partner.bind("dead", "morgue", "#").await;
    let collected = partner.collect("dead").await;
    let sink = "{ amqp: { url: \"${PARTNER}\", exchange: morgue, routing_key: \"{{ source }}.{{ reason }}\" } }";
    let home = Home::of(&regards, &ROUTES.edit("MORGUE", sink))
        .with("PARTNER", &partner.admin_url())
        .with("PICKY", &picky.url());
    let letters = copied_to(&home, &regards).await;
    let copies = collected.wait_for(3).await.into_iter().map(|message| {
        let names = message.properties.headers().as_ref().expect("headers").inner().keys();
        let headers: BTreeMap<String, String> = names
            .map(|name| (name.as_str().to_lowercase(), message.header(name.as_str()).unwrap_or_default()))
            .collect();
        assert_eq!(message.routing_key, format!("regards.{}", headers["regards-relay-reason"]));
        (message.body, headers)
    });
    assert_copied(copies.collect(), &letters);
}

/// While the sink of the copies is unavailable, the spool keeps the copies, even when the relay is killed. The copies
/// block no other delivery.
#[tokio::test]
async fn a_webhook_receives_copies_of_dead_letters_after_an_outage() {
    let (regards, picky, receiver) = (Regards::new().await, picky().await, Receiver::start().await);
    let sink = "{ webhook: { url: \"http://127.0.0.1:${PORT}/{{ reason }}\" }, retry: { initial_backoff: 100ms, max_backoff: 1s } }";
    let home = Home::of(&regards, &ROUTES.edit("MORGUE", sink))
        .with("PORT", &receiver.port().to_string())
        .with("PICKY", &picky.url());
    receiver.answers(|_| Answer::Status(503));
    let relay = home.start_ready().await;
    regards.publish_all(&dying()).await;
    regards.wait_until_acknowledged().await;
    home.wait_until_waiting("morgue", 3).await;
    relay.kill();
    receiver.answers(|_| Answer::Status(204));
    let relay = home.start_ready().await;
    let accepted = receiver.wait_for_accepted(3).await;
    home.wait_until_waiting("morgue", 0).await;
    relay.stop().await;
    let copies = accepted.into_iter().map(|posted| {
        let text = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let headers: BTreeMap<String, String> = posted.headers.iter().map(text).collect();
        assert!(posted.path.ends_with(&headers["regards-relay-reason"]), "{}", posted.path);
        (posted.body, headers)
    });
    assert_copied(copies.collect(), &home.dead_letters());
}

/// The relay discards a refused copy. It keeps the original dead letter and creates no second one.
#[tokio::test]
async fn a_failed_copy_makes_no_dead_letter() {
    let (regards, picky, receiver) = (Regards::new().await, picky().await, Receiver::start().await);
    let sink = "{ webhook: { url: \"${HOOK}\" }, retry: { initial_backoff: 50ms, max_attempts: 2 } }";
    let home =
        Home::of(&regards, &ROUTES.edit("MORGUE", sink)).with("HOOK", &receiver.url()).with("PICKY", &picky.url());
    receiver.answers(|posted| Answer::Status(if posted.header("regards-relay-sink").is_some() { 422 } else { 404 }));
    let relay = home.start_ready().await;
    regards.publish_all(&dying()).await;
    relay.wait_for_metric("delivery_attempts_total", &[("sink", "morgue"), ("result", "refused")], 1.0).await;
    relay.wait_for_metric("deliveries_total", &[("sink", "morgue"), ("result", "dropped")], 2.0).await;
    home.wait_until_waiting("morgue", 0).await;
    let to_it = home.run(&["dead-letters", "redrive", "--to", "morgue", "--json"]);
    let said = String::from_utf8(to_it.stdout).expect("UTF-8");
    assert!(said.contains(r#""sink morgue takes copies of dead letters only":2"#), "{said}");
    relay.stop().await;
    assert_eq!(home.dead_letters().len(), 3);
    assert_eq!(
        home.warnings_with(&["the copy of a dead letter can't be delivered"]).len(),
        1,
        "one of a kind a minute"
    );
}

#[tokio::test]
async fn copies_follow_a_changed_configuration() {
    let (regards, receiver) = (Regards::new().await, Receiver::start().await);
    let without =
        ROUTES.edit("dead_letters: { to: morgue }\n", "").edit("MORGUE", "{ webhook: { url: \"${PICKY}\" } }");
    let with = ROUTES.edit("MORGUE", "{ webhook: { url: \"${PICKY}\" } }");
    let home = Home::of(&regards, &without).with("PICKY", &receiver.url());
    let relay = home.start_ready().await;
    let unrouted = |id: &str| Response::new("nobody's", id, "SUCCESS");
    regards.publish(&unrouted("before")).await;
    relay.wait_for_metric("dead_letters_total", &[], 1.0).await;
    for (routes, letters) in [(&with, 2.0), (&without, 3.0)] {
        relay.reload(routes, "success").await;
        regards.publish(&unrouted("then")).await;
        relay.wait_for_metric("dead_letters_total", &[], letters).await;
    }
    relay.stop().await;
    assert_eq!((receiver.posted().len(), home.dead_letters().len()), (1, 3));
}
