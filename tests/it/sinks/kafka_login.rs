//! What the tests of logins at Kafka share: messages of REGARDS, and the topic in which they become records.

use crate::support::kafka::Reader;
use crate::support::{Home, Kafka, Regards, Response, Services};

pub struct World<A> {
    pub regards: Regards,
    pub topic: Reader,
    /// Who issues what the relay logs in with.
    pub authority: A,
    pub published: usize,
}

impl<A> World<A> {
    /// The routes have a sink to the topic by `KAFKA_TLS`, `CA` and `TOPIC`.
    pub async fn of(authority: A, routes: &str) -> (Self, Home) {
        let regards = Regards::new().await;
        let services = Services::shared();
        let topic = Kafka::shared().topic("login", 1).await;
        let home = Home::of(&regards, routes)
            .with("KAFKA_TLS", &format!("127.0.0.1:{}", services.kafka_sasl_ssl_port()))
            .with("TOPIC", topic.topic())
            .with("CA", services.ca());
        (Self { regards, topic, authority, published: 0 }, home)
    }

    pub async fn publish(&mut self) {
        self.regards.publish(&Response::new("t", &format!("c-{}", self.published), "SUCCESS")).await;
        self.published += 1;
    }

    /// Publishes one message at a time, each when the one before is a record, until `is_done`.
    pub async fn publish_until(&mut self, is_done: impl Fn(&A) -> bool) {
        while !is_done(&self.authority) {
            self.publish().await;
            self.topic.wait_for(self.published).await;
        }
    }
}
