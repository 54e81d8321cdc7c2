//! Events as messages to an AMQP exchange: persistent, mandatory, confirmed.
//!
//! The sink has a connection of its own, apart from the sources': a broker that blocks publishers must not block
//! acknowledgements. An attempt ends when the broker has confirmed its message and it is known that it was not returned.

mod link;
mod probe;
mod publish;
mod render;
mod send;
mod window;
mod worker;

use std::time::Duration;

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use self::link::Settings;
pub(super) use self::probe::probe;
pub(super) use self::render::render;
use self::worker::{CHANNELS, Job, WINDOW, Worker};
use super::{Attempt, OpenError, Outgoing};
use crate::amqp::values::short;
use crate::config::{AmqpConnection, AmqpSinkConfig, SinkConfig};
use crate::helper::{self, Helper};

/// An open exchange.
pub(super) struct AmqpSink {
    /// What is sent here is bounded by who respects [`capacity`](Self::capacity).
    jobs: UnboundedSender<Job>,
    worker: JoinHandle<()>,
}

impl AmqpSink {
    pub(super) async fn open(config: &SinkConfig, amqp: &AmqpSinkConfig, relay: &str) -> Result<Self, OpenError> {
        let problem = |detail| OpenError { sink: config.name.to_string(), detail };
        let exchange = short("the exchange's name", &amqp.exchange).map_err(|error| problem(error.to_string()))?;
        let connection = amqp.connection.clone();
        tokio::task::spawn_blocking(move || readable(&connection))
            .await
            .map_err(|error| problem(error.to_string()))?
            .map_err(problem)?;
        let settings = Settings {
            connection: amqp.connection.clone(),
            relay: relay.to_owned(),
            purpose: format!("sink {}", config.name),
            exchange,
            declare: amqp.declare.clone(),
        };
        let (jobs, receiver) = unbounded_channel();
        Ok(Self {
            jobs,
            worker: helper::task(Helper::AmqpWorker, Worker::new(config.name.to_string(), settings, receiver).run()),
        })
    }

    #[expect(clippy::unused_self, reason = "every kind of sink has the same five functions")]
    pub(super) fn capacity(&self) -> usize {
        CHANNELS * WINDOW
    }

    pub(super) fn attempt(&self, outgoing: Outgoing, attempt: Attempt) {
        // A worker that is gone drops it, which ends it.
        let _ = self.jobs.send(Job { outgoing, attempt });
    }

    pub(super) async fn close(self, grace: Duration) {
        let Self { jobs, mut worker, .. } = self;
        drop(jobs);
        if tokio::time::timeout(grace, &mut worker).await.is_err() {
            worker.abort();
            // What it still has is dropped when it has ended.
            let _ = worker.await;
        }
    }
}

/// Whether the files that a connection names are there. Blocks. The error says what to do.
fn readable(connection: &AmqpConnection) -> Result<(), String> {
    let secrets = connection.urls.iter().chain(&connection.username).chain(&connection.password);
    let mut tls = false;
    for secret in secrets {
        tls |= secret.reveal().map_err(|error| error.to_string())?.starts_with("amqps:");
    }
    if tls {
        connection.tls.client_config().map_err(|error| error.to_string())?;
    }
    Ok(())
}
