//! The minimum for moving messages from RabbitMQ to Kafka without loss: a lapin consumer, a librdkafka producer that waits
//! for all replicas, and cumulative acknowledgements. It does not read the messages.

use std::collections::VecDeque;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, ProducerContext, ThreadedProducer};

use super::support::Regards;

const ASKED_FOR: &str = "BENCH_BASELINE";
/// The relay's default.
const PREFETCH: u16 = 1_000;
const BETWEEN_ACKNOWLEDGEMENTS: Duration = Duration::from_millis(20);

/// Whether this process is the baseline.
pub fn is_asked_for() -> bool {
    std::env::var_os(ASKED_FOR).is_some()
}

pub fn command(regards: &Regards, brokers: &str, topic: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    let variables = [("QUEUE", regards.queue.as_str()), ("BROKERS", brokers), ("TOPIC", topic)];
    command.env(ASKED_FOR, "1").env("URL", regards.url()).envs(variables);
    command
}

/// For each tag from the first unacknowledged one: whether Kafka has confirmed it.
#[derive(Default)]
struct Window {
    first: u64,
    done: VecDeque<bool>,
}

impl Window {
    fn end(&mut self, tag: u64) {
        let place = usize::try_from(tag - self.first).expect("it fits");
        if self.done.len() <= place {
            self.done.resize(place + 1, false);
        }
        self.done[place] = true;
        while self.done.front() == Some(&true) {
            self.done.pop_front();
            self.first += 1;
        }
    }
}

struct Reports(Arc<Mutex<Window>>);

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, tag: usize) {
        result.as_ref().map_err(|(error, _)| error).expect("delivered");
        self.0.lock().expect("no holder panics").end(tag as u64);
    }
}

/// Runs until it is killed.
pub async fn run() {
    let variable = |name| std::env::var(name).expect(name);
    let window = Arc::new(Mutex::new(Window { first: 1, done: VecDeque::new() }));
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", variable("BROKERS")).set("acks", "all").set("enable.idempotence", "true");
    // The same settings as the relay's.
    config.set("linger.ms", "1").set("partitioner", "murmur2_random");
    let producer: ThreadedProducer<Reports> =
        config.create_with_context(Reports(Arc::clone(&window))).expect("a producer");
    let topic = variable("TOPIC");

    let connection =
        Connection::connect(&variable("URL"), ConnectionProperties::default()).await.expect("a connection");
    let channel = connection.create_channel().await.expect("a channel");
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await.expect("a prefetch");
    let queue = variable("QUEUE");
    let consuming = channel.basic_consume(
        queue.as_str().into(),
        "baseline".into(),
        BasicConsumeOptions::default(),
        FieldTable::default(),
    );
    let mut consumer = consuming.await.expect("a consumer");
    let mut ticks = tokio::time::interval(BETWEEN_ACKNOWLEDGEMENTS);
    let mut acknowledged = 0;
    loop {
        tokio::select! {
            biased;
            _ = ticks.tick() => {
                let done = window.lock().expect("no holder panics").first - 1;
                if done > acknowledged {
                    acknowledged = done;
                    channel.basic_ack(done, BasicAckOptions { multiple: true }).await.expect("acknowledged");
                }
            }
            delivery = consumer.next() => {
                let delivery = delivery.expect("a consumer").expect("a message");
                let key = delivery.properties.correlation_id().as_ref().expect("a key").as_str();
                let tag = usize::try_from(delivery.delivery_tag).expect("it fits");
                let record = BaseRecord::with_opaque_to(&topic, tag).key(key).payload(&delivery.data);
                producer.send(record).map_err(|(error, _)| error).expect("taken");
            }
        }
    }
}
