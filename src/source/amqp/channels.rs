//! The channels on which a source opens its queue, one after the other: each refusal of the broker closes one.

use std::time::Duration;

use lapin::Channel;

use super::AmqpSource;
use crate::amqp::{self, Connection, Place, Problem, ProblemKind, answer};

/// A broker that limits a user's channels counts one that it has closed for a moment still …
const COUNTED: Duration = Duration::from_millis(250);
/// … and ends the connection that opens another one meanwhile. So often another connection is tried at once.
const CONNECTIONS: usize = 5;

/// A connection, and where it leads.
pub struct Channels<'a> {
    /// The one in use.
    pub connection: Connection,
    /// The broker that it leads to.
    pub place: Place,
    source: &'a AmqpSource,
    /// The user may open few channels, as was learnt by a connection that ended.
    are_few: &'a mut bool,
}

impl<'a> Channels<'a> {
    pub async fn connect(source: &'a AmqpSource, are_few: &'a mut bool) -> Result<Self, Problem> {
        let (connection, place) = connect(source).await?;
        Ok(Self { connection, place, source, are_few })
    }

    /// A channel.
    pub async fn open(&self) -> Result<Channel, Problem> {
        answer(&self.place, "opening a channel", self.connection.create_channel()).await
    }

    /// A channel in place of one that the broker closed; on another connection where its user may open no more on this one.
    pub async fn open_another(&mut self) -> Result<Channel, Problem> {
        for _ in 0..CONNECTIONS {
            if *self.are_few {
                tokio::time::sleep(COUNTED).await;
            }
            match self.open().await {
                Err(problem) if problem.kind == ProblemKind::ChannelLimit => {
                    tracing::debug!(source = %self.source.name, %problem, "connecting again");
                }
                opened => return opened,
            }
            if !std::mem::replace(self.are_few, true) {
                tokio::time::sleep(COUNTED).await;
            }
            (self.connection, self.place) = connect(self.source).await?;
        }
        self.open().await
    }
}

async fn connect(source: &AmqpSource) -> Result<(Connection, Place), Problem> {
    amqp::connect(&source.config.connection, &source.relay, source.name.as_str()).await
}
