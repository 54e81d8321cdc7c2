//! Opens the connection to the broker and the channels on it. One that fails is replaced, never repaired.

use std::sync::Arc;
use std::time::Duration;

use lapin::options::{ConfirmSelectOptions, ExchangeDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};

use crate::amqp::{BrokerAddress, BrokerError, BrokerErrorKind, Connection, Connector, await_reply};
use crate::net::Backoff;
use crate::sink::{Blame, Verdict};

/// The waits before the sink connects again, with full jitter. Attempts wait for the next try, so the longest is short.
pub(super) const BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));

/// Appended to the error if the exchange doesn't exist.
pub(super) const DECLARE_HINT: &str = "; to let the relay declare the exchange, set `declare: { type: topic }`";

/// How to connect, and the exchange that messages are published to.
#[derive(Debug)]
pub(super) struct ExchangeSettings {
    pub connector: Connector,
    /// Names the connection at the broker.
    pub purpose: String,
    pub exchange: ShortString,
    /// The type of the exchange, if the relay declares it.
    pub declare: Option<String>,
}

/// Why nothing can be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PublishFailure {
    pub cause: String,
    pub blame: Blame,
    /// The broker lets the user open no more channels.
    pub is_channel_limit: bool,
}

impl PublishFailure {
    pub(super) fn sink(cause: impl Into<String>) -> Self {
        Self { cause: cause.into(), blame: Blame::Sink, is_channel_limit: false }
    }

    pub(super) fn verdict(&self) -> Verdict {
        Verdict::Retry { after: None, cause: self.cause.clone(), blame: self.blame }
    }
}

/// An error of the connection or of the exchange affects all messages, as a sink has one exchange.
impl From<BrokerError> for PublishFailure {
    fn from(error: BrokerError) -> Self {
        let is_channel_limit = error.kind == BrokerErrorKind::ChannelLimit;
        Self { is_channel_limit, ..Self::sink(error.to_string()) }
    }
}

/// The result of opening a channel, and a connection if there was none.
pub(super) struct ChannelOpening {
    pub on: OpenedOn,
    /// How many channels the connection had before.
    pub had: usize,
    pub channel: Result<Channel, PublishFailure>,
}

/// The connection that a channel was opened on.
pub(super) enum OpenedOn {
    /// The broker could not be connected to.
    NoConnection,
    Current,
    New(Arc<Connection>, Arc<BrokerAddress>),
}

async fn connect(settings: &ExchangeSettings, wait: Duration) -> Result<(Connection, BrokerAddress), PublishFailure> {
    tokio::time::sleep(wait).await;
    Ok(settings.connector.connect(&settings.purpose).await?)
}

/// Opens a channel, on a new connection if there is none.
pub(super) async fn open(
    settings: Arc<ExchangeSettings>,
    current: Option<(Arc<Connection>, Arc<BrokerAddress>)>,
    wait: Duration,
    had: usize,
) -> ChannelOpening {
    let (connection, address, is_new) = match current {
        Some((connection, address)) => (connection, address, false),
        None => match connect(&settings, wait).await {
            Ok((connection, address)) => (Arc::new(connection), Arc::new(address), true),
            Err(failure) => return ChannelOpening { on: OpenedOn::NoConnection, had, channel: Err(failure) },
        },
    };
    let channel = open_on(&connection, &address, &settings).await;
    ChannelOpening { on: if is_new { OpenedOn::New(connection, address) } else { OpenedOn::Current }, had, channel }
}

/// Opens a channel in confirm mode, and makes sure that the exchange exists.
async fn open_on(
    connection: &Connection,
    address: &BrokerAddress,
    settings: &ExchangeSettings,
) -> Result<Channel, PublishFailure> {
    let channel = await_reply(address, "opening a channel", connection.create_channel()).await?;
    await_reply(address, "confirm.select", channel.confirm_select(ConfirmSelectOptions::default())).await?;
    match &settings.declare {
        Some(kind) => {
            let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
            declare_exchange(&channel, address, settings, exchange_kind(kind), options).await?;
        }
        // The default exchange always exists, and a broker refuses to declare it, even passively.
        None if settings.exchange.as_str().is_empty() => {}
        // A passive declaration checks whether the exchange exists, and needs no permission. Publishing to an exchange that
        // doesn't exist would close the channel, with all messages that were published on it.
        None => {
            let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
            declare_exchange(&channel, address, settings, ExchangeKind::default(), options).await?;
        }
    }
    Ok(channel)
}

async fn declare_exchange(
    channel: &Channel,
    address: &BrokerAddress,
    settings: &ExchangeSettings,
    kind: ExchangeKind,
    options: ExchangeDeclareOptions,
) -> Result<(), PublishFailure> {
    let declaring = channel.exchange_declare(settings.exchange.clone(), kind, options, FieldTable::default());
    await_reply(address, "exchange.declare", declaring).await.map_err(|error| {
        let is_of_exchange = matches!(
            error.kind,
            BrokerErrorKind::NotFound | BrokerErrorKind::AccessRefused | BrokerErrorKind::PreconditionFailed
        );
        let mut failure = PublishFailure::from(error);
        if is_of_exchange && settings.declare.is_none() {
            failure.cause.push_str(DECLARE_HINT);
        }
        failure
    })
}

fn exchange_kind(kind: &str) -> ExchangeKind {
    match kind {
        "direct" => ExchangeKind::Direct,
        "fanout" => ExchangeKind::Fanout,
        "headers" => ExchangeKind::Headers,
        "topic" => ExchangeKind::Topic,
        other => ExchangeKind::Custom(other.to_owned()),
    }
}
