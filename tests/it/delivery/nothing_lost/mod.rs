//! No confirmed message is lost. Whatever is restarted, deleted, stopped or killed, every response that RabbitMQ
//! confirmed arrives, all copies have the same id, and GRANTED comes before SUCCESS.

mod ledger;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::regards::send;
use crate::support::response::lives;
use crate::support::{Home, Kafka, Rabbit, Regards, Response, Services, VHost, until, whole_lines_of, with_webhook};
use ledger::{Copies, assert_nothing_lost, copies};

const INTO_KAFKA: &str = configuration! {
    queue: "prefetch: 200",
    sinks: {
        pipeline: r#"{ kafka: { brokers: "${KAFKA}", topic: "${TOPIC}" }, retry: { initial_backoff: 200ms, max_backoff: 1s } }"#,
    },
};

#[tokio::test]
async fn rabbitmq_restarts_during_publishing() {
    let broker = Services::private(&["rabbitmq"]).await;
    let regards = Regards::in_vhost(Rabbit::of(broker.services()).new_vhost().await).await;
    let mut topic = Kafka::shared().topic("restart", 3).await;
    let home = Home::of(&regards, INTO_KAFKA).with_kafka().with("TOPIC", topic.topic());
    let relay = home.start_ready().await;

    let published = lives("t", "restart", 2_000);
    let publishing = Publisher::start(&regards.vhost, &published);
    publishing.wait_for(1_000).await;
    broker.stop("rabbitmq").await;
    assert!(publishing.confirmed() < published.len(), "it was to be restarted in the middle");
    broker.start("rabbitmq").await;
    publishing.finish().await;

    let wanted = published.len();
    topic.read_until("every response", move |records| copies(records).len() >= wanted).await;
    relay.wait_until_ready().await;
    relay.stop().await;
    assert_nothing_lost(&published, &copies(topic.all().await));
    regards.assert_left_as_found().await;
}

