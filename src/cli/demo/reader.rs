//! The demo's Kafka consumer, which reads a topic from its beginning to its present end.

use std::time::{Duration, Instant};

use anyhow::Context;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

/// For each request, and for reading a topic.
const TIMEOUT: Duration = Duration::from_secs(10);

pub struct Record {
    pub key: String,
    pub value: String,
}

/// Returns all records of a topic. It blocks.
pub fn read(brokers: &str, topic: &str) -> anyhow::Result<Vec<Record>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "regards-relay-demo")
        .set("enable.auto.commit", "false")
        .create()
        .context("can't create a Kafka consumer")?;
    let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT).context("can't fetch the topic's metadata")?;
    let mut all = TopicPartitionList::new();
    let mut due = 0;
    for partition in metadata.topics().iter().flat_map(rdkafka::metadata::MetadataTopic::partitions) {
        let (low, high) =
            consumer.fetch_watermarks(topic, partition.id(), TIMEOUT).context("can't fetch the offsets")?;
        due += usize::try_from(high - low).unwrap_or_default();
        all.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
    }
    consumer.assign(&all)?;
    let deadline = Instant::now() + TIMEOUT;
    let mut records = Vec::new();
    while records.len() < due && Instant::now() < deadline {
        if let Some(record) = consumer.poll(Duration::from_millis(100)) {
            let record = record.context("can't read the topic")?;
            let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
            records.push(Record { key: text(record.key()), value: text(record.payload()) });
        }
    }
    Ok(records)
}
