//! A failure is blamed on the sink, a destination or the event: a wrong setting of a sink opens its breaker and makes
//! few dead letters.

use crate::configuration::Edit;
use crate::support::response::lives;
use crate::support::{Answer, Home, Rabbit, Regards, with_webhook};

const ROUTES: &str = configuration! {
    queue: "prefetch: 100",
    sinks: {
        hook: r#"{ webhook: { url: "${HOOK}" }, retry: { initial_backoff: 20ms, max_backoff: 200ms } }"#,
    },
};
const REQUESTS: usize = 200;
const HOOK: (&str, &str) = ("sink", "hook");

/// Checks that a receiver with this error status opens the breaker. Once it accepts requests again, the relay delivers
/// everything except the dead letters.
async fn survives(answer: u16, most_dead: usize) {
    let (regards, receiver, home) = with_webhook(ROUTES).await;
    receiver.answers(move |_| Answer::Status(answer));
    let relay = home.start_ready().await;
    let published = lives("t", "blamed", REQUESTS);
    regards.publish_all(&published).await;
    relay.wait_for_metric("sink_breaker_open", &[HOOK], 1.0).await;
    regards.wait_until_acknowledged().await;
    let probed = receiver.posted().len();
    receiver.wait_for_posted(probed + 5).await;
    assert_eq!(relay.metric("sink_breaker_open", &[HOOK]).await, Ok(Some(1.0)), "no probe closes it");
    let died = home.dead_letters().len();
    assert!(died <= most_dead, "{died} died of what no other event would change");
    receiver.answers(|_| Answer::Status(204));
    receiver.wait_for_accepted(published.len() - died).await;
    home.wait_until_waiting("hook", 0).await;
    relay.wait_for_metric("deliveries_total", &[HOOK, ("result", "delivered")], 1.0).await;
    assert_eq!(relay.metric("sink_breaker_open", &[HOOK]).await, Ok(Some(0.0)));
    assert_eq!(home.dead_letters().len(), died);
    relay.stop().await;
}

#[tokio::test]
async fn a_receiver_that_refuses_everything_makes_few_dead_letters() {
    survives(400, 9).await;
}

#[tokio::test]
async fn a_wrong_token_opens_the_breaker() {
    survives(401, 0).await;
}

#[tokio::test]
async fn a_url_that_accepts_no_event_opens_the_breaker() {
    survives(405, 0).await;
}

#[tokio::test]
async fn an_exchange_that_is_missing_opens_the_breaker() {
    let regards = Regards::new().await;
    let partner = Rabbit::shared().new_vhost().await;
    let hook = r#"{ webhook: { url: "${HOOK}" }, retry: { initial_backoff: 20ms, max_backoff: 200ms } }"#;
    let amqp =
        r#"{ amqp: { url: "${PARTNER}", exchange: products }, retry: { initial_backoff: 20ms, max_backoff: 200ms } }"#;
    let home = Home::of(&regards, &ROUTES.edit(hook, amqp)).with("PARTNER", &partner.admin_url());
    let relay = home.start_ready().await;
    let published = lives("t", "blamed", REQUESTS);
    regards.publish_all(&published).await;
    relay.wait_for_metric("sink_breaker_open", &[HOOK], 1.0).await;
    regards.wait_until_acknowledged().await;
    partner.exchange("products", lapin::ExchangeKind::Fanout).await;
    partner.queue("products", lapin::types::FieldTable::default()).await;
    partner.bind("products", "products", "").await;
    let collected = partner.collect("products").await;
    collected.wait_for(published.len()).await;
    home.wait_until_waiting("hook", 0).await;
    relay.stop().await;
    assert!(home.dead_letters().is_empty());
}
