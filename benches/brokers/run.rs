//! One run of one case.

use std::process::Child;

use lapin::ExchangeKind;
use lapin::types::FieldTable;

use super::baseline;
use super::case::Case;
use super::course;
use super::kafka::Ends;
use super::latency;
use super::load;
use super::process::Process;
use super::profile::Profile;
use super::receiver::Receiver;
use super::support::{Home, Kafka, Regards, Relay, Services, unique};

/// Partitions of a topic per tenant and status, and of the only topic.
const PARTITIONS_OF_MANY: i32 = 1;
const PARTITIONS_OF_ONE: i32 = 4;

/// The process under test. It ends when this is dropped.
enum Carrier<'a> {
    Relay(Relay<'a>),
    Baseline(Child),
}

impl Carrier<'_> {
    fn process(&self) -> Process {
        Process(match self {
            Self::Relay(relay) => relay.pid(),
            Self::Baseline(baseline) => baseline.id(),
        })
    }
}

impl Drop for Carrier<'_> {
    fn drop(&mut self) {
        if let Self::Baseline(baseline) = self {
            let _ = baseline.kill();
            let _ = baseline.wait();
        }
    }
}

/// The environment of a case.
struct Stage {
    case: Case,
    regards: Regards,
    kafka: Kafka,
    /// The beginning of all topic names.
    stem: String,
    topics: Vec<String>,
    partitions: i32,
    home: Home,
    _receiver: Receiver,
}

impl Stage {
    async fn set(case: Case) -> Self {
        let (regards, kafka, stem) = (Regards::new().await, Kafka::shared(), unique("bench"));
        let vhost = &regards.vhost;
        vhost.exchange("products", ExchangeKind::Topic).await;
        vhost.queue("products", FieldTable::default()).await;
        vhost.bind("products", "products", "#").await;
        // With 255 priorities the benchmark would measure the broker.
        regards.use_cheap_queue().await;
        let topics = case.topics(&stem);
        let partitions = if case.is_routed() { PARTITIONS_OF_MANY } else { PARTITIONS_OF_ONE };
        for topic in &topics {
            kafka.create_topic(topic, partitions, &[]).await;
        }
        let receiver = Receiver::start(case.mood()).await;
        let configuration = if case == Case::Baseline { String::new() } else { case.configuration() };
        let home = Home::of(&regards, &configuration)
            .with_kafka()
            .with("STEM", &stem)
            .with("HOOK", &receiver.url)
            .with("PARTNER", &vhost.admin_url());
        let home = case.store().prepare(home, &unique("bench").replace('-', "_"));
        Self { case, regards, kafka, stem, topics, partitions, home, _receiver: receiver }
    }

    fn start(&self) -> Carrier<'_> {
        if self.case == Case::Baseline {
            let baseline = baseline::command(&self.regards, &self.kafka.brokers, &self.stem).spawn();
            return Carrier::Baseline(baseline.expect("the baseline"));
        }
        Carrier::Relay(self.home.start())
    }

    async fn clear(self) {
        for topic in &self.topics {
            self.kafka.delete_topic(topic).await;
        }
    }
}

/// The time at which the queue is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filled {
    /// Before the process starts, which then has the whole machine.
    Before,
    /// While the process runs, as fast as possible.
    Meanwhile,
    /// While the process runs, at this rate in events per second: what the process and the broker do in one go varies less.
    Steadily(u64),
}

/// Measures the throughput of a case with this number of events.
pub async fn throughput(case: Case, events: u64, filled: Filled) -> Vec<(&'static str, f64)> {
    let stage = Stage::set(case).await;
    if filled == Filled::Before {
        load::fill(&stage.regards, case, events).await;
    }
    let ends = Ends::of(&stage.kafka.brokers, &stage.topics, stage.partitions);
    let carrier = stage.start();
    let (process, rabbit) = (carrier.process(), Process(Services::shared().rabbitmq_pid()));
    let profile = Profile::start(case.name(), process);
    let (processes, count) = ([process, rabbit], async || ends.count().await);
    let course = course::watch(events, &processes, count);
    let course = match filled {
        Filled::Before => course.await,
        Filled::Meanwhile => tokio::join!(course, load::fill(&stage.regards, case, events)).0,
        Filled::Steadily(rate) => tokio::join!(course, load::fill_steadily(&stage.regards, events, rate)).0,
    };
    let memory = process.peak();
    drop(carrier);
    drop(profile);
    stage.clear().await;
    vec![
        ("events/s", course.rate),
        ("CPU µs an event", course.cpu[0]),
        ("RabbitMQ's CPU µs an event", course.cpu[1]),
        ("peak RSS MiB", memory),
    ]
}

/// Measures the latency of a case at this rate, in events per second.
pub async fn latency(case: Case, rate: u64) -> Vec<(&'static str, f64)> {
    let stage = Stage::set(case).await;
    let carrier = stage.start();
    let Stage { regards, kafka, stem, partitions, .. } = &stage;
    let latency = latency::measure(regards, &kafka.brokers, stem, *partitions, rate).await;
    drop(carrier);
    stage.clear().await;
    latency
}
