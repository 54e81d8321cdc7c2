//! The relay with little to do: time to the first delivery, memory and CPU at rest, time to stop.

use std::process::Command;
use std::time::{Duration, Instant};

use super::kafka::Ends;
use super::process::Process;
use super::support::{Home, Kafka, Regards, Response, unique};

pub const NAME: &str = "footprint";
/// Time for the work of the start to end: first connections, temporary threads.
const SETTLING: Duration = Duration::from_secs(5);
const AT_REST: Duration = Duration::from_secs(20);
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);
/// Events for the dead sink.
const WAITING: u64 = 1_000;
const PROGRAM: &str = env!("CARGO_BIN_EXE_regards-relay");
const SOURCE: &str = "version: 1\nsources: { regards: { amqp: { url: \"${REGARDS}\", queue: \"${QUEUE}\" }, expects: lta } }\n\
                      routes: [{ name: all, to: sink }]\nunrouted: dead_letter\n";
const FILE: &str = "sinks: { sink: { file: { path: events.ndjson } } }\n";
const KAFKA: &str = "sinks: { sink: { kafka: { brokers: \"${KAFKA}\", topic: \"${TOPIC}\" } } }\n";
const DEAD: &str = "sinks: { sink: { webhook: { url: \"http://127.0.0.1:9/\" } } }\n";

/// Starts the relay four times.
pub async fn measure() -> Vec<(&'static str, f64)> {
    let mut figures = vec![("stripped program MiB", program_size())];
    figures.push(("start to delivered, file, ms", to_file().await));
    figures.extend(to_kafka_and_rest().await);
    figures.push(("stop with a dead sink, ms", stop().await));
    figures
}

fn program_size() -> f64 {
    let stripped = tempfile::NamedTempFile::new().expect("a file");
    let done = Command::new("strip").arg("-o").arg(stripped.path()).arg(PROGRAM).status().expect("strip, of binutils");
    assert!(done.success(), "{done}");
    stripped.path().metadata().expect("a file").len() as f64 / 1024.0 / 1024.0
}

async fn regards() -> Regards {
    let regards = Regards::new().await;
    regards.publish(&Response::new("tenant-0", "first", "SUCCESS")).await;
    regards
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

async fn to_file() -> f64 {
    let regards = regards().await;
    let home = Home::of(&regards, &format!("{SOURCE}{FILE}"));
    let began = Instant::now();
    let _relay = home.start();
    while home.data("events.ndjson").metadata().map_or(0, |file| file.len()) == 0 {
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
    millis(began)
}

async fn to_kafka_and_rest() -> [(&'static str, f64); 3] {
    let (regards, kafka, topic) = (regards().await, Kafka::shared(), unique("footprint"));
    kafka.create_topic(&topic, 1, &[]).await;
    let home = Home::of(&regards, &format!("{SOURCE}{KAFKA}")).with_kafka().with("TOPIC", &topic);
    let ends = Ends::of(&kafka.brokers, std::slice::from_ref(&topic), 1);
    assert_eq!(ends.count().await, 0, "nothing yet");
    let began = Instant::now();
    let relay = home.start();
    while ends.count().await == 0 {
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
    let delivered = millis(began);
    tokio::time::sleep(SETTLING).await;
    let process = Process(relay.pid());
    let (began, before) = (Instant::now(), process.cpu());
    tokio::time::sleep(AT_REST).await;
    let used = (process.cpu() - before) / 1e6 / began.elapsed().as_secs_f64();
    let resident = process.resident();
    drop(relay);
    kafka.delete_topic(&topic).await;
    [
        ("start to delivered, Kafka, ms", delivered),
        ("at rest: RSS MiB", resident),
        ("at rest: % of a CPU", used * 100.0),
    ]
}

async fn stop() -> f64 {
    let regards = regards().await;
    let responses: Vec<Response> =
        (1..WAITING).map(|number| Response::new("tenant-0", &number.to_string(), "ERROR")).collect();
    regards.publish_all(&responses).await;
    let home = Home::of(&regards, &format!("{SOURCE}{DEAD}"));
    let relay = home.start_ready().await;
    #[expect(clippy::cast_precision_loss, reason = "a thousand")]
    relay.wait_for_metric("spool_deliveries", &[("sink", "sink")], WAITING as f64).await;
    let began = Instant::now();
    relay.stop().await;
    millis(began)
}
