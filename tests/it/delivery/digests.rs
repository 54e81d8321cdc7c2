//! Digests: several events are one delivery, which keeps its events and its id across retries, crashes and reloads.

use std::collections::{BTreeMap, HashMap, HashSet};

use lapin::ExchangeKind;
use lapin::types::FieldTable;
use regards_relay::failpoints::{Failpoint, VARIABLE};
use serde_json::Value;

use crate::support::webhook::Posted;
use crate::support::{Answer, Home, Kafka, Rabbit, Receiver, Regards, Response, until};

/// Groups wait for longer than a test takes: only a full one is delivered.
const FULL_GROUPS: &str = configuration! {
    queue: "prefetch: 500",
    sinks: { hook: r#"{
        webhook: { url: "${HOOK}", timeout: 20s },
        group: { by: [tenant], wait: 10m, max: 100 },
        retry: { initial_backoff: 50ms, max_backoff: 200ms },
    }"# },
};

const SHORT_WAIT: &str = configuration! {
    queue: "prefetch: 1000",
    sinks: { hook: r#"{
        webhook: { url: "${HOOK}", timeout: 20s },
        group: { by: [tenant], wait: 3s, max: 100 },
        retry: { initial_backoff: 50ms, max_backoff: 200ms, refuse_after: 2 },
    }"# },
};

fn home(regards: &Regards, receiver: &Receiver, routes: &str) -> Home {
    Home::of(regards, routes).with("HOOK", &receiver.url())
}

/// Errors of one tenant, each of a request of its own.
fn errors(tenant: &str, count: usize) -> Vec<Response> {
    (0..count).map(|number| Response::new(tenant, &format!("{tenant}-{number:05}"), "ERROR")).collect()
}

fn requests(events: &Value) -> Vec<String> {
    let request = |event: &Value| event["correlationId"].as_str().expect("a request").to_owned();
    events.as_array().expect("a JSON array").iter().map(request).collect()
}

fn digest_id(posted: &Posted) -> String {
    posted.header("webhook-id").expect("an id").to_owned()
}

/// How often each event is in these digests; an attempt to deliver the same digest again is the same digest.
fn times_delivered(accepted: &[Posted]) -> HashMap<String, usize> {
    let digests: HashMap<String, Vec<String>> =
        accepted.iter().map(|posted| (digest_id(posted), requests(&posted.json()))).collect();
    let mut times = HashMap::new();
    for request in digests.into_values().flatten() {
        *times.entry(request).or_default() += 1;
    }
    times
}

#[tokio::test]
async fn a_hundred_events_are_one_request() {
    let regards = Regards::new().await;
    let receiver = Receiver::start().await;
    let home = home(&regards, &receiver, FULL_GROUPS);
    let relay = home.start_ready().await;
    let published = errors("esa", 100);
    regards.publish_all(&published).await;
    regards.publish_all(&errors("cnes", 3)).await;
    let accepted = receiver.wait_for_accepted(1).await;
    regards.wait_until_acknowledged().await;
    home.wait_until_waiting("hook", 3).await;
    let delivered = relay.metric("deliveries_total", &[("sink", "hook"), ("result", "delivered")]).await;
    let attempts = relay.metric("delivery_attempts_total", &[("sink", "hook"), ("result", "delivered")]).await;
    assert_eq!((delivered, attempts), (Ok(Some(100.0)), Ok(Some(1.0))), "each event counts, and the request once");
    relay.stop().await;

    assert_eq!(receiver.posted().len(), 1, "the three others wait");
    let expected: Vec<String> = (0..100).map(|number| format!("esa-{number:05}")).collect();
    assert_eq!(requests(&accepted[0].json()), expected, "in the order of receipt");
    assert_eq!(home.waiting("hook"), 3);
    regards.assert_left_as_found().await;
}

