//! One unroutable message among a hundred pipelined ones is found, and no routable one is repeated.
//!
//! A client library can hand the broker's return to another message's confirm: then the unroutable message counts as
//! delivered and the other one as failed. Ten thousand publishes in flight show it.

use std::collections::BTreeSet;

use lapin::ExchangeKind;
use lapin::types::FieldTable;

use crate::support::rabbit::AmqpMessage;
use crate::support::{Home, Rabbit, Regards, Response};

const PUBLISHES: usize = 10_000;

/// An unroutable event becomes a dead letter with the reason after two attempts.
const ROUTES: &str = r#"
version: 1
sources: { regards: { amqp: { url: "${REGARDS}", queue: "${QUEUE}" }, expects: lta } }
sinks:
  partner:
    amqp: { url: "${PARTNER}", exchange: partner.products, routing_key: "{{ session }}" }
    retry: { initial_backoff: 50ms, max_backoff: 50ms, max_attempts: 2 }
routes: [{ name: all, to: partner }]
unrouted: dead_letter
"#;

#[tokio::test]
async fn each_unroutable_message_is_retried_and_no_other() {
    let regards = Regards::new().await;
    regards.use_cheap_queue().await;
    let partner = Rabbit::shared().new_vhost().await;
    partner.exchange("partner.products", ExchangeKind::Direct).await;
    partner.queue("products", FieldTable::default()).await;
    partner.bind("products", "partner.products", "somewhere").await;
    let products = partner.collect("products").await;

    let (mut routable, mut unroutable) = (BTreeSet::new(), BTreeSet::new());
    let responses: Vec<Response> = (0..PUBLISHES)
        .map(|number| {
            let id = format!("c-{number}");
            let to = if number % 100 == 42 { "nowhere" } else { "somewhere" };
            let ids = if to == "nowhere" { &mut unroutable } else { &mut routable };
            ids.insert(id.clone());
            Response::new("t", &id, "SUCCESS").field("session", to)
        })
        .collect();
    regards.publish_all(&responses).await;

    let home = Home::of(&regards, ROUTES).with("PARTNER", &partner.admin_url());
    let relay = home.start_ready().await;
    products.wait_for(routable.len()).await;
    relay.wait_for_metric("dead_letters_total", &[("reason", "gave_up")], 100.0).await;
    let retried = relay.metric("delivery_attempts_total", &[("sink", "partner"), ("result", "retry")]).await.unwrap();
    relay.stop().await;

    let arrived: Vec<String> = products.all().iter().map(correlation_id).collect();
    assert_eq!(arrived.len(), routable.len(), "no routable one is repeated");
    assert_eq!(arrived.into_iter().collect::<BTreeSet<_>>(), routable);
    let letters = home.dead_letters();
    let given_up: BTreeSet<String> =
        letters.iter().map(|letter| letter["correlationId"].as_str().unwrap().to_owned()).collect();
    assert_eq!(given_up, unroutable, "each unroutable one is found out");
    let says_why = |letter: &&serde_json::Value| letter["detail"].as_str().unwrap().contains("NO_ROUTE");
    assert_eq!(letters.iter().filter(says_why).count(), unroutable.len(), "{}", letters[0]);
    assert!(retried.is_some_and(|retried| (100.0..=200.0).contains(&retried)), "only these are retried: {retried:?}");
    let warned = home.warnings_with(&["a delivery failed"]).len();
    assert!((1..=5).contains(&warned), "a line now and then, not one each: {warned}");
    regards.assert_left_as_found().await;
}

fn correlation_id(message: &AmqpMessage) -> String {
    message.json()["correlationId"].as_str().expect("a text").to_owned()
}
