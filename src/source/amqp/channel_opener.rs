//! Opens channels for the requests by which a source examines its queue. The broker closes a channel with each refusal, so a refused
//! request needs another channel.

use std::time::Duration;

use lapin::Channel;

use super::AmqpSource;
use crate::amqp::{BrokerAddress, BrokerError, BrokerErrorKind, Connection, await_reply};

/// A broker that limits the channels of a user still counts a closed channel for a moment, and ends the connection if the user opens
/// another channel in that time.
const CLOSED_CHANNEL_COUNTS: Duration = Duration::from_millis(250);
/// How many connections are tried one after the other, if the broker ends each for that reason.
const MAX_CONNECTIONS: usize = 5;

pub struct ChannelOpener<'a> {
    pub connection: Connection,
    pub address: BrokerAddress,
    source: &'a AmqpSource,
    /// Whether the user may open only few channels. It is learnt when the broker ends a connection.
    has_few_channels: &'a mut bool,
}

impl<'a> ChannelOpener<'a> {
    pub async fn connect(source: &'a AmqpSource, has_few_channels: &'a mut bool) -> Result<Self, BrokerError> {
        let (connection, address) = connect(source).await?;
        Ok(Self { connection, address, source, has_few_channels })
    }

    pub async fn open(&self) -> Result<Channel, BrokerError> {
        await_reply(&self.address, "opening a channel", self.connection.create_channel()).await
    }

    /// Opens a channel in place of one that the broker closed, if necessary on another connection.
    pub async fn reopen(&mut self) -> Result<Channel, BrokerError> {
        for _ in 0..MAX_CONNECTIONS {
            if *self.has_few_channels {
                tokio::time::sleep(CLOSED_CHANNEL_COUNTS).await;
            }
            match self.open().await {
                Err(error) if error.kind == BrokerErrorKind::ChannelLimit => {
                    tracing::debug!(source = %self.source.name, %error, "the user may open few channels; connecting again");
                }
                opened => return opened,
            }
            if !std::mem::replace(self.has_few_channels, true) {
                tokio::time::sleep(CLOSED_CHANNEL_COUNTS).await;
            }
            (self.connection, self.address) = connect(self.source).await?;
        }
        self.open().await
    }
}

async fn connect(source: &AmqpSource) -> Result<(Connection, BrokerAddress), BrokerError> {
    source.connector.connect(source.name.as_str()).await
}