#[tokio::test]
async fn the_queue_is_deleted_and_declared_again() {
    let (regards, receiver, home) = with_webhook(configuration! {
        sinks: { hook: r#"{ webhook: { url: "${HOOK}", timeout: 60s } }"# },
        "delivery: { spill_after: 5m }",
    })
    .await;
    let relay = home.start_ready().await;

    // The relay has received all of these messages, and has delivered none, when the queue is deleted.
    receiver.hold();
    let published = lives("t", "deleted", 10);
    let (before, after) = published.split_at(6);
    regards.publish_all(before).await;
    regards.vhost.wait_for_unacknowledged(&regards.queue, 6).await;
    regards.vhost.delete_queue(&regards.queue).await;
    relay.wait_until_unready(&[&regards.queue]).await;
    regards.create_queue().await;
    regards.publish_all(after).await;
    receiver.release();

    receiver.wait_for_accepted(published.len()).await;
    relay.wait_until_ready().await;
    relay.stop().await;
    let arrived = ledger::of_events(receiver.accepted().iter().map(|posted| (String::new(), posted.json())));
    assert_nothing_lost(&published, &arrived);
    regards.assert_left_as_found().await;
}

#[tokio::test]
async fn kafka_is_stopped_for_twenty_seconds() {
    let broker = Services::private(&["kafka"]).await;
    let kafka = Kafka::of(broker.services());
    let regards = Regards::new().await;
    regards.use_cheap_queue().await;
    let mut topic = kafka.topic("stopped", 3).await;
    let home = Home::of(&regards, INTO_KAFKA).with("KAFKA", &kafka.brokers).with("TOPIC", topic.topic());
    let relay = home.start_ready().await;

    let published = lives("t", "stopped", 1_500);
    let (before, after) = published.split_at(2_000);
    regards.publish_all(before).await;
    relay.wait_for_metric("deliveries_total", &[("sink", "pipeline"), ("result", "delivered")], 500.0).await;
    broker.stop("kafka").await;
    regards.publish_all(after).await;
    // This test needs a fixed outage time, so it sleeps.
    tokio::time::sleep(Duration::from_secs(20)).await;
    broker.start("kafka").await;

    let wanted = published.len();
    topic.read_until("every response", move |records| copies(records).len() >= wanted).await;
    relay.stop().await;
    assert_nothing_lost(&published, &copies(topic.all().await));
    regards.assert_left_as_found().await;
}

#[tokio::test]
async fn the_relay_is_killed_in_full_flight() {
    const KILLS: usize = 3;
    const PREFETCH: usize = 200;
    let regards = Regards::new().await;
    regards.use_cheap_queue().await;
    let mut topic = Kafka::shared().topic("killed", 3).await;
    let routes = configuration! {
        queue: "prefetch: 200",
        sinks: {
            pipeline: r#"{ kafka: { brokers: "${KAFKA}", topic: "${TOPIC}" } }"#,
            archive: "{ file: { path: archive.ndjson } }",
        },
    };
    let home = Home::of(&regards, routes).with_kafka().with("TOPIC", topic.topic());

    let published = lives("t", "killed", 2_000);
    regards.publish_all(&published).await;
    for _ in 0..KILLS {
        let relay = home.start_ready().await;
        relay.wait_for_metric("deliveries_total", &[("sink", "pipeline"), ("result", "delivered")], 500.0).await;
        relay.kill();
        assert!(regards.vhost.left_in(&regards.queue).await > 0, "it was to be killed in full flight");
    }
    let relay = home.start_ready().await;
    let wanted = published.len();
    topic.read_until("every response", move |records| copies(records).len() >= wanted).await;
    until("every response in the file", async || match archived(&home).len() {
        seen if seen >= wanted => Ok(()),
        seen => Err(seen.to_string()),
    })
    .await;
    relay.stop().await;

    let (in_kafka, in_the_file) = (copies(topic.all().await), archived(&home));
    for arrived in [&in_kafka, &in_the_file] {
        assert_nothing_lost(&published, arrived);
        let repeated = arrived.values().map(|copies| copies.count - 1).sum::<usize>();
        assert!(repeated <= KILLS * PREFETCH, "{repeated} repeated: at most a prefetch a crash");
    }
    regards.assert_left_as_found().await;
}

fn archived(home: &Home) -> Copies {
    ledger::of_events(whole_lines_of(home.data("archive.ndjson")).into_iter().map(|event| (String::new(), event)))
}

/// Publishes through every broker outage: it publishes unconfirmed messages again.
struct Publisher {
    confirmed: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Publisher {
    const WINDOW: usize = 50;

    fn start(vhost: &VHost, responses: &[Response]) -> Self {
        let confirmed = Arc::new(AtomicUsize::new(0));
        let (vhost, responses, count) = (vhost.clone(), responses.to_vec(), Arc::clone(&confirmed));
        let task = tokio::spawn(async move {
            let mut channel = vhost.channel().await;
            for window in responses.chunks(Self::WINDOW) {
                let mut missing: Vec<&Response> = window.iter().collect();
                while !missing.is_empty() {
                    missing = unconfirmed(channel.clone(), missing).await;
                    if !missing.is_empty() {
                        channel = vhost.channel_when_back().await;
                    }
                }
                count.fetch_add(window.len(), Ordering::SeqCst);
            }
        });
        Self { confirmed, task }
    }

    fn confirmed(&self) -> usize {
        self.confirmed.load(Ordering::SeqCst)
    }

    async fn wait_for(&self, count: usize) {
        until(&format!("{count} confirmed publishes"), async || match self.confirmed() {
            seen if seen >= count => Ok(()),
            seen => Err(seen.to_string()),
        })
        .await;
    }

    async fn finish(self) {
        self.task.await.expect("everything published");
    }
}

/// Publishes all messages and returns those that the broker did not confirm.
async fn unconfirmed(channel: lapin::Channel, responses: Vec<&Response>) -> Vec<&Response> {
    let mut pending = Vec::new();
    for response in responses {
        pending.push((response, send(&channel, response).await));
    }
    let mut missing = Vec::new();
    for (response, sent) in pending {
        let confirmed = match sent {
            Ok(confirm) => confirm.await.is_ok_and(|confirmation| confirmation.is_ack()),
            Err(_) => false,
        };
        if !confirmed {
            missing.push(response);
        }
    }
    missing
}
