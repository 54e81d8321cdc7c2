//! The checked configuration.

mod journal;
mod oauth2;
mod postgres;
mod registry;
mod sasl;
mod shards;
mod spool;
mod webhook_auth;

pub use journal::{JournalConfig, JournalStoreConfig};
pub use oauth2::{ClientAuthentication, OAuth2Config};
pub use postgres::{PostgresConfig, PostgresPassword, SslMode};
pub use registry::RegistryConfig;
pub use sasl::{KerberosLogin, Sasl};
pub use shards::{SourceShard, UNDIVIDED};
pub use spool::{OnCorrupt, SpoolConfig, SqliteConfig, StoreConfig};
pub use webhook_auth::WebhookAuth;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::files::NamedFiles;
use super::text::secret::{Masks, Secret};
use crate::event::{DecodeOptions, Format, SourceName, Template};
use crate::net::{Network, Tls};
use crate::rules::{Alert, Field, Rules, SinkName};

#[derive(Debug, Clone)]
pub struct Config {
    /// The hash of the file, before variables were replaced.
    pub hash: u64,
    /// The relay's name, a URI: a part of connection names and the source of `CloudEvents`.
    pub name: String,
    /// In the order of the file.
    pub sources: Vec<SourceConfig>,
    /// In the order of the file; a [`SinkIndex`](crate::rules::SinkIndex) is an index of this list.
    pub sinks: Vec<SinkConfig>,
    pub rules: Arc<Rules>,
    /// In the order of the file.
    pub alerts: Arc<[Alert]>,
    pub spool: SpoolConfig,
    pub dead_letters: DeadLettersConfig,
    /// None: nothing is recorded.
    pub journal: Option<JournalConfig>,
    pub delivery: DeliveryConfig,
    pub admin: AdminConfig,
    /// The directory of the spool and of file sinks.
    pub data_dir: PathBuf,
    /// All files that it names and that are read again while the relay runs.
    pub files: NamedFiles,
}

#[derive(Debug, Clone, PartialEq)]
pub struct SourceConfig {
    pub name: SourceName,
    pub kind: SourceKind,
    pub decode_options: DecodeOptions,
    /// The files with its secrets and certificates.
    pub files: NamedFiles,
}

#[derive(Debug, Clone, PartialEq)]
pub enum SourceKind {
    Amqp(Box<AmqpSourceConfig>),
    Recording(RecordingConfig),
}

#[derive(Debug, Clone, PartialEq)]
pub struct AmqpSourceConfig {
    pub connection: AmqpConnection,
    pub queue: String,
    /// None: the source has one queue.
    pub shard: Option<SourceShard>,
    /// What to declare before consuming.
    pub declare: Option<DeclareQueue>,
    /// The largest number of unacknowledged messages.
    pub prefetch: u16,
    /// Consume exclusively, so that a second relay stands by.
    pub exclusive: bool,
}

/// How to connect and log in to an AMQP broker.
#[derive(Debug, Clone, PartialEq)]
pub struct AmqpConnection {
    /// `amqp://` or `amqps://` URLs, tried in turn. Their secrets are read again at each connection.
    pub urls: Vec<Secret>,
    pub login: AmqpLogin,
    /// Replaces the virtual host in the URL; if both have none, it is `/`.
    pub vhost: Option<String>,
    /// TLS settings, for `amqps://` only.
    pub tls: Tls,
}

/// How to log in to an AMQP broker.
#[derive(Debug, Clone, PartialEq)]
pub enum AmqpLogin {
    /// By user name and password; each replaces the one in the URL.
    Password { username: Option<Secret>, password: Option<Secret> },
    /// By the client certificate of the TLS settings, which are complete then (SASL EXTERNAL).
    External,
    /// By an access token, which is the password.
    OAuth2(Box<OAuth2Config>),
}

