//! The webhook sink, with a receiver that fails, hangs and goes away.

use std::time::Duration;

use serde_json::Value;

use super::{Destination, Needs, home, keeps_the_promises};
use crate::support::webhook::Posted;
use crate::support::{Answer, Home, Receiver, Regards, Response};

pub struct Webhook(Receiver);

impl Destination for Webhook {
    const AT_ONCE: f64 = 8.0;

    async fn new(_needs: Needs) -> Self {
        let receiver = Receiver::start().await;
        receiver.answers(taking);
        Self(receiver)
    }

    fn sink(&self) -> &'static str {
        r#"{ webhook: { url: "${HOOK}", concurrency: 3 }, retry: { initial_backoff: 100ms, max_backoff: 500ms } }"#
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        vec![("HOOK", self.0.url())]
    }

    async fn events(&mut self, _home: &Home) -> Vec<Value> {
        self.0.accepted().iter().map(Posted::json).collect()
    }

    async fn fail_for_now(&mut self, _home: &Home) {
        self.0.answers(|_| Answer::Status(500));
    }

    async fn take_again(&mut self, _home: &Home) {
        self.0.answers(taking);
    }

    async fn go_down(&mut self, _home: &Home) {
        self.0.go_down().await;
    }

    async fn come_back(&mut self, _home: &Home) {
        self.0.come_back().await;
    }

    async fn hold(&mut self, _home: &Home) {
        self.0.hold();
    }

    async fn release(&mut self, _home: &Home) {
        self.0.release();
    }

    fn refused(&self) -> Option<Response> {
        Some(Response::new("t", "refused", "ERROR"))
    }
}

fn taking(request: &Posted) -> Answer {
    Answer::Status(if request.json()["correlationId"] == "refused" { 422 } else { 204 })
}

keeps_the_promises!(Webhook);

#[tokio::test]
async fn as_many_requests_at_once_as_allowed_and_no_more() {
    let (regards, webhook) = (Regards::new().await, Webhook::new(Needs::Nothing).await);
    webhook.0.hold();
    let home = home(&regards, &webhook, 100);
    let relay = home.start_ready().await;
    let responses: Vec<_> = (0..30).map(|number| Response::new("t", &format!("c-{number}"), "SUCCESS")).collect();
    regards.publish_all(&responses).await;
    webhook.0.wait_for_posted(3).await;
    webhook.0.answers(|_| Answer::After(Duration::from_millis(5), 204));
    webhook.0.release();
    webhook.0.wait_for_accepted(30).await;
    relay.stop().await;
    assert_eq!(webhook.0.most_in_flight(), 3);
}

/// The sink honours `Retry-After` and follows no redirect. Each attempt has the same id and a valid signature.
#[tokio::test]
async fn answers_are_understood() {
    let regards = Regards::new().await;
    let receiver = Receiver::start().await;
    let elsewhere = Receiver::start().await;
    let redirect = elsewhere.url();
    let times = std::sync::atomic::AtomicUsize::new(0);
    receiver.answers(move |_| match times.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
        0 => Answer::StatusWith(429, "retry-after", "1".to_owned()),
        1 => Answer::StatusWith(307, "location", redirect.clone()),
        2 => Answer::Status(404),
        3 => Answer::Never,
        _ => Answer::Status(200),
    });
    let secrets = ["whsec_b2xkLXNlY3JldC1vZi10aGUtaG9vaw==", "whsec_bmV3LXNlY3JldC1vZi10aGUtaG9vaw=="];
    let home = Home::of(
        &regards,
        r#"
version: 1
sources: { regards: { amqp: { url: "${REGARDS}", queue: "${QUEUE}" }, expects: lta } }
sinks:
  hook:
    webhook: { url: "${HOOK}", secret: ["${NEW}", "${OLD}"], timeout: 500ms }
    retry: { initial_backoff: 50ms, max_backoff: 100ms }
routes: [{ name: all, to: hook }]
unrouted: dead_letter
"#,
    )
    .with("HOOK", &receiver.url())
    .with("OLD", secrets[0])
    .with("NEW", secrets[1])
    .keeping_secret(secrets[0])
    .keeping_secret(secrets[1]);
    let relay = home.start_ready().await;
    regards.publish(&Response::new("t", "c", "SUCCESS")).await;
    let accepted = receiver.wait_for_accepted(1).await;
    relay.stop().await;

    let posted = receiver.posted();
    assert_eq!(posted.len(), 5);
    assert_eq!(elsewhere.posted().len(), 0, "redirects are not followed");
    for request in &posted {
        assert_eq!(request.header("webhook-id"), accepted[0].header("webhook-id"));
        for secret in secrets {
            request.assert_signed_with(secret);
        }
    }
    let at = |number: usize| posted[number].header("webhook-timestamp").unwrap().parse::<u64>().unwrap();
    assert!(at(1) > at(0), "not before the second that it asked to wait");
    regards.assert_left_as_found().await;
}
