//! Publishes events to an AMQP exchange, persistent and mandatory, with publisher confirms.
//!
//! The sink has its own connection, apart from those of the sources: a broker that blocks publishers must not block
//! acknowledgements. An attempt is delivered when the broker has confirmed its message and has not returned it.

mod channel;
mod confirms;
mod probe;
mod render;
mod request;
mod window;
mod worker;

use std::time::Duration;

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::channel::ExchangeSettings;
pub(super) use self::probe::probe;
pub(super) use self::render::render;
use self::worker::{CHANNELS, PublishJob, WINDOW, Worker};
use super::{Attempt, OpenError, RenderedDelivery};
use crate::amqp::Connector;
use crate::amqp::values::short_string;
use crate::config::{AmqpConnection, AmqpSinkConfig, SinkConfig};
use crate::tasks::{self, TaskKind};

pub(super) struct AmqpSink {
    /// Unbounded: the caller of [`attempt`](Self::attempt) observes [`capacity`](Self::capacity).
    jobs: UnboundedSender<PublishJob>,
    closing: CancellationToken,
    worker: JoinHandle<()>,
}

impl AmqpSink {
    pub(super) async fn open(config: &SinkConfig, amqp: &AmqpSinkConfig, relay: &str) -> Result<Self, OpenError> {
        let problem = |detail| OpenError { sink: config.name.to_string(), detail };
        let exchange =
            short_string("the exchange's name", &amqp.exchange).map_err(|error| problem(error.to_string()))?;
        let connection = amqp.connection.clone();
        tokio::task::spawn_blocking(move || check_files(&connection))
            .await
            .map_err(|error| problem(tasks::blocking_error("reading the files of the sink's connection", &error)))?
            .map_err(problem)?;
        let settings = ExchangeSettings {
            connector: Connector::new(&amqp.connection, relay),
            purpose: format!("sink {}", config.name),
            exchange,
            declare: amqp.declare.clone(),
        };
        Ok(Self::start(config.name.as_str(), settings))
    }

    fn start(name: &str, settings: ExchangeSettings) -> Self {
        let (jobs, receiver) = unbounded_channel();
        let closing = CancellationToken::new();
        let worker = Worker::new(name.to_owned(), settings, receiver, closing.clone());
        Self { jobs, closing, worker: tasks::spawn(TaskKind::AmqpWorker, worker.run()) }
    }

    #[expect(clippy::unused_self, reason = "all kinds of sinks have the same functions")]
    pub(super) fn capacity(&self) -> usize {
        CHANNELS * WINDOW
    }

    pub(super) fn attempt(&self, outgoing: RenderedDelivery, attempt: Attempt) {
        // If the worker is gone, the job is dropped, which ends its attempt.
        let _ = self.jobs.send(PublishJob { outgoing, attempt });
    }

    pub(super) fn cancel_unsent(&self) {
        self.closing.cancel();
    }

    pub(super) async fn close(self, grace: Duration) {
        let Self { jobs, closing, mut worker } = self;
        closing.cancel();
        drop(jobs);
        if tokio::time::timeout(grace, &mut worker).await.is_err() {
            worker.abort();
            // Its attempts in flight are dropped once it has ended.
            let _ = worker.await;
        }
    }
}

/// Reads the files that a connection names, which blocks. The error says which one can't be used, and what to do.
fn check_files(connection: &AmqpConnection) -> Result<(), String> {
    let secrets = connection.urls.iter().chain(connection.login.secrets());
    let mut tls = false;
    for secret in secrets {
        tls |= secret.reveal().map_err(|error| error.to_string())?.starts_with("amqps:");
    }
    if tls {
        connection.tls.client_config().map_err(|error| error.to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AmqpLogin, Secret};
    use crate::event::Properties;
    use crate::net::Tls;
    use crate::sink::fixtures::{Attempts, outgoing};
    use crate::sink::{Blame, Destination, Verdict};

    fn to(port: u16) -> AmqpSink {
        let connection = AmqpConnection {
            urls: vec![Secret::text(format!("amqp://127.0.0.1:{port}"))],
            login: AmqpLogin::Password { username: None, password: None },
            vhost: None,
            tls: Tls::default(),
        };
        AmqpSink::start(
            "partner",
            ExchangeSettings {
                connector: Connector::new(&connection, "urn:test"),
                purpose: "sink partner".to_owned(),
                exchange: short_string("the exchange's name", "products").unwrap(),
                declare: None,
            },
        )
    }

    fn message() -> RenderedDelivery {
        let properties = Box::new(Properties::default());
        let destination =
            Destination::Amqp { exchange: "products".to_owned(), routing_key: "k".to_owned(), properties };
        outgoing(destination, "x")
    }

    /// An attempt that the broker did not answer has another cause.
    fn is_cancelled(verdict: &Verdict) -> bool {
        matches!(verdict, Verdict::Retry { blame: Blame::Relay, cause, .. } if cause.contains("cancelled"))
    }

    #[tokio::test]
    async fn unsent_attempts_are_cancelled_before_the_sink_closes_if_the_broker_is_silent() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let sink = to(silent.local_addr().unwrap().port());
        let mut attempts = Attempts::new();
        sink.attempt(message(), attempts.start());
        sink.cancel_unsent();
        let (_, verdict) = attempts.ended().await;
        assert!(is_cancelled(&verdict), "{verdict:?}");
        sink.attempt(message(), attempts.start());
        let (_, verdict) = attempts.ended().await;
        assert!(is_cancelled(&verdict), "{verdict:?}");
        sink.close(Duration::from_mins(1)).await;
    }

    #[tokio::test]
    async fn closing_does_not_wait_for_a_silent_broker() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let sink = to(silent.local_addr().unwrap().port());
        let mut attempts = Attempts::new();
        sink.attempt(message(), attempts.start());
        sink.close(Duration::from_mins(1)).await;
        let (_, verdict) = attempts.ended_already().unwrap();
        assert!(is_cancelled(&verdict), "{verdict:?}");
    }
}
