//! `group` changes while deliveries are spooled: each event is delivered once, in the order of its request, and is found meanwhile.

use std::collections::HashMap;

use serde_json::Value;

use crate::configuration::Edit;
use crate::support::{Answer, Home, Receiver, Relay, Response, with_webhook};

const ROUTES: &str = configuration! {
    queue: "prefetch: 500",
    sinks: {
        hook: r#"{ webhook: { url: "${HOOK}", concurrency: 8 }, GROUP retry: { initial_backoff: 50ms, max_backoff: 200ms } }"#,
    },
    "delivery: { shutdown_grace: 1s }",
};

/// Each step has other groups, or none. Two have the same fields, and one has only another `max`.
const STEPS: [&str; 6] = [
    "group: { by: [tenant], wait: 10m, max: 7 },",
    "group: { by: [tenant, status], wait: 10m, max: 4 },",
    "",
    "group: { by: [tenant], wait: 10m, max: 7 },",
    "group: { by: [tenant], wait: 10m, max: 3 },",
    "group: { by: [correlationId], wait: 100ms, max: 50 },",
];

const REQUESTS: u32 = 10;

fn routes(step: usize) -> String {
    ROUTES.edit("GROUP", STEPS[step])
}

/// In each step every request gets another message.
fn responses(step: usize) -> Vec<Response> {
    let status = |request: usize| ["GRANTED", "ERROR"][(request + step) % 2];
    (0..REQUESTS as usize)
        .map(|request| Response::new(["esa", "cnes"][request % 2], &format!("r-{request}"), status(request)))
        .map(|response| response.field("message", format!("step {step}")))
        .collect()
}

/// The events that a receiver has accepted, each with its request and its step.
fn delivered(receiver: &Receiver) -> Vec<(String, String)> {
    let mut events = Vec::new();
    for posted in receiver.accepted() {
        match posted.json() {
            Value::Array(digest) => events.extend(digest),
            event => events.push(event),
        }
    }
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    events.iter().map(|event| (text(&event["correlationId"]), text(&event["message"]))).collect()
}

/// How the relay gets the routes of the next step.
#[derive(Clone, Copy)]
enum Change {
    Reload,
    Restart,
    Crash,
}

impl Change {
    async fn make<'a>(self, relay: Relay<'a>, home: &'a Home, step: usize) -> Relay<'a> {
        match self {
            Self::Reload => {
                relay.reload(&routes(step), "success").await;
                return relay;
            }
            Self::Restart => relay.stop().await,
            Self::Crash => relay.kill(),
        }
        home.write_routes(&routes(step));
        home.start_ready().await
    }
}

/// The receiver is down while the groups change; then it takes everything.
async fn assert_each_once_and_in_order(change: Change) {
    let (regards, receiver, home) = with_webhook(&routes(0)).await;
    receiver.answers(|_| Answer::Status(503));
    let mut relay = home.start_ready().await;
    for (step, count) in (0..STEPS.len()).zip(1..) {
        if step > 0 {
            relay = change.make(relay, &home, step).await;
        }
        regards.publish_all(&responses(step)).await;
        home.wait_until_waiting("hook", u64::from(REQUESTS * count)).await;
        regards.wait_until_acknowledged().await;
        relay.wait_for_metric("journal_records", &[], f64::from(REQUESTS * count)).await;
        assert_waiting_in_trace(&home, step + 1);
    }
    receiver.answers(|_| Answer::Status(204));
    home.does(&["resume", "--sink", "hook"]);
    home.wait_until_waiting("hook", 0).await;
    relay.stop().await;
    let mut of_request: HashMap<String, Vec<String>> = HashMap::new();
    for (request, step) in delivered(&receiver) {
        of_request.entry(request).or_default().push(step);
    }
    assert_eq!(of_request.len(), REQUESTS as usize);
    let expected: Vec<String> = (0..STEPS.len()).map(|step| format!("step {step}")).collect();
    for (request, steps) in of_request {
        assert_eq!(steps, expected, "{request}");
    }
    regards.assert_left_as_found().await;
}

/// That many events of one request wait, by whatever groups.
fn assert_waiting_in_trace(home: &Home, count: usize) {
    let trace: Value = serde_json::from_str(&home.does(&["trace", "r-3", "--json"])).expect("JSON");
    let events = trace["requests"][0]["events"].as_array().expect("events");
    let states: Vec<_> = events
        .iter()
        .map(|event| {
            let deliveries = event["deliveries"].as_array().expect("deliveries");
            assert_eq!(deliveries.len(), 1, "{event}");
            deliveries[0]["state"].clone()
        })
        .collect();
    assert_eq!(states, vec!["waiting"; count]);
}

#[tokio::test]
async fn each_event_comes_once_and_in_order_across_reloads() {
    assert_each_once_and_in_order(Change::Reload).await;
}

#[tokio::test]
async fn each_event_comes_once_and_in_order_across_restarts() {
    assert_each_once_and_in_order(Change::Restart).await;
}

#[tokio::test]
async fn each_event_comes_once_and_in_order_across_crashes() {
    assert_each_once_and_in_order(Change::Crash).await;
}
