//! Two relays on one queue: the second stands by, live and ready, and takes over when the first is gone.

use std::time::Duration;

use regards_relay::failpoints::{Failpoint, VARIABLE};

use crate::support::response::lives;
use crate::support::{Answer, Home, Receiver, Regards, Response, until};

const ROUTES: &str = configuration! {
    sinks: {
        hook: r#"{ webhook: { url: "${HOOK}" } }"#,
    },
};

#[tokio::test]
async fn a_second_relay_stands_by_and_takes_over() {
    let regards = Regards::new().await;
    let (one, other) = (Receiver::start().await, Receiver::start().await);
    one.answers(|_| Answer::After(Duration::from_millis(1), 204));
    let first_home = Home::of(&regards, ROUTES).with("HOOK", &one.url());
    let second_home = Home::of(&regards, ROUTES).with("HOOK", &other.url());

    let first = first_home.start_ready().await;
    let second = second_home.start();
    until("/readyz to say standby", async || match second.page("/readyz").await? {
        (200, text) if text.contains("\"standby\"") && text.contains(&regards.queue) => Ok(()),
        (status, text) => Err(format!("{status} {text}")),
    })
    .await;
    assert_eq!(second.metric("source_standby", &[]).await, Ok(Some(1.0)));
    assert!(second_home.log().contains("standing by"), "it says that it waits:\n{}", second_home.log());

    regards.publish(&Response::new("t", "to the first", "SUCCESS")).await;
    one.wait_for_accepted(1).await;
    first.stop().await;

    second.wait_until_ready().await;
    regards.publish(&Response::new("t", "to the second", "SUCCESS")).await;
    other.wait_for_accepted(1).await;
    second.stop().await;
    assert_eq!((one.posted().len(), other.posted().len()), (1, 1));
    regards.assert_left_as_found().await;
}

/// The in-flight window of a webhook.
const IN_FLIGHT: usize = 8;

const SLOW: &str = configuration! {
    sinks: {
        hook: r#"{ webhook: { url: "${HOOK}", timeout: 100s } }"#,
    },
    "delivery: { shutdown_grace: 100s, spill_after: '${SPILL_AFTER}' }",
};

/// Stops a relay while the first event of each key is in flight and another relay stands by. Returns how many second
/// events of these keys the other relay sent before the first events ended. Also checks the order in which the sink
/// received all events.
async fn overtaken(spill_after: &str, failpoint: Option<Failpoint>) -> usize {
    let regards = Regards::new().await;
    let receiver = Receiver::start().await;
    let home = || Home::of(&regards, SLOW).with("HOOK", &receiver.url()).with("SPILL_AFTER", spill_after);
    let (mut first_home, second_home) = (home(), home());
    if let Some(failpoint) = failpoint {
        first_home = first_home.with(VARIABLE, failpoint.name());
    }
    let events = lives("t", "key", IN_FLIGHT);
    let (granted, success) = events.split_at(IN_FLIGHT);
    let first = first_home.start_ready().await;
    let second = second_home.start();
    second.wait_for_metric("source_reconnects_total", &[], 1.0).await;
    receiver.hold();
    regards.publish_all(granted).await;
    receiver.wait_for_posted(IN_FLIGHT).await;
    if spill_after == "2s" {
        first_home.wait_until_waiting("hook", IN_FLIGHT as u64).await;
    }

    first.signal("TERM");
    // The first relay must deliver every message that it takes before it handles the signal.
    until("the first to stop", async || {
        let log = first_home.log();
        if log.contains("stopping") { Ok(()) } else { Err(log) }
    })
    .await;
    regards.publish_all(success).await;
    // From here on, the second relay asks for the queue at least twice, or gets it.
    let tries = async || second.metric("source_reconnects_total", &[]).await.map(Option::unwrap_or_default);
    let before = tries().await.expect("metrics");
    until("the second to try, or to send", async || match (receiver.posted().len(), tries().await?) {
        (posted, tries) if posted > IN_FLIGHT || tries >= before + 3.0 => Ok(()),
        seen => Err(format!("{seen:?}")),
    })
    .await;
    let overtaken = receiver.posted().len() - IN_FLIGHT;
    receiver.release();
    if failpoint.is_none() {
        assert_eq!(first.ended().await.code(), Some(0), "the exit of a clean stop");
        receiver.wait_for_accepted(2 * IN_FLIGHT).await;
        second.stop().await;
        let statuses: Vec<_> = receiver.posted().iter().map(|posted| posted.json()["status"].clone()).collect();
        assert_eq!(statuses, [vec!["GRANTED"; IN_FLIGHT], vec!["SUCCESS"; IN_FLIGHT]].concat());
        regards.assert_left_as_found().await;
    }
    overtaken
}

#[tokio::test]
async fn a_stopping_relay_keeps_its_consumer_until_its_deliveries_have_ended() {
    assert_eq!(overtaken("5m", None).await, 0);
}

#[tokio::test]
async fn a_stopping_relay_keeps_its_consumer_until_its_spooled_attempts_have_ended() {
    assert_eq!(overtaken("2s", None).await, 0);
}

#[tokio::test]
async fn a_relay_that_cancels_its_consumer_early_is_noticed() {
    if !cfg!(debug_assertions) {
        println!("a release build has no failpoints");
        return;
    }
    assert!(overtaken("5m", Some(Failpoint::GiveUpTheConsumerEarly)).await > 0);
}
