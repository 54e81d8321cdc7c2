//! The promises of every sink, tested against any destination.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Destination, Needs, home};
use crate::support::response::lives;
use crate::support::{Home, Regards, Response, arrived, until};

const SINK: (&str, &str) = ("sink", "tested");

/// Until an event is confirmed, its message is in the queue or its delivery is in the spool. Killing the relay then
/// loses nothing.
pub async fn confirms_only_after_the_destination_has_it<D: Destination>() {
    let (regards, mut destination) = (Regards::new().await, D::new(Needs::Outages).await);
    let home = home(&regards, &destination, 100);
    let relay = home.start_ready().await;
    // The connections are open, so the relay sends the next events at once.
    regards.publish(&Response::new("t", "before", "SUCCESS")).await;
    wait_for_events(&mut destination, &home, 1).await;
    regards.wait_until_acknowledged().await;

    destination.hold(&home).await;
    regards.publish_all(&responses("held", 3)).await;
    if D::CAN_HOLD {
        relay.wait_for_metric("deliveries_in_flight", &[SINK], 1.0).await;
    } else {
        relay.wait_for_metric("delivery_attempts_total", &[SINK, ("result", "retry")], 1.0).await;
    }
    relay.kill();
    let kept = u64::from(regards.vhost.left_in(&regards.queue).await) + home.waiting("tested");
    assert!(kept >= 3, "what was not confirmed is still there: {kept}");

    destination.release(&home).await;
    let relay = home.start_ready().await;
    wait_for_events(&mut destination, &home, 4).await;
    relay.stop().await;
    regards.assert_left_as_found().await;
}

pub async fn retries_until_it_is_taken<D: Destination>() {
    let (regards, mut destination) = (Regards::new().await, D::new(Needs::Nothing).await);
    let home = home(&regards, &destination, 100);
    destination.fail_for_now(&home).await;
    let relay = home.start_ready().await;
    regards.publish_all(&responses("retried", 3)).await;
    relay.wait_for_metric("delivery_attempts_total", &[SINK, ("result", "retry")], 4.0).await;
    assert_eq!(destination.events(&home).await.len(), 0);
    destination.take_again(&home).await;
    wait_for_events(&mut destination, &home, 3).await;
    relay.stop().await;
    assert_each_once(&mut destination, &home, 3).await;
    assert!(home.dead_letters().is_empty(), "without attempts: or give_up_after: nothing is given up");
    regards.assert_left_as_found().await;
}

pub async fn refuses_what_is_never_taken<D: Destination>() {
    let (regards, mut destination) = (Regards::new().await, D::new(Needs::Nothing).await);
    let refused = destination.refused().expect("only for destinations that refuse something");
    let home = home(&regards, &destination, 100);
    let relay = home.start_ready().await;
    regards.publish(&Response::new("t", "before", "SUCCESS")).await;
    regards.publish(&refused).await;
    regards.publish(&Response::new("t", "after", "SUCCESS")).await;
    wait_for_events(&mut destination, &home, 2).await;
    relay.wait_for_metric("dead_letters_total", &[SINK, ("reason", "refused")], 1.0).await;
    relay.stop().await;

    let letters = home.dead_letters();
    assert_eq!(letters.len(), 1, "{letters:#?}");
    assert_eq!((&letters[0]["reason"], &letters[0]["sink"]), (&"refused".into(), &"tested".into()));
    assert_eq!(letters[0]["body"].as_str().map(str::as_bytes), Some(refused.body.as_slice()));
    assert_eq!(letters[0]["attempts"], 3, "it dies of the third refusal");
    assert_each_once(&mut destination, &home, 2).await;
    regards.assert_left_as_found().await;
}

/// GRANTED arrives before SUCCESS although the first attempts fail.
pub async fn keeps_order_per_key_across_failures<D: Destination>() {
    const REQUESTS: usize = 40;
    let (regards, mut destination) = (Regards::new().await, D::new(Needs::Nothing).await);
    let home = home(&regards, &destination, 200);
    destination.fail_for_now(&home).await;
    let relay = home.start_ready().await;
    regards.publish_all(&lives("t", "ordered", REQUESTS)).await;
    relay.wait_for_metric("delivery_attempts_total", &[SINK, ("result", "retry")], 10.0).await;
    destination.take_again(&home).await;
    wait_for_events(&mut destination, &home, 2 * REQUESTS).await;
    relay.stop().await;

    let events = assert_each_once(&mut destination, &home, 2 * REQUESTS).await;
    arrived::assert_in_order(events.into_iter());
    regards.assert_left_as_found().await;
}

