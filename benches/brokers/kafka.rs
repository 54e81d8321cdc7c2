//! Counts the records of topics.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Reads the end offsets of partitions.
pub struct Ends {
    consumer: Arc<BaseConsumer>,
    partitions: TopicPartitionList,
}

impl Ends {
    pub fn of(brokers: &str, topics: &[String], partitions: i32) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers).set("group.id", "ends");
        let mut list = TopicPartitionList::new();
        for topic in topics {
            for partition in 0..partitions {
                list.add_partition_offset(topic, partition, Offset::End).expect("an offset");
            }
        }
        Self { consumer: Arc::new(config.create().expect("a consumer")), partitions: list }
    }

    /// Records in all partitions.
    pub async fn count(&self) -> u64 {
        let (consumer, partitions) = (Arc::clone(&self.consumer), self.partitions.clone());
        let asked = tokio::task::spawn_blocking(move || consumer.offsets_for_times(partitions, ANSWER_WITHIN));
        let ends = asked.await.expect("asked").expect("an answer");
        ends.elements().iter().filter_map(|end| u64::try_from(end.offset().to_raw()?).ok()).sum()
    }
}
