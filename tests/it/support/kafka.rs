//! Kafka as another client sees it: creates topics, reads records.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;

use super::wait::PATIENCE;
use super::{Services, unique};

const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// The limit of records that are read before the test checks them.
const AT_ONCE: usize = 100_000;

#[derive(Clone)]
pub struct Kafka {
    pub brokers: String,
}

impl Kafka {
    pub fn shared() -> Self {
        Self::of(&Services::shared())
    }

    pub fn of(services: &Services) -> Self {
        Self { brokers: format!("127.0.0.1:{}", services.kafka_port()) }
    }

    /// Creates a topic for one test, and a reader of all its records.
    pub async fn topic(&self, stem: &str, partitions: i32) -> Reader {
        let name = unique(stem);
        self.create_topic(&name, partitions, &[]).await;
        self.reader(&[&name]).await
    }

    /// Creates a topic with one partition and these settings, and its reader.
    pub async fn topic_with(&self, stem: &str, settings: &[(&str, &str)]) -> Reader {
        let name = unique(stem);
        self.create_topic(&name, 1, settings).await;
        self.reader(&[&name]).await
    }

    pub async fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let admin: AdminClient<DefaultClientContext> = self.config().create().expect("an admin client");
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for (setting, value) in settings {
            topic = topic.set(setting, value);
        }
        let options = AdminOptions::new().operation_timeout(Some(ANSWER_WITHIN)).request_timeout(Some(ANSWER_WITHIN));
        let created = admin.create_topics([&topic], &options).await.expect("an answer");
        for topic in created {
            topic.expect("a topic");
        }
    }

    /// Deletes a topic. Returns once no client can see it any more.
    pub async fn delete_topic(&self, name: &str) {
        let admin: AdminClient<DefaultClientContext> = self.config().create().expect("an admin client");
        let options = AdminOptions::new().operation_timeout(Some(ANSWER_WITHIN)).request_timeout(Some(ANSWER_WITHIN));
        for topic in admin.delete_topics(&[name], &options).await.expect("an answer") {
            topic.expect("deleted");
        }
    }

    /// The names of all existing topics.
    pub async fn topics(&self) -> Vec<String> {
        let config = self.config();
        let asked = tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer = config.create().expect("a consumer");
            let metadata = consumer.fetch_metadata(None, ANSWER_WITHIN).expect("metadata");
            metadata.topics().iter().map(|topic| topic.name().to_owned()).collect()
        });
        asked.await.expect("asked")
    }

    /// Reads these existing topics from their beginning.
    pub async fn reader(&self, topics: &[&str]) -> Reader {
        let config = self.config();
        let topics: Vec<String> = topics.iter().map(|&topic| topic.to_owned()).collect();
        let made = tokio::task::spawn_blocking(move || Reader::new(&config, topics));
        made.await.expect("a reader")
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("reconnect.backoff.max.ms", "500");
        config
    }
}

#[derive(Debug, Clone)]
pub struct Record {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub key: Option<String>,
    pub body: Vec<u8>,
    pub headers: BTreeMap<String, String>,
}

impl Record {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }
}

/// A consumer and all records it has read so far.
pub struct Reader {
    pub topics: Vec<String>,
    consumer: Option<BaseConsumer>,
    records: Vec<Record>,
}

impl Reader {
    fn new(config: &ClientConfig, topics: Vec<String>) -> Self {
        let mut config = config.clone();
        config.set("group.id", unique("reader")).set("enable.auto.commit", "false");
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let mut from_the_beginning = TopicPartitionList::new();
        for topic in &topics {
            for partition in partitions_of(&consumer, topic) {
                from_the_beginning.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
            }
        }
        consumer.assign(&from_the_beginning).expect("assigned");
        Self { topics, consumer: Some(consumer), records: Vec::new() }
    }

    /// The name of the topic. The reader must read only one topic.
    pub fn topic(&self) -> &str {
        assert_eq!(self.topics.len(), 1);
        &self.topics[0]
    }

    /// The records read so far, in order within each partition.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Reads until there are `count` records.
    pub async fn wait_for(&mut self, count: usize) -> &[Record] {
        self.read_until(&format!("{count} records"), move |records| records.len() >= count).await
    }