pub async fn survives_a_restart_of_the_destination<D: Destination>() {
    let (regards, mut destination) = (Regards::new().await, D::new(Needs::Outages).await);
    let home = home(&regards, &destination, 100);
    let relay = home.start_ready().await;
    regards.publish_all(&responses("before", 50)).await;
    wait_for_events(&mut destination, &home, 50).await;
    destination.go_down(&home).await;
    regards.publish_all(&responses("meanwhile", 50)).await;
    destination.come_back(&home).await;
    regards.publish_all(&responses("after", 50)).await;
    wait_for_events(&mut destination, &home, 150).await;
    relay.stop().await;
    assert!(home.dead_letters().is_empty());
    regards.assert_left_as_found().await;
}

/// On a stop, the relay waits for the answers to in-flight deliveries and sends none of them again afterwards.
pub async fn stops_cleanly_with_deliveries_in_flight<D: Destination>() {
    let (regards, mut destination) = (Regards::new().await, D::new(Needs::Outages).await);
    let home = home(&regards, &destination, 10);
    let relay = home.start_ready().await;
    regards.publish(&Response::new("t", "before", "SUCCESS")).await;
    wait_for_events(&mut destination, &home, 1).await;
    if D::CAN_HOLD {
        destination.hold(&home).await;
    }
    regards.publish_all(&responses("in flight", 40)).await;
    if D::CAN_HOLD {
        relay.wait_for_metric("deliveries_in_flight", &[SINK], 1.0).await;
    }
    relay.signal("TERM");
    if D::CAN_HOLD {
        until("/readyz to say that it stops", async || match relay.page("/readyz").await {
            Ok((200, text)) => Err(text),
            _ => Ok(()),
        })
        .await;
        destination.release(&home).await;
    }
    let status = relay.ended().await;
    assert_eq!(status.code(), Some(0), "{status}");

    let relay = home.start_ready().await;
    wait_for_events(&mut destination, &home, 41).await;
    relay.stop().await;
    assert_each_once(&mut destination, &home, 41).await;
    regards.assert_left_as_found().await;
}

/// A backlog of any size is spooled and blocks no source.
pub async fn never_exceeds_its_bounds<D: Destination>() {
    const PREFETCH: usize = 5;
    let (regards, mut destination) = (Regards::new().await, D::new(Needs::Outages).await);
    let home = home(&regards, &destination, PREFETCH);
    let relay = home.start_ready().await;
    destination.hold(&home).await;
    regards.publish_all(&responses("too many", 40)).await;
    regards.wait_until_acknowledged().await;
    home.wait_until_waiting("tested", 40).await;
    let in_flight = relay.metric("deliveries_in_flight", &[SINK]).await.unwrap();
    assert!(in_flight <= Some(D::AT_ONCE), "{in_flight:?} in flight");
    destination.release(&home).await;
    wait_for_events(&mut destination, &home, 40).await;
    relay.stop().await;
    assert_eq!(home.waiting("tested"), 0);
    regards.assert_left_as_found().await;
}

fn responses(stem: &str, count: usize) -> Vec<Response> {
    (0..count).map(|number| Response::new("t", &format!("{stem} {number}"), "SUCCESS")).collect()
}

/// Waits until the destination holds this number of distinct events; repeated events count once.
async fn wait_for_events<D: Destination>(destination: &mut D, home: &Home, count: usize) {
    until(&format!("{count} events"), async || {
        let events = destination.events(home).await;
        let different: BTreeSet<String> = events.iter().map(|event| event["id"].to_string()).collect();
        if different.len() >= count { Ok(()) } else { Err(different.len().to_string()) }
    })
    .await;
}

async fn assert_each_once<D: Destination>(destination: &mut D, home: &Home, count: usize) -> Vec<Value> {
    let events = destination.events(home).await;
    arrived::assert_each_once("the destination", &events, count);
    events
}
