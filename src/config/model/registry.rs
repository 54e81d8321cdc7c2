//! The schema registry of a sink.

use super::{SinkConfig, SinkKind, WebhookAuth};
use crate::config::text::secret::Secret;
use crate::event::Template;
use crate::net::Tls;

/// `registry:` of a format with a schema.
#[derive(Debug, Clone, PartialEq)]
pub struct RegistryConfig {
    /// Where Confluent's API begins; it may have a user and a password.
    pub url: Secret,
    /// The subject of the schema: an address over the event and `topic`.
    pub subject: Template,
    /// Register the schema if the subject doesn't have it.
    pub register: bool,
    pub auth: Option<WebhookAuth>,
    pub tls: Tls,
}

impl SinkConfig {
    /// The registry of the schema by which the sink's format encodes.
    #[must_use]
    pub fn registry(&self) -> Option<&RegistryConfig> {
        match &self.kind {
            SinkKind::Kafka(kafka) => kafka.registry.as_ref(),
            _ => None,
        }
    }

    /// The subject of the schema, if it is the same for every event.
    #[must_use]
    pub fn fixed_subject(&self) -> Option<String> {
        let SinkKind::Kafka(kafka) = &self.kind else { return None };
        let subject = &kafka.registry.as_ref()?.subject;
        subject.fixed().map(str::to_owned).or_else(|| subject.render_with_topic(kafka.topic.fixed()?))
    }
}
