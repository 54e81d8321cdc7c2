//! The Kafka sink, with a broker that is stopped and paused, and with missing topics.

use serde_json::Value;

use super::{Destination, Needs, keeps_the_promises};
use crate::support::kafka::{Kafka as Broker, Reader, Record};
use crate::support::services::Private;
use crate::support::{Home, Response, Services, unique};

pub struct Kafka {
    private: Option<Private>,
    broker: Broker,
    topic: String,
    reader: Option<Reader>,
}

impl Kafka {
    fn private(&self) -> &Private {
        self.private.as_ref().expect("a broker of its own: Needs::Outages")
    }

    async fn create_topic(&mut self) {
        self.broker.create_topic(&self.topic, 2, &[("max.message.bytes", "3000")]).await;
        self.reader = Some(self.broker.reader(&[&self.topic]).await);
    }
}

impl Destination for Kafka {
    async fn new(needs: Needs) -> Self {
        let private = match needs {
            Needs::Nothing => None,
            Needs::Outages => Some(Services::private(&["kafka"]).await),
        };
        let broker = private.as_ref().map_or_else(Broker::shared, |private| Broker::of(private.services()));
        let mut kafka = Self { private, broker, topic: unique("conformance"), reader: None };
        kafka.create_topic().await;
        kafka
    }

    fn sink(&self) -> &'static str {
        r#"{ kafka: { brokers: "${KAFKA}", topic: "${TOPIC}" }, retry: { initial_backoff: 100ms, max_backoff: 500ms } }"#
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        vec![("KAFKA", self.broker.brokers.clone()), ("TOPIC", self.topic.clone())]
    }

    async fn events(&mut self, _home: &Home) -> Vec<Value> {
        match &mut self.reader {
            Some(reader) => reader.all().await.iter().map(Record::json).collect(),
            None => Vec::new(),
        }
    }

    async fn fail_for_now(&mut self, _home: &Home) {
        self.reader = None;
        self.broker.delete_topic(&self.topic).await;
    }

    async fn take_again(&mut self, _home: &Home) {
        self.create_topic().await;
    }

    async fn go_down(&mut self, _home: &Home) {
        self.private().stop("kafka").await;
    }

    async fn come_back(&mut self, _home: &Home) {
        self.private().start("kafka").await;
    }

    async fn hold(&mut self, _home: &Home) {
        self.private().pause("kafka").await;
    }

    async fn release(&mut self, _home: &Home) {
        self.private().resume("kafka").await;
    }

    fn refused(&self) -> Option<Response> {
        Some(Response::new("t", "too large for the topic", "ERROR").field("message", "x".repeat(5_000)))
    }
}

keeps_the_promises!(Kafka);
