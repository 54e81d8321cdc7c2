//! Events as records in Kafka topics.

use std::time::Duration;

use super::{Attempt, OpenError, Outgoing, Unrenderable};
use crate::config::{KafkaConfig, SinkConfig};
use crate::event::{Event, Message};

pub(super) struct KafkaSink;

impl KafkaSink {
    pub(super) async fn open(_config: &SinkConfig, _kafka: &KafkaConfig, _relay: &str) -> Result<Self, OpenError> {
        todo!()
    }

    pub(super) fn render(&self, _event: &Event, _message: &Message) -> Result<Outgoing, Unrenderable> {
        todo!()
    }

    pub(super) fn capacity(&self) -> usize {
        todo!()
    }

    pub(super) fn attempt(&self, _outgoing: Outgoing, _attempt: Attempt) {
        todo!()
    }

    pub(super) async fn close(self, _grace: Duration) {
        todo!()
    }
}
