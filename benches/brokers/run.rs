//! One run of one case.

use std::fmt;
use std::process::Child;
use std::time::{Duration, Instant};

use lapin::ExchangeKind;
use lapin::types::FieldTable;

use super::case::Case;
use super::floor;
use super::kafka::Ends;
use super::load;
use super::process::Process;
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

pub async fn run(case: Case, events: u64) -> Figures {
    let (regards, kafka, stem) = (Regards::new().await, Kafka::shared(), unique("bench"));
    let vhost = &regards.vhost;
    vhost.exchange("products", ExchangeKind::Topic).await;
    vhost.queue("products", FieldTable::default()).await;
    vhost.bind("products", "products", "#").await;
    let topics = case.topics(&stem);
    let partitions = if case.is_routed() { PARTITIONS_OF_MANY } else { PARTITIONS_OF_ONE };
    for topic in &topics {
        kafka.create_topic(topic, partitions, &[]).await;
    }
    load::fill(&regards, events).await;
    let receiver = Receiver::start(case.mood()).await;
    let ends = Ends::of(&kafka.brokers, &topics, partitions);

    let rules = if case == Case::Floor { String::new() } else { case.rules() };
    let home = Home::of(&regards, &rules)
        .with_kafka()
        .with("STEM", &stem)
        .with("HOOK", &receiver.url)
        .with("PARTNER", &vhost.admin_url());
    let carrier = if case == Case::Floor {
        Carrier::Floor(floor::command(&regards, &kafka.brokers, &stem).spawn().expect("the floor"))
    } else {
        Carrier::Relay(home.start())
    };
    let process = carrier.process();
    let rabbit = Process(Services::shared().rabbitmq_pid());
    let measured = tokio::task::spawn_blocking(move || measure(&ends, events, process, rabbit));
    let figures = measured.await.expect("measured");
    drop(carrier);
    for topic in &topics {
        kafka.delete_topic(topic).await;
    }
    figures
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
