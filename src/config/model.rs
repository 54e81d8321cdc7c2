//! The checked configuration.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::files::NamedFiles;
use super::text::secret::{Masks, Secret};
use crate::event::{DecodeOptions, Format, SourceName, Template};
use crate::net::{Network, Tls};
use crate::rules::{Rules, SinkName};

#[derive(Debug, Clone)]
pub struct Config {
    /// The relay's name, a URI: a part of connection names and the source of `CloudEvents`.
    pub name: String,
    /// In the order of the file.
    pub sources: Vec<SourceConfig>,
    /// In the order of the file; [`SinkIndex`](crate::rules::SinkIndex) counts these.
    pub sinks: Vec<SinkConfig>,
    pub rules: Arc<Rules>,
    pub spool: SpoolConfig,
    pub dead_letters: DeadLettersConfig,
    pub delivery: DeliveryConfig,
    pub admin: AdminConfig,
    /// The directory of the spool and of file sinks.
    pub data_dir: PathBuf,
    /// All files that it names and that are read again while the relay runs.
    pub files: NamedFiles,
}

#[derive(Debug, Clone, PartialEq)]
pub struct SourceConfig {
    /// Its key in the file.
    pub name: SourceName,
    pub kind: SourceKind,
    pub decode_options: DecodeOptions,
    /// The files with its secrets and certificates.
    pub files: NamedFiles,
}

#[derive(Debug, Clone, PartialEq)]
pub enum SourceKind {
    /// A queue on a broker.
    Amqp(Box<AmqpSourceConfig>),
    Recording(RecordingConfig),
}

#[derive(Debug, Clone, PartialEq)]
pub struct AmqpSourceConfig {
    /// How to reach the broker.
    pub connection: AmqpConnection,
    pub queue: String,
    /// What to declare before, if anything.
    pub declare: Option<DeclareQueue>,
    /// How many messages may be unacknowledged at most.
    pub prefetch: u16,
    /// Consume exclusively, so that a second relay stands by.
    pub exclusive: bool,
}

/// How to reach an AMQP broker.
#[derive(Debug, Clone, PartialEq)]
pub struct AmqpConnection {
    /// `amqp://` or `amqps://` URLs, tried in turn. Their secrets are read again at each connection.
    pub urls: Vec<Secret>,
    /// Takes the place of the URL's.
    pub username: Option<Secret>,
    /// Takes the place of the URL's.
    pub password: Option<Secret>,
    /// Takes the place of the URL's; none there either: `/`.
    pub vhost: Option<String>,
    /// Settings of TLS, for `amqps://` only.
    pub tls: Tls,
}

/// What a source may declare.
#[derive(Debug, Clone, PartialEq)]
pub struct DeclareQueue {
    /// The queue, if it is to be declared: durable, of this type, with these arguments.
    pub queue: Option<QueueDeclaration>,
    pub bindings: Vec<Binding>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct QueueDeclaration {
    pub kind: QueueKind,
    /// Further arguments, in the order of the file.
    pub arguments: Vec<(String, Argument)>,
}

/// The types of queues that can be declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueKind {
    Classic,
    Quorum,
}

/// An AMQP argument as YAML can write it.
#[derive(Debug, Clone, PartialEq)]
pub enum Argument {
    Bool(bool),
    Integer(i64),
    Text(String),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Binding {
    /// The exchange, which must exist.
    pub exchange: String,
    /// The routing key; empty for a fanout.
    pub routing_key: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct RecordingConfig {
    /// A file with one message on each line.
    pub path: PathBuf,
    /// How many times the file is read.
    pub repeat: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub struct SinkConfig {
    /// Its key in the file.
    pub name: SinkName,
    pub kind: SinkKind,
    pub format: Format,
    /// What may be secret of its body, URL and headers (what `${…}` put there, the values of headers that speak of secrets): masked
    /// wherever what was rendered is shown.
    pub masks: Masks,
    /// Source headers that go along: names with `*` and `?`.
    pub keep_headers: Vec<crate::rules::Glob>,
    /// What is kept in order.
    pub order_by: OrderBy,
    /// How failed deliveries are retried.
    pub retry: Retry,
    /// What becomes of deliveries that there is no room for in the spool.
    pub when_full: WhenFull,
    /// The files with its secrets and certificates.
    pub files: NamedFiles,
}

/// `when_full`: what becomes of a delivery that there is no room for in the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// It waits, and its source with it.
    #[default]
    Block,
    /// It is dropped, and counted.
    DropNewest,
}

/// `order_by`: deliveries with the same value of it stay in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OrderBy {
    #[default]
    CorrelationId,
    /// `productId`; null falls back to `correlationId`.
    ProductId,
    /// `session`; null falls back to `correlationId`.
    Session,
    Tenant,
    None,
}

impl OrderBy {
    /// Its word in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CorrelationId => "correlationId",
            Self::ProductId => "productId",
            Self::Session => "session",
            Self::Tenant => "tenant",
            Self::None => "none",
        }
    }
}

/// `retry`: back-off doubles from `first` to `max`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    pub initial_backoff: Duration,
    /// At most, between two attempts.
    pub max_backoff: Duration,
    /// Counted from the receipt of the message; none is never.
    pub give_up_after: Option<Duration>,
    /// The number of attempts; none is unlimited.
    pub max_attempts: Option<u32>,
    /// The number of refusals after which a delivery becomes a dead letter.
    pub refuse_after: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub enum SinkKind {
    /// Records in a Kafka topic.
    Kafka(Box<KafkaConfig>),
    Webhook(Box<WebhookConfig>),
    /// Messages to an AMQP exchange.
    Amqp(Box<AmqpSinkConfig>),
    File(FileConfig),
    Stdout,
}