/// 10,000 errors of 10 tenants within two waits: each tenant has ten full digests, and at most one more for each wait.
#[tokio::test]
async fn ten_thousand_errors_are_at_most_a_hundred_and_twenty_requests() {
    const TENANTS: usize = 10;
    const ERRORS: usize = 10_000;
    let regards = Regards::new().await;
    regards.use_cheap_queue().await;
    let receiver = Receiver::start().await;
    let routes = SHORT_WAIT.replace("wait: 3s", "wait: 15s");
    let home = home(&regards, &receiver, &routes);
    let relay = home.start_ready().await;
    let published: Vec<Response> = (0..ERRORS)
        .map(|number| Response::new(&format!("tenant-{}", number % TENANTS), &format!("r-{number}"), "ERROR"))
        .collect();
    regards.publish_all(&published).await;
    until("every error", async || match times_delivered(&receiver.accepted()).len() {
        ERRORS => Ok(()),
        count => Err(count.to_string()),
    })
    .await;
    relay.stop().await;
    let accepted = receiver.accepted();
    assert!(accepted.len() <= 120, "{} requests", accepted.len());
    assert!(times_delivered(&accepted).values().all(|times| *times == 1));
    for posted in &accepted {
        let events = posted.json();
        let tenants: Vec<_> =
            events.as_array().expect("an array").iter().map(|event| event["tenant"].clone()).collect();
        assert!(tenants.windows(2).all(|pair| pair[0] == pair[1]), "{tenants:?}");
    }
    regards.assert_left_as_found().await;
}

/// The receiver has the request and does not answer when the relay is killed.
#[tokio::test]
async fn the_relay_is_killed_while_a_digest_is_in_flight() {
    let regards = Regards::new().await;
    let receiver = Receiver::start().await;
    let home = home(&regards, &receiver, FULL_GROUPS);
    receiver.answers(|_| Answer::Never);
    let relay = home.start_ready().await;
    regards.publish_all(&errors("esa", 100)).await;
    receiver.wait_for_posted(1).await;
    regards.publish_all(&errors("esa", 150)[100..]).await;
    relay.kill();
    receiver.answers(|_| Answer::Status(204));
    let relay = home.start_ready().await;
    let accepted = receiver.wait_for_accepted(1).await;
    regards.wait_until_acknowledged().await;
    home.wait_until_waiting("hook", 50).await;
    relay.stop().await;
    let posted = receiver.posted();
    assert_eq!(digest_id(&accepted[0]), digest_id(&posted[0]), "the same id");
    assert_eq!(accepted[0].body, posted[0].body, "and the same events");
    assert_eq!(posted.len(), 2);
    regards.assert_left_as_found().await;
}

/// How many different ids a digest had that was retried, with a crash in between, while more events came.
async fn ids_of_a_retried_digest(failpoint: Option<Failpoint>) -> usize {
    let regards = Regards::new().await;
    let receiver = Receiver::start().await;
    let home = home(&regards, &receiver, SHORT_WAIT);
    let home = failpoint.into_iter().fold(home, |home, failpoint| home.with(VARIABLE, failpoint.name()));
    receiver.answers(|_| Answer::Status(409));
    for round in 0..2 {
        let relay = home.start_ready().await;
        regards.publish_all(&errors("esa", 10 * (round + 1))[10 * round..]).await;
        regards.wait_until_acknowledged().await;
        let before = receiver.posted().len();
        receiver.wait_for_posted(before + 3).await;
        relay.kill();
    }
    receiver.posted().iter().map(digest_id).collect::<HashSet<_>>().len()
}

#[tokio::test]
async fn a_digest_that_is_put_together_anew_is_found() {
    assert_eq!(ids_of_a_retried_digest(None).await, 1);
    assert!(ids_of_a_retried_digest(Some(Failpoint::FormDigestsAnew)).await > 1);
}

