//! One run of one case.

use std::fmt;
use std::process::Child;
use std::time::{Duration, Instant};

use lapin::ExchangeKind;
use lapin::types::FieldTable;

use super::case::Case;
use super::floor;
use super::kafka::Ends;
use super::latency::{self, Latency};
use super::load;
use super::process::Process;
use super::profile::Profile;
use super::receiver::Receiver;
use super::support::{Home, Kafka, Regards, Relay, Services, unique};

/// How often Kafka is asked how far it has got.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);
/// A run that takes longer has failed.
const PATIENCE: Duration = Duration::from_mins(5);
/// Of the topics where there is one for each tenant and status, and of the one where there is one for all.
const PARTITIONS_OF_MANY: i32 = 1;
const PARTITIONS_OF_ONE: i32 = 4;

/// What it came to.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// Events a second that came to Kafka.
    pub rate: f64,
    /// CPU that the process used for one, in µs.
    pub cpu: f64,
    /// CPU that `RabbitMQ` used for one, in µs.
    pub rabbit: f64,
    /// The most memory that the process had, in MiB.
    pub memory: f64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rate, cpu, rabbit, memory } = self;
        write!(f, "{rate:.0}/s, {cpu:.1} µs, RabbitMQ {rabbit:.1} µs, {memory:.0} MiB")
    }
}

/// What carries. Ended when it is dropped.
enum Carrier<'a> {
    Relay(Relay<'a>),
    Floor(Child),
}

impl Carrier<'_> {
    fn process(&self) -> Process {
        Process(match self {
            Self::Relay(relay) => relay.pid(),
            Self::Floor(floor) => floor.id(),
        })
    }
}

impl Drop for Carrier<'_> {
    fn drop(&mut self) {
        if let Self::Floor(floor) = self {
            let _ = floor.kill();
            let _ = floor.wait();
        }
    }
}

/// Where a case takes place.
struct Stage {
    case: Case,
    regards: Regards,
    kafka: Kafka,
    /// What the names of all topics begin with.
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
        // With 255 priorities the broker would be what is measured.
        regards.use_cheap_queue().await;
        let topics = case.topics(&stem);
        let partitions = if case.is_routed() { PARTITIONS_OF_MANY } else { PARTITIONS_OF_ONE };
        for topic in &topics {
            kafka.create_topic(topic, partitions, &[]).await;
        }
        let receiver = Receiver::start(case.mood()).await;
        let rules = if case == Case::Floor { String::new() } else { case.rules() };
        let home = Home::of(&regards, &rules)
            .with_kafka()
            .with("STEM", &stem)
            .with("HOOK", &receiver.url)
            .with("PARTNER", &vhost.admin_url());
        Self { case, regards, kafka, stem, topics, partitions, home, _receiver: receiver }
    }

    fn start(&self) -> Carrier<'_> {
        if self.case == Case::Floor {
            let floor = floor::command(&self.regards, &self.kafka.brokers, &self.stem).spawn();
            return Carrier::Floor(floor.expect("the floor"));
        }
        Carrier::Relay(self.home.start())
    }

    async fn clear(self) {
        for topic in &self.topics {
            self.kafka.delete_topic(topic).await;
        }
    }
}

/// Carries so many events out of a queue that is full.
pub async fn throughput(case: Case, events: u64) -> Figures {
    let stage = Stage::set(case).await;
    load::fill(&stage.regards, events).await;
    let ends = Ends::of(&stage.kafka.brokers, &stage.topics, stage.partitions);
    let carrier = stage.start();
    let (process, rabbit) = (carrier.process(), Process(Services::shared().rabbitmq_pid()));
    let profile = Profile::start(case, process);
    let measured = tokio::task::spawn_blocking(move || measure(&ends, events, process, rabbit));
    let figures = measured.await.expect("measured");
    drop(carrier);
    drop(profile);
    stage.clear().await;
    figures
}

/// Carries events as they come, so many a second.
pub async fn latency(case: Case, rate: u64) -> Latency {
    let stage = Stage::set(case).await;
    let carrier = stage.start();
    let Stage { regards, kafka, stem, partitions, .. } = &stage;
    let latency = latency::measure(regards, &kafka.brokers, stem, *partitions, rate).await;
    drop(carrier);
    stage.clear().await;
    latency
}

fn measure(ends: &Ends, events: u64, process: Process, rabbit: Process) -> Figures {
    let began = Instant::now();
    let look = || {
        assert!(began.elapsed() < PATIENCE, "not done after {PATIENCE:?}");
        std::thread::sleep(BETWEEN_LOOKS);
        (ends.count(), Instant::now(), process.cpu(), rabbit.cpu())
    };
    let first = loop {
        let seen = look();
        if seen.0 > 0 {
            break seen;
        }
    };
    let last = loop {
        let seen = look();
        if seen.0 >= events {
            break seen;
        }
    };
    let count = (last.0 - first.0) as f64;
    Figures {
        rate: count / (last.1 - first.1).as_secs_f64(),
        cpu: (last.2 - first.2) / count,
        rabbit: (last.3 - first.3) / count,
        memory: process.peak(),
    }
}