impl AmqpConnection {
    /// How the login gets its tokens, if it does.
    #[must_use]
    pub fn oauth2(&self) -> Option<&OAuth2Config> {
        match &self.login {
            AmqpLogin::OAuth2(oauth2) => Some(oauth2),
            AmqpLogin::Password { .. } | AmqpLogin::External => None,
        }
    }
}

impl AmqpLogin {
    /// The user name and the password of the login beside the URL.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let given = match self {
            Self::Password { username, password } => [username.as_ref(), password.as_ref()],
            Self::External | Self::OAuth2(_) => [None, None],
        };
        given.into_iter().flatten()
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct DeclareQueue {
    /// The queue to declare, as durable.
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

/// An AMQP argument, of a type that YAML has.
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
    pub name: SinkName,
    pub kind: SinkKind,
    pub format: Format,
    /// The texts of its body, URL and headers that may be secret: the values of `${…}`, and of headers whose name suggests a
    /// secret. They are masked wherever a rendered delivery is shown.
    pub masks: Masks,
    /// The names of the message's headers that are passed on, with `*` and `?`.
    pub keep_headers: Vec<crate::rules::Glob>,
    pub order_by: OrderBy,
    /// Set: the sink gets digests, and its groups are kept in order instead.
    pub group: Option<Group>,
    pub retry: Retry,
    pub when_full: WhenFull,
    /// The files with its secrets and certificates.
    pub files: NamedFiles,
}

/// `group`: several events are one delivery, a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The fields that all events of a digest have in common.
    pub by: Vec<Field>,
    /// How long the first event of a group waits for others.
    pub wait: Duration,
    /// A group of so many events is sent at once, and a digest has no more.
    pub max: usize,
}

/// The largest number of events in a digest. A sink takes no more than this out of the spool at once.
pub const MAX_DIGEST_EVENTS: usize = 1_000;

/// `when_full`: what happens to a delivery when the spool has no room for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// It stays in memory, and its source is blocked.
    #[default]
    Block,
    /// It is dropped and counted.
    DropNewest,
}

/// `order_by`: deliveries with the same value of this field stay in order.
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

/// `retry`: the back-off doubles from `initial_backoff` to `max_backoff`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    pub initial_backoff: Duration,
    pub max_backoff: Duration,
    /// Counted from the receipt of the message; none means never.
    pub give_up_after: Option<Duration>,
    /// None means unlimited.
    pub max_attempts: Option<u32>,
    /// The number of refusals after which a delivery becomes a dead letter.
    pub refuse_after: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub enum SinkKind {
    Kafka(Box<KafkaConfig>),
    Webhook(Box<WebhookConfig>),
    Amqp(Box<AmqpSinkConfig>),
    File(FileConfig),
    Stdout,
}

impl SinkConfig {
    /// How its login gets a token, if it does.
    #[must_use]
    pub fn oauth2(&self) -> Option<&OAuth2Config> {
        match &self.kind {
            SinkKind::Webhook(webhook) => match &webhook.auth {
                Some(WebhookAuth::OAuth2(oauth2)) => Some(oauth2),
                _ => None,
            },
            SinkKind::Amqp(amqp) => amqp.connection.oauth2(),
            SinkKind::Kafka(kafka) => kafka.oauth2(),
            SinkKind::File(_) | SinkKind::Stdout => None,
        }
    }
}

impl SinkKind {
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
    /// The record's key; if it renders as null, the record has no key.
    pub key: Template,
    /// Further headers of the record with valid names; the values are templates.
    pub headers: Vec<(String, Template)>,
    /// librdkafka's name of the partitioner.
    pub partitioner: String,
    pub timestamp: KafkaTimestamp,
    /// Further librdkafka producer settings, in the order of the file.
    pub options: Vec<(String, Secret)>,
    pub sasl: Option<Sasl>,
    /// None means a connection without TLS.
    pub tls: Option<Tls>,
    /// The registry of the schema by which the sink's format encodes.
    pub registry: Option<RegistryConfig>,
}