#[tokio::test]
async fn the_relay_is_killed_while_a_digest_is_retried() {
    let regards = Regards::new().await;
    let receiver = Receiver::start().await;
    let home = home(&regards, &receiver, SHORT_WAIT);
    receiver.answers(|_| Answer::Status(409));
    for round in 0..3 {
        let relay = home.start_ready().await;
        // Later events do not join a digest that was attempted.
        regards.publish_all(&errors("esa", 10 * (round + 1))[10 * round..]).await;
        receiver.wait_for_posted(3 * (round + 1)).await;
        relay.kill();
    }
    let first = receiver.posted().remove(0);
    assert!(receiver.posted().iter().all(|posted| posted.body == first.body && digest_id(posted) == digest_id(&first)));
    receiver.answers(|_| Answer::Status(204));
    let relay = home.start_ready().await;
    until("30 events", async || match times_delivered(&receiver.accepted()).len() {
        30 => Ok(()),
        count => Err(count.to_string()),
    })
    .await;
    relay.stop().await;
    assert_eq!(receiver.accepted()[0].body, first.body);
    assert!(times_delivered(&receiver.accepted()).values().all(|times| *times == 1), "each event is in one digest");
    assert_eq!(home.waiting("hook"), 0);
    regards.assert_left_as_found().await;
}

#[tokio::test]
async fn a_refused_digest_becomes_a_dead_letter_for_each_event() {
    let regards = Regards::new().await;
    let receiver = Receiver::start().await;
    let home = home(&regards, &receiver, SHORT_WAIT);
    receiver.answers(|_| Answer::Status(400));
    let relay = home.start_ready().await;
    regards.publish_all(&errors("esa", 7)).await;
    until("7 dead letters", async || match home.dead_letters().len() {
        7 => Ok(()),
        count => Err(count.to_string()),
    })
    .await;
    let letters = home.dead_letters();
    let of: Vec<_> = letters.iter().map(|letter| letter["correlationId"].as_str().expect("a request")).collect();
    assert!(of.contains(&"esa-00000") && of.contains(&"esa-00006"), "{of:?}");
    assert!(letters.iter().all(|letter| letter["reason"] == "refused" && letter["attempts"] == 2), "{letters:?}");
    assert_eq!(home.waiting("hook"), 0);
    // They are redriven into one digest.
    receiver.answers(|_| Answer::Status(204));
    home.does(&["dead-letters", "redrive", "--sink", "hook", "--yes"]);
    let accepted = receiver.wait_for_accepted(1).await;
    relay.stop().await;
    assert_eq!(requests(&accepted[0].json()).len(), 7);
    regards.assert_left_as_found().await;
}

#[tokio::test]
async fn a_reload_that_changes_the_groups() {
    let regards = Regards::new().await;
    let receiver = Receiver::start().await;
    let home = home(&regards, &receiver, &FULL_GROUPS.replace("group: { by: [tenant], wait: 10m, max: 100 },", ""));
    receiver.answers(|_| Answer::Status(409));
    let relay = home.start_ready().await;
    let status = |status: &'static str| (0..5).map(move |number| Response::new("esa", &format!("r-{number}"), status));
    regards.publish_all(&status("GRANTED").collect::<Vec<_>>()).await;
    receiver.wait_for_posted(5).await;
    relay.reload(&FULL_GROUPS.replace("max: 100", "max: 5"), "success").await;
    regards.publish_all(&status("SUCCESS").collect::<Vec<_>>()).await;
    regards.wait_until_acknowledged().await;
    home.wait_until_waiting("hook", 10).await;
    receiver.answers(|_| Answer::Status(204));
    let accepted = receiver.wait_for_accepted(6).await;
    home.wait_until_waiting("hook", 0).await;
    let granted = accepted[..5].iter().map(|posted| posted.json()[0]["status"].clone());
    assert!(granted.into_iter().all(|status| status == "GRANTED"), "those from before come first");
    assert_eq!(accepted[5].json().as_array().expect("an array").len(), 5, "then the digest");

    // And back: what waits in a group is delivered event by event.
    regards.publish_all(&errors("esa", 3)).await;
    home.wait_until_waiting("hook", 3).await;
    relay.reload(&FULL_GROUPS.replace("group: { by: [tenant], wait: 10m, max: 100 },", ""), "success").await;
    let accepted = receiver.wait_for_accepted(9).await;
    let single: Vec<_> = accepted[6..].iter().map(|posted| posted.json()["correlationId"].clone()).collect();
    assert_eq!(single, ["esa-00000", "esa-00001", "esa-00002"]);
    regards.publish_all(&errors("cnes", 1)).await;
    receiver.wait_for_accepted(10).await;
    relay.stop().await;
    assert_eq!(home.waiting("hook"), 0);
    regards.assert_left_as_found().await;
}

