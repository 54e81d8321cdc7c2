//! Users with few channels: opening one channel too many closes the whole connection in RabbitMQ.

use std::collections::HashSet;

use lapin::ExchangeKind;
use lapin::types::FieldTable;
use regards_relay::timer::DIVISOR;

use crate::support::response::lives;
use crate::support::{Home, Rabbit, Receiver, Regards, unique, until};

const TO_PARTNER: &str = configuration! {
    sinks: {
        partner: r#"{ amqp: { url: "${PARTNER}", exchange: products, routing_key: "{{ status }}" }, retry: { initial_backoff: 100ms, max_backoff: 1s, max_attempts: 5 } }"#,
    },
};

/// Enough events to fill several in-flight windows.
const LIVES: usize = 2_000;

#[tokio::test]
async fn a_sink_limited_to_one_channel_repeats_nothing() {
    let regards = Regards::new().await;
    regards.use_cheap_queue().await;
    let partner = Rabbit::shared().new_vhost().await;
    partner.exchange("products", ExchangeKind::Fanout).await;
    partner.queue("all", FieldTable::default()).await;
    partner.bind("all", "products", "").await;
    let (user, password) = (unique("narrow"), unique("secret"));
    partner.rabbit().user(&user, &password).await;
    partner.permit(&user, "", "products", "").await;
    partner.rabbit().limit_channels(&user, 1).await;
    let collected = partner.collect("all").await;
    let home = Home::of(&regards, TO_PARTNER).with("PARTNER", &partner.url_for(&user, &password));
    let relay = home.start_ready().await;
    let events = lives("t", "life", LIVES);
    regards.publish_all(&events).await;
    collected.wait_for(2 * LIVES).await;
    regards.wait_until_acknowledged().await;
    // The sink remembers the channel limit after a reconnect.
    partner.close_connection_of(&user).await;
    let more = lives("t", "more", LIVES);
    regards.publish_all(&more).await;
    let all = collected.wait_for(4 * LIVES).await;
    regards.wait_until_acknowledged().await;
    relay.stop().await;
    let ids: HashSet<_> = all.iter().map(|message| message.header("regards-relay-id")).collect();
    assert_eq!((all.len(), ids.len()), (4 * LIVES, 4 * LIVES), "each once");
    assert!(home.dead_letters().is_empty());
    let connections = home.log().lines().filter(|line| line.contains("connected to the broker")).count();
    assert!(connections <= 3, "one to find it out, one that worked, one after that was closed: {connections}");
    let said = home.warnings_with(&["partner", &user, "channel"]);
    assert_eq!(said.len(), 1, "{said:?}");
}

const TO_HOOK: &str = configuration! {
    sinks: {
        hook: r#"{ webhook: { url: "${HOOK}" } }"#,
    },
};

/// The source checks its queue every 30 s. This divisor shortens the interval to a tenth of a second.
const HALF_MINUTES_IN_TENTHS: &str = "300";
const LOOKS: u64 = 10;

#[tokio::test]
async fn a_silent_source_limited_to_one_channel_keeps_its_connection() {
    let regards = Regards::new().await;
    regards.vhost.rabbit().limit_channels(&regards.user, 1).await;
    let receiver = Receiver::start().await;
    let home = Home::of(&regards, TO_HOOK).with("HOOK", &receiver.url()).with(DIVISOR, HALF_MINUTES_IN_TENTHS);
    let relay = home.start_ready().await;
    let received = async || regards.vhost.received_from(&regards.user).await;
    let before = until("the connection to be known", async || received().await).await;
    until("the source to look at its queue", async || match received().await? {
        now if now >= before + LOOKS => Ok(()),
        now => Err(format!("{now} after {before}")),
    })
    .await;
    regards.publish_all(&lives("t", "life", 10)).await;
    receiver.wait_for_accepted(20).await;
    assert_eq!(relay.metric("source_reconnects_total", &[]).await, Ok(Some(0.0)));
    relay.stop().await;
    regards.assert_left_as_found().await;
}
