//! Latency from publishing to Kafka, at half of the possible rate.

use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use super::support::regards::send;
use super::support::{Regards, Response, until};

/// Duration of publishing: long enough that one pause of the machine is less than a hundredth of it …
const PUBLISHED_FOR: Duration = Duration::from_secs(30);
/// … of which the beginning is not counted: connections are opened and the prefetch grows.
const WARMING_UP: Duration = Duration::from_secs(3);
const TICK: Duration = Duration::from_millis(2);
/// Longest wait for the last record.
const PATIENCE: Duration = Duration::from_secs(30);

/// Publishes at this rate (events per second) and reads the topic; each record has the event's number as its key.
pub async fn measure(
    regards: &Regards,
    brokers: &str,
    topic: &str,
    partitions: i32,
    rate: u64,
) -> Vec<(&'static str, f64)> {
    let channel = regards.vhost.channel().await;
    let consumer = consumer(brokers, topic, partitions);
    let first = Response::new("tenant-0", "first", "SUCCESS");
    send(&channel, &first).await.expect("published").await.expect("confirmed");
    until("the first record", async || consumer.poll(TICK).map_or(Err("none".to_owned()), |_| Ok(()))).await;

    let count = rate * PUBLISHED_FOR.as_secs();
    let reading = std::thread::spawn(move || read(&consumer, count));
    let (began, mut sent) = (Instant::now(), Vec::new());
    let mut ticks = tokio::time::interval(TICK);
    while (sent.len() as u64) < count {
        ticks.tick().await;
        let due = began.elapsed().as_nanos() * u128::from(rate) / 1_000_000_000;
        while (sent.len() as u128) < due.min(count.into()) {
            let response = Response::new("tenant-0", &sent.len().to_string(), "SUCCESS");
            sent.push(Instant::now());
            drop(send(&channel, &response).await.expect("published"));
        }
    }
    let read = tokio::task::spawn_blocking(move || reading.join().expect("read")).await.expect("joined");
    let counted = sent.iter().zip(read).filter(|(sent, _)| **sent - began >= WARMING_UP);
    let mut took: Vec<f64> =
        counted.map(|(sent, read)| (read.expect("every record") - *sent).as_secs_f64() * 1e3).collect();
    took.sort_by(f64::total_cmp);
    let part = |of_thousand: usize| took[(took.len() - 1) * of_thousand / 1000];
    vec![("latency p50 ms", part(500)), ("latency p99 ms", part(990)), ("latency p99.9 ms", part(999))]
}

fn consumer(brokers: &str, topic: &str, partitions: i32) -> BaseConsumer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("group.id", "latency").set("enable.auto.commit", "false");
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
    }
    let consumer: BaseConsumer = config.create().expect("a consumer");
    consumer.assign(&list).expect("assigned");
    consumer
}

/// The time of the first read of each record, by number.
fn read(consumer: &BaseConsumer, count: u64) -> Vec<Option<Instant>> {
    let mut read = vec![None; usize::try_from(count).expect("it fits")];
    let (mut left, mut last) = (read.len(), Instant::now());
    while left > 0 && last.elapsed() < PATIENCE {
        let Some(record) = consumer.poll(TICK) else { continue };
        let now = Instant::now();
        let record = record.expect("a record");
        let key = record.key().and_then(|key| std::str::from_utf8(key).ok()?.parse::<usize>().ok());
        if let Some(at) = key.and_then(|number| read.get_mut(number)).filter(|at| at.is_none()) {
            (*at, last) = (Some(now), now);
            left -= 1;
        }
    }
    read
}
