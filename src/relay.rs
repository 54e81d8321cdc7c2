//! All of it together: start, relay, stop.
//!
//! The way of a message is [`Intake::accept`] here, then the dispatcher of each sink in [`delivery`](crate::delivery), and
//! back through its receipt to the watermark in [`source`](crate::source).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, SourceKind};
use crate::delivery::{Delivery, Dispatcher, Kept, Received, Settings, Stats, Throttle};
use crate::event::{Event, Message, Reading, Reason, SourceName};
use crate::rules::{Rules, Unrouted};
use crate::sink::{OpenError, Sink};
use crate::source::{AmqpSource, Intake, Receipt, RecordingSource};
use crate::spool::{DeadLetter, Spool, SpoolError};

/// What sources get beyond the grace to acknowledge what the sinks settled last.
const ACKNOWLEDGING: Duration = Duration::from_secs(5);

/// What the spool gets to close its file.
const CLOSING: Duration = Duration::from_secs(5);

/// A relay that can't start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The spool can't be used.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// A sink can't be opened.
    #[error(transparent)]
    Sink(#[from] OpenError),
    /// A task ended as it never should: a bug. Nothing was acknowledged that isn't delivered or kept.
    #[error("a part of the relay failed and everything was stopped: {0}")]
    Broken(#[from] tokio::task::JoinError),
}

/// A relay that is configured and not started.
pub struct Relay {
    config: Config,
    stats: Arc<Stats>,
}

impl Relay {
    /// Nothing is opened yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let stats = Stats::new(&config);
        Self { config, stats }
    }

    /// What it was given.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What it counts, for who shows it.
    #[must_use]
    pub fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.stats)
    }

    /// Relays until `stop`, or until every source has come to its end, as recordings do. Then no more messages are taken,
    /// those in flight get the configured grace, and what is settled is acknowledged.
    pub async fn run(self, stop: CancellationToken) -> Result<(), RelayError> {
        let Self { config, stats } = self;
        let mut said = false;
        let opening = Spool::open_when_free(&config.spool, &config.dead_letters, |held| {
            if !std::mem::replace(&mut said, true) {
                tracing::warn!(%held, "waiting for the spool");
            }
            stats.set_waiting(held.to_string());
        });
        let spool = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            opened = opening => Arc::new(opened?),
        };
        stats.set_spool(Arc::clone(&spool));
        let grace = config.delivery.shutdown_grace;

        let mut dispatchers = JoinSet::new();
        let mut inboxes = Vec::with_capacity(config.sinks.len());
        for (sink, stats) in config.sinks.iter().zip(&stats.sinks) {
            let open = Sink::open(sink, &config.name).await?;
            let settings = Settings {
                name: sink.name.clone(),
                order_by: sink.order_by,
                retry: sink.retry.clone(),
                on_full: sink.on_full,
                spill_after: config.delivery.spill_after,
            };
            let dispatcher = Dispatcher::new(settings, open, Arc::clone(&spool), Arc::clone(stats)).await;
            let Some((dispatcher, inbox)) = dispatcher else { return Ok(()) };
            dispatchers.spawn(dispatcher.run(stop.clone(), grace));
            inboxes.push(inbox);
        }

        let intake = Arc::new(Router {
            readings: config.sources.iter().map(|source| (source.name.clone(), source.reading.clone())).collect(),
            rules: config.rules.clone(),
            inboxes,
            spool: Arc::clone(&spool),
            stats: Arc::clone(&stats),
            dead: Throttle::default(),
        });
        let mut sources = JoinSet::new();
        for (source, stats) in config.sources.into_iter().zip(&stats.sources) {
            let (intake, stats) = (Arc::clone(&intake) as Arc<dyn Intake>, Arc::clone(stats));
            match source.kind {
                SourceKind::Amqp(amqp) => {
                    let source = AmqpSource {
                        name: source.name,
                        config: *amqp,
                        relay: config.name.clone(),
                        max_in_flight_bytes: config.delivery.max_in_flight_bytes,
                        intake,
                        stats,
                    };
                    sources.spawn(source.run(stop.clone(), grace + ACKNOWLEDGING));
                }
                SourceKind::Recording(recording) => {
                    let source = RecordingSource {
                        name: source.name,
                        config: recording,
                        intake,
                        stats,
                        pressure: Arc::default(),
                    };
                    sources.spawn(source.run(stop.clone(), grace + ACKNOWLEDGING));
                }
            }
        }
        // Each source holds it as long as it hands out messages; once they are done the inboxes close.
        drop(intake);

        // Sources end first, then the dispatchers; one that fails ends everything, whichever it is.
        loop {
            tokio::select! {
                Some(ended) = sources.join_next() => ended?,
                Some(ended) = dispatchers.join_next() => ended?,
                else => break,
            }
        }
        // All that was handed to it is settled, or was given up with the grace.
        spool.close(CLOSING).await;
        Ok(())
    }
}

/// Makes each message the deliveries that the rules say.
struct Router {
    readings: HashMap<SourceName, Reading>,
    rules: Rules,
    inboxes: Vec<UnboundedSender<Delivery>>,
    spool: Arc<Spool>,
    stats: Arc<Stats>,
    dead: Throttle,
}

impl Intake for Router {
    /// Message → event → plan → deliveries, each with its share of the receipt.
    fn accept(&self, message: Message, receipt: Receipt) {
        let (Some(reading), Some(stats)) = (self.readings.get(&message.source), self.stats.source(&message.source))
        else {
            return;
        };
        let since = Instant::now();
        stats.count_received();
        let event = match Event::read(&message, reading) {
            Ok(event) => event,
            Err(invalid) => {
                self.notice(&message.source, invalid.reason, &invalid.detail);
                self.spool.store(DeadLetter::unreadable(*invalid, Arc::new(message)), receipt);
                return;
            }
        };
        stats.count_event(event.kind, &event.tenant, event.status);
        let plan = self.rules.plan(&event, &message);
        for route in &plan.matched {
            self.stats.count_route(*route);
        }
        if plan.unrouted {
            self.stats.count_unrouted();
            if self.rules.unrouted == Unrouted::DeadLetter {
                let detail = "no route matches, and `unrouted:` is dead_letter".to_owned();
                self.notice(&message.source, Reason::Unrouted, &detail);
                self.spool.store(DeadLetter::of_event(&event, Arc::new(message), Reason::Unrouted, detail), receipt);
                return;
            }
        }
        let received = Arc::new(Received { event, message: Arc::new(message) });
        for (sink, route) in &plan.deliveries {
            let Some(inbox) = self.inboxes.get(sink.0) else { continue };
            let route = route.and_then(|route| self.rules.routes.get(route)).map(|route| route.name.clone());
            let delivery = Delivery {
                received: Arc::clone(&received),
                route,
                kept: Kept::Message(receipt.share()),
                since,
                attempts: 0,
            };
            // A dispatcher that is gone drops it: the message is abandoned, and redelivered to the next run.
            let _ = inbox.send(delivery);
        }
        receipt.settle();
    }
}

impl Router {
    fn notice(&self, source: &SourceName, reason: Reason, detail: &str) {
        if let Some(left_out) = self.dead.pass() {
            tracing::warn!(%source, %reason, detail, left_out, "a message became a dead letter");
        }
    }
}