impl SinkKind {
    /// Its key in the file.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Kafka(_) => "kafka",
            Self::Webhook(_) => "webhook",
            Self::Amqp(_) => "amqp",
            Self::File(_) => "file",
            Self::Stdout => "stdout",
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct KafkaConfig {
    /// Addresses as `host:port`, separated by commas.
    pub brokers: String,
    pub topic: Template,
    /// The record's key; a null one is a null key.
    pub key: Template,
    /// librdkafka's name of the partitioner.
    pub partitioner: String,
    pub timestamp: KafkaTimestamp,
    /// Further librdkafka producer settings, in the order of the file.
    pub options: Vec<(String, Secret)>,
    /// Who to log in as.
    pub sasl: Option<Sasl>,
    /// Settings of TLS; none is a connection without TLS.
    pub tls: Option<Tls>,
}

/// The time of a Kafka record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KafkaTimestamp {
    #[default]
    Sent,
    /// The event's `time`, where it has one.
    Event,
}

/// `sasl:` of a Kafka sink.
#[derive(Debug, Clone, PartialEq)]
pub struct Sasl {
    /// librdkafka's name: `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub mechanism: &'static str,
    pub username: Secret,
    pub password: Secret,
}

#[derive(Debug, Clone, PartialEq)]
pub struct WebhookConfig {
    pub url: WebhookUrl,
    /// Standard Webhooks secrets (`whsec_…` or raw base64); every one signs, so that secrets can be rotated. Empty: unsigned.
    pub secrets: Vec<Secret>,
    /// Names checked, values are templates.
    pub headers: Vec<(http::HeaderName, Template)>,
    pub auth: Option<WebhookAuth>,
    /// An HTTP proxy; none: as `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` say.
    pub proxy: Option<Secret>,
    /// From connect to the last byte of the answer that is read.
    pub timeout: Duration,
    /// Requests in flight at once.
    pub concurrency: usize,
    /// Requests a second at most.
    pub rate: Option<f64>,
    /// What some answers mean, other than what they mean by themselves.
    pub responses: Responses,
    /// Never connected to, beside what no webhook is: whatever the name resolves to.
    pub deny: Vec<Network>,
    pub tls: Tls,
}

/// `responses:` of a webhook: statuses from 300 to 599, each in one list only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Responses {
    /// The receiver refuses the event.
    pub refuse: Vec<u16>,
    /// The attempt failed and is made again.
    pub retry: Vec<u16>,
    /// Nothing more is sent until a person resumes the sink.
    pub pause: Vec<u16>,
}

/// The address of a webhook. Scheme and host are fixed, the rest may be a template. Secrets are read again at each use.
#[derive(Debug, Clone, PartialEq)]
pub enum WebhookUrl {
    /// No template in it. May hold secrets.
    Fixed {
        url: Secret,
        /// The part of it that can be shown.
        shown: String,
    },
    /// `https://host[:port]` and the template of what follows.
    Templated {
        /// Scheme, host and port, no slash at the end.
        origin: String,
        /// Path and query. What expressions make is percent-encoded where it stands.
        path: Template,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub enum WebhookAuth {
    Bearer(Secret),
    Basic { username: Secret, password: Secret },
}

#[derive(Debug, Clone, PartialEq)]
pub struct AmqpSinkConfig {
    /// How to reach the broker.
    pub connection: AmqpConnection,
    pub exchange: String,
    pub routing_key: Template,
    /// The exchange's type if it is to be declared (durable): `topic`, `direct`, `fanout`, `headers`.
    pub declare: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct FileConfig {
    /// The data directory, absolute: what is written stays below it.
    pub dir: PathBuf,
    /// Files that the relay keeps for itself (the spool), absolute: no event is written to these, nor beside them under a
    /// name that begins alike.
    pub reserved: Vec<PathBuf>,
    /// The template of a path relative to `dir`.
    pub path: Template,
}

#[derive(Debug, Clone, PartialEq)]
pub struct SpoolConfig {
    pub path: PathBuf,
    /// What a start does with a file that is damaged.
    pub on_corrupt: OnCorrupt,
    /// What all deliveries that wait may take, in bytes.
    pub max_size: u64,
    /// The part of that which one sink may take, in percent.
    pub max_share: u8,
}

impl SpoolConfig {
    /// A spool there, all else as it is unless the file says otherwise.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self { path, on_corrupt: OnCorrupt::Stop, max_size: 10 << 30, max_share: 50 }
    }

    /// What one sink may take, in bytes.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.max_size / 100 * u64::from(self.max_share)
    }
}

/// What a start does with a spool that is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnCorrupt {
    /// Nothing: it ends, and says what a person can do.
    Stop,
    /// Renames it, and begins a new one.
    Quarantine,
}

#[derive(Debug, Clone, PartialEq)]
pub struct DeadLettersConfig {
    /// How long a dead letter is kept; none is for ever.
    pub keep: Option<Duration>,
    /// The most that dead letters may take, in bytes.
    pub max_size: u64,
    /// The sink that gets a copy of each.
    pub to: Option<SinkName>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct DeliveryConfig {
    /// What isn't settled by then is put to disk.
    pub spill_after: Duration,
    /// How long a stop waits for what is in flight.
    pub shutdown_grace: Duration,
    /// Bodies in memory, in bytes: bounds the prefetch.
    pub max_in_flight_bytes: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct AdminConfig {
    /// The address to listen on; none is no listener.
    pub listen: Option<SocketAddr>,
}
