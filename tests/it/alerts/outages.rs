//! The end of a request may be in the queue while the relay or the broker is down: such a request is not reported.

use super::overdue::{by_request, ended, granted, wait_for_open};
use crate::support::webhook::Posted;
use crate::support::{Home, Proxy, Rabbit, Receiver, Regards};

const ROUTES: &str = r#"
version: 1
sources: { regards: { amqp: { url: "${PROXIED}", queue: "${QUEUE}" }, expects: lta } }
sinks:
  pager: { webhook: { url: "${PAGER}" }, retry: { initial_backoff: 100ms, max_backoff: 500ms } }
  log: { webhook: { url: "${LOG}" }, retry: { initial_backoff: 100ms, max_backoff: 500ms } }
  archive: { file: { path: archive.ndjson } }
routes: [{ name: all, to: archive }]
unrouted: dead_letter
alerts:
  - { name: silent, overdue: { when: { outcome: accepted }, within: 3s }, to: pager }
  - { name: down, source_down: { for: 8s }, to: log }
delivery: { shutdown_grace: 1s }
"#;

/// REGARDS and the relay's way to it, which the test can cut.
struct World {
    regards: Regards,
    proxy: Proxy,
    pager: Receiver,
    /// Gets the alert about the source.
    log: Receiver,
}

impl World {
    async fn new() -> (Self, Home) {
        let (regards, pager, log) = (Regards::new().await, Receiver::start().await, Receiver::start().await);
        let proxy = Proxy::to(Rabbit::shared().services().amqp_port()).await;
        let url = regards.vhost.url_at(&regards.user, &regards.password, proxy.port());
        let home = Home::of(&regards, ROUTES).with("PAGER", &pager.url()).with("LOG", &log.url()).with("PROXIED", &url);
        (Self { regards, proxy, pager, log }, home)
    }

    /// Waits until the source was down for longer than every time limit, and then until it is back.
    async fn sit_out_the_outage(&mut self) {
        self.log.wait_for_accepted(1).await;
        self.proxy.come_back().await;
        self.log.wait_for_accepted(2).await;
    }
}

fn ids(posted: &[Posted]) -> Vec<String> {
    by_request(posted).into_keys().collect()
}

#[tokio::test]
async fn a_request_whose_end_waits_in_the_queue_during_an_outage_of_the_source_is_not_reported() {
    let (mut world, home) = World::new().await;
    let relay = home.start_ready().await;
    world.regards.publish(&granted("ended-meanwhile")).await;
    wait_for_open(&relay, 1).await;
    world.proxy.go_down().await;
    world.regards.publish_all(&[ended("ended-meanwhile"), granted("silent")]).await;
    world.sit_out_the_outage().await;
    world.pager.wait_for_accepted(1).await;
    relay.stop().await;
    assert_eq!(ids(&world.pager.accepted()), ["silent"]);
}

#[tokio::test]
async fn a_request_whose_end_waits_in_the_queue_at_a_start_is_not_reported_however_late_the_source_is() {
    let (mut world, home) = World::new().await;
    let relay = home.start_ready().await;
    world.regards.publish_all(&[granted("ended-meanwhile"), granted("silent")]).await;
    wait_for_open(&relay, 2).await;
    relay.kill();
    world.regards.publish(&ended("ended-meanwhile")).await;
    world.proxy.go_down().await;
    let relay = home.start();
    world.sit_out_the_outage().await;
    world.pager.wait_for_accepted(1).await;
    relay.stop().await;
    assert_eq!(ids(&world.pager.accepted()), ["silent"]);
}