#[tokio::test]
async fn digests_for_kafka_and_an_exchange() {
    const ROUTES: &str = configuration! {
        queue: "prefetch: 500",
        sinks: {
            pipeline: r#"{
                kafka: { brokers: "${KAFKA}", topic: "${TOPIC}" },
                group: { by: [tenant, status], wait: 10m, max: 50 },
            }"#,
            partner: r#"{
                amqp: { url: "${PARTNER}", exchange: digests, routing_key: "{{ tenant }}" },
                group: { by: [tenant], wait: 10m, max: 100 },
                body: '{"tenant": {{ tenant | tojson }}, "count": {{ count }}, "first": {{ events[0].correlationId | tojson }}}',
            }"#,
        },
    };
    let regards = Regards::new().await;
    let partner = Rabbit::shared().new_vhost().await;
    partner.exchange("digests", ExchangeKind::Topic).await;
    partner.queue("arrived", FieldTable::default()).await;
    partner.bind("arrived", "digests", "#").await;
    let arrived = partner.collect("arrived").await;
    let mut topic = Kafka::shared().topic("digests", 1).await;
    let home =
        Home::of(&regards, ROUTES).with_kafka().with("TOPIC", topic.topic()).with("PARTNER", &partner.admin_url());
    let relay = home.start_ready().await;
    let half: Vec<Response> = errors("esa", 50);
    let other: Vec<Response> = (0..50).map(|number| Response::new("esa", &format!("d-{number}"), "DENIED")).collect();
    regards.publish_all(half.iter().chain(&other)).await;
    topic.wait_for(2).await;
    until("a digest at the exchange", async || match arrived.all().len() {
        0 => Err("nothing".to_owned()),
        _ => Ok(()),
    })
    .await;
    relay.stop().await;
    let records: BTreeMap<String, usize> = topic
        .all()
        .await
        .iter()
        .map(|record| (record.key.clone().expect("a key"), record.json().as_array().expect("an array").len()))
        .collect();
    assert_eq!(records, BTreeMap::from([("esa/DENIED".to_owned(), 50), ("esa/ERROR".to_owned(), 50)]));
    let messages = arrived.all();
    assert_eq!(messages.len(), 1);
    let body = messages[0].json();
    assert_eq!((&body["count"], &body["tenant"]), (&Value::from(100), &Value::from("esa")));
    assert_eq!(messages[0].header("regards-relay-tenant").as_deref(), Some("esa"));
    assert_eq!(messages[0].header("regards-relay-status"), None, "they differ in it");
    regards.assert_left_as_found().await;
}

/// All of them together are larger than what a topic takes by default, although they are fewer than `max`.
#[tokio::test]
async fn the_digests_of_large_events_fit_a_topic() {
    const ROUTES: &str = configuration! {
        queue: "prefetch: 500",
        sinks: { pipeline: r#"{
            kafka: { brokers: "${KAFKA}", topic: "${TOPIC}" },
            group: { by: [tenant], wait: 1s, max: 100 },
        }"# },
    };
    let regards = Regards::new().await;
    let mut topic = Kafka::shared().topic("large", 1).await;
    let home = Home::of(&regards, ROUTES).with_kafka().with("TOPIC", topic.topic());
    let relay = home.start_ready().await;
    let text = "large ".repeat(10_000);
    let published: Vec<Response> =
        errors("esa", 50).into_iter().map(|response| response.field("message", text.as_str())).collect();
    regards.publish_all(&published).await;
    regards.wait_until_acknowledged().await;
    home.wait_until_waiting("pipeline", 0).await;
    relay.stop().await;
    assert!(home.dead_letters().is_empty());
    let digests: Vec<Vec<String>> = topic.all().await.iter().map(|record| requests(&record.json())).collect();
    assert!(digests.iter().all(|digest| digest.len() <= 16), "each has at most 1 MB: {digests:?}");
    let expected: Vec<String> = (0..50).map(|number| format!("esa-{number:05}")).collect();
    assert_eq!(digests.concat(), expected);
    regards.assert_left_as_found().await;
}
