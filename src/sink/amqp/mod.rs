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
use tokio_util::sync::CancellationToken;

use self::link::Settings;
pub(super) use self::probe::probe;
pub(super) use self::render::render;
use self::worker::{CHANNELS, Job, WINDOW, Worker};
use super::{Attempt, OpenError, Outgoing};
use crate::amqp::values::short;
use crate::config::{AmqpConnection, AmqpSinkConfig, SinkConfig};
use crate::tasks::{self, TaskKind};

/// An open exchange.
pub(super) struct AmqpSink {
    /// What is sent here is bounded by who respects [`capacity`](Self::capacity).
    jobs: UnboundedSender<Job>,
    ending: CancellationToken,
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
        Ok(Self::start(config.name.as_str(), settings))
    }

    fn start(name: &str, settings: Settings) -> Self {
        let (jobs, receiver) = unbounded_channel();
        let ending = CancellationToken::new();
        let worker = Worker::new(name.to_owned(), settings, receiver, ending.clone());
        Self { jobs, ending, worker: tasks::spawn(TaskKind::AmqpWorker, worker.run()) }
    }

    #[expect(clippy::unused_self, reason = "every kind of sink has the same five functions")]
    pub(super) fn capacity(&self) -> usize {
        CHANNELS * WINDOW
    }

    pub(super) fn attempt(&self, outgoing: Outgoing, attempt: Attempt) {
        // A worker that is gone drops it, which ends it.
        let _ = self.jobs.send(Job { outgoing, attempt });
    }

    pub(super) fn take_back_unsent(&self) {
        self.ending.cancel();
    }

    pub(super) async fn close(self, grace: Duration) {
        let Self { jobs, ending, mut worker } = self;
        ending.cancel();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Secret, Tls};
    use crate::event::Properties;
    use crate::sink::fixtures::{Attempts, outgoing};
    use crate::sink::{Blame, Destination, Verdict};

    fn to(port: u16) -> AmqpSink {
        let connection = AmqpConnection {
            urls: vec![Secret::text(format!("amqp://127.0.0.1:{port}"))],
            username: None,
            password: None,
            vhost: None,
            tls: Tls::default(),
        };
        AmqpSink::start(
            "partner",
            Settings {
                connection,
                relay: "urn:test".to_owned(),
                purpose: "sink partner".to_owned(),
                exchange: short("the exchange's name", "products").unwrap(),
                declare: None,
            },
        )
    }

    fn message() -> Outgoing {
        let properties = Box::new(Properties::default());
        let destination =
            Destination::Amqp { exchange: "products".to_owned(), routing_key: "k".to_owned(), properties };
        outgoing(destination, "x")
    }

    /// The verdict of one that a broker didn't answer has other words.
    fn is_taken_back(verdict: &Verdict) -> bool {
        matches!(verdict, Verdict::Retry { blame: Blame::Relay, cause, .. } if cause.contains("taken back"))
    }

    #[tokio::test]
    async fn what_a_silent_broker_was_not_sent_is_taken_back_before_the_sink_ends() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let sink = to(silent.local_addr().unwrap().port());
        let mut attempts = Attempts::new();
        sink.attempt(message(), attempts.start());
        sink.take_back_unsent();
        let (_, verdict) = attempts.ended().await;
        assert!(is_taken_back(&verdict), "{verdict:?}");
        sink.attempt(message(), attempts.start());
        let (_, verdict) = attempts.ended().await;
        assert!(is_taken_back(&verdict), "{verdict:?}");
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
        assert!(is_taken_back(&verdict), "{verdict:?}");
    }
}