    /// Reads until `enough` returns true.
    pub async fn read_until(&mut self, what: &str, enough: impl Fn(&[Record]) -> bool + Send + 'static) -> &[Record] {
        let what = format!("{what} in {:?}", self.topics);
        self.blocking(move |consumer, records| {
            let deadline = std::time::Instant::now() + PATIENCE;
            while !enough(records) {
                assert!(std::time::Instant::now() < deadline, "waited for {what}; {} there", records.len());
                take_what_comes(consumer, records, AT_ONCE);
            }
        })
        .await;
        &self.records
    }

    /// Reads all records that the topics hold now. They include every delivery of a relay that has stopped.
    pub async fn all(&mut self) -> &[Record] {
        self.blocking(|consumer, records| {
            let deadline = std::time::Instant::now() + PATIENCE;
            while behind(consumer) {
                assert!(std::time::Instant::now() < deadline, "could not read to the end");
                take_what_comes(consumer, records, AT_ONCE);
            }
        })
        .await;
        &self.records
    }

    /// Waits briefly for records, returns up to `at_most` of them and forgets them, for topics that are too long to
    /// keep in memory. The caller must not cancel it.
    pub async fn take(&mut self, at_most: usize) -> Vec<Record> {
        self.blocking(move |consumer, records| take_what_comes(consumer, records, at_most)).await;
        std::mem::take(&mut self.records)
    }

    /// Whether the reader has read all records that the topics hold now.
    pub async fn is_at_end(&mut self) -> bool {
        self.blocking(|consumer, _| !behind(consumer)).await
    }

    async fn blocking<T>(&mut self, work: impl FnOnce(&BaseConsumer, &mut Vec<Record>) -> T + Send + 'static) -> T
    where
        T: Send + 'static,
    {
        let consumer = self.consumer.take().expect("the consumer");
        let mut records = std::mem::take(&mut self.records);
        let worked = tokio::task::spawn_blocking(move || {
            let came_to = work(&consumer, &mut records);
            (consumer, records, came_to)
        });
        let (consumer, records, came_to) = match worked.await {
            Ok(back) => back,
            Err(failed) => std::panic::resume_unwind(failed.into_panic()),
        };
        self.consumer = Some(consumer);
        self.records = records;
        came_to
    }
}

/// Waits briefly for a record and takes all records that are available, because checking them costs more than reading
/// them. The limit ensures that the caller gets to check the records.
fn take_what_comes(consumer: &BaseConsumer, records: &mut Vec<Record>, at_most: usize) {
    let mut patience = Duration::from_millis(200);
    for _ in 0..at_most {
        let Some(record) = poll(consumer, patience) else { return };
        records.push(record);
        patience = Duration::ZERO;
    }
}

fn poll(consumer: &BaseConsumer, patience: Duration) -> Option<Record> {
    // Errors here mean that a broker is unavailable, which some tests intend. The caller has a deadline.
    let message = consumer.poll(patience)?.ok()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = message.headers().map(|headers| {
        let pair = |header: rdkafka::message::Header<'_, &[u8]>| {
            (header.key.to_owned(), header.value.map(text).unwrap_or_default())
        };
        headers.iter().map(pair).collect()
    });
    Some(Record {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(text),
        body: message.payload().unwrap_or_default().to_vec(),
        headers: headers.unwrap_or_default(),
    })
}

/// Whether a partition holds unread records.
fn behind(consumer: &BaseConsumer) -> bool {
    let positions = consumer.position().expect("positions");
    positions.elements().iter().any(|at| {
        match (consumer.fetch_watermarks(at.topic(), at.partition(), ANSWER_WITHIN), at.offset()) {
            (Ok((_, high)), Offset::Offset(next)) => next < high,
            (Ok((low, high)), _) => low < high,
            // A broker does not know its partitions while it starts.
            (Err(_), _) => true,
        }
    })
}

/// The partitions of an existing topic. The broker may need a moment to know a new topic.
fn partitions_of(consumer: &BaseConsumer, topic: &str) -> Vec<i32> {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let metadata = consumer.fetch_metadata(Some(topic), ANSWER_WITHIN).expect("metadata");
        let known = metadata.topics().iter().find(|known| known.name() == topic && known.error().is_none());
        if let Some(known) = known.filter(|known| !known.partitions().is_empty()) {
            return known.partitions().iter().map(rdkafka::metadata::MetadataPartition::id).collect();
        }
        assert!(std::time::Instant::now() < deadline, "topic {topic} does not appear");
        std::thread::sleep(Duration::from_millis(50));
    }
}