impl KafkaConfig {
    /// How the login gets its tokens, if it does.
    #[must_use]
    pub fn oauth2(&self) -> Option<&OAuth2Config> {
        match &self.sasl {
            Some(Sasl::OAuth2 { oauth2, .. }) => Some(oauth2),
            Some(Sasl::Password { .. } | Sasl::Kerberos(_)) | None => None,
        }
    }
}

/// The time of a Kafka record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KafkaTimestamp {
    #[default]
    Sent,
    /// The event's `time`, if it has one.
    Event,
}

#[derive(Debug, Clone, PartialEq)]
pub struct WebhookConfig {
    pub url: WebhookUrl,
    /// Standard Webhooks secrets (`whsec_…` or raw base64); each of them signs, so that secrets can be rotated. Without any,
    /// requests are not signed.
    pub secrets: Vec<Secret>,
    /// Further request headers with valid names; the values are templates.
    pub headers: Vec<(http::HeaderName, Template)>,
    pub auth: Option<WebhookAuth>,
    /// The HTTP proxy; none means that of `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`.
    pub proxy: Option<Secret>,
    /// The deadline of one request, from connecting to the last byte of the response.
    pub timeout: Duration,
    /// The largest number of requests in flight.
    pub concurrency: usize,
    /// The highest rate, in requests per second.
    pub rate: Option<f64>,
    pub responses: Responses,
    /// Networks that are never connected to, in addition to those that are forbidden to all webhooks.
    pub deny: Vec<Network>,
    pub tls: Tls,
}

/// `responses:` of a webhook: statuses with another meaning than by default, from 300 to 599, each in one list only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Responses {
    /// The receiver refuses the event.
    pub refuse: Vec<u16>,
    /// The attempt failed and is repeated.
    pub retry: Vec<u16>,
    /// The sink is paused until a person resumes it.
    pub pause: Vec<u16>,
}

/// The address of a webhook. Scheme and host are fixed, the rest may be a template. Secrets are read again at each use.
#[derive(Debug, Clone, PartialEq)]
pub enum WebhookUrl {
    /// A URL without a template. It may contain secrets.
    Fixed {
        url: Secret,
        /// The part of the URL that may be shown.
        shown: String,
    },
    /// `https://host[:port]` and a template of the rest.
    Templated {
        /// Scheme, host and port, without a slash at the end.
        origin: String,
        /// Path and query. The values of expressions are percent-encoded.
        path: Template,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub struct AmqpSinkConfig {
    pub connection: AmqpConnection,
    pub exchange: String,
    pub routing_key: Template,
    /// Further headers of the message with valid names; the values are templates.
    pub headers: Vec<(String, Template)>,
    /// The type of the exchange to declare, as durable: `topic`, `direct`, `fanout` or `headers`.
    pub declare: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct FileConfig {
    /// The absolute path of the data directory: no file outside it is written.
    pub dir: PathBuf,
    /// The absolute paths of the relay's own files, such as the spool. No event is written to them, nor to a file beside one of
    /// them whose name begins with its name.
    pub reserved: Vec<PathBuf>,
    /// The template of a path relative to `dir`.
    pub path: Template,
}

#[derive(Debug, Clone, PartialEq)]
pub struct DeadLettersConfig {
    /// How long a dead letter is kept; none means for ever.
    pub keep: Option<Duration>,
    /// The largest size of all dead letters, in bytes.
    pub max_size: u64,
    /// The sink that gets a copy of each dead letter.
    pub to: Option<SinkName>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct DeliveryConfig {
    /// The time after which an unfinished delivery is spooled.
    pub spill_after: Duration,
    /// The longest time that a stop waits for deliveries in flight.
    pub shutdown_grace: Duration,
    /// The largest size of the messages in memory, in bytes. It bounds the prefetch.
    pub max_in_flight_bytes: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct AdminConfig {
    /// The address to listen on; none means no listener.
    pub listen: Option<SocketAddr>,
}
