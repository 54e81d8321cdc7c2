//! The `amqp` source: consumes an existing queue, and acknowledges the settled messages.
//!
//! The READ permission on the queue is enough: the source declares nothing unless configured, and requeues or rejects no message. It
//! supervises its connection itself and reconnects for ever. The loss of a connection cancels no message that was received on it.

mod ack_pacer;
mod channel_opener;
mod peek_queue;
mod prefetch;
mod prefetch_change;
mod probe;
mod queue;
mod session;
mod spill_requester;

pub use peek_queue::peek_queue;
pub(super) use probe::probe;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Intake, Ledger, Settlement, SourceSignals, SourceStats};
use crate::amqp::{BrokerError, BrokerErrorKind, Connector};
use crate::config::AmqpSourceConfig;
use crate::event::SourceName;
use crate::net::Backoff;
use prefetch::LargestBody;
use session::{Session, SessionEnd};

/// The delays before a source reconnects, with full jitter.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(10));
/// The consumer of a queue in use may be a relay that hangs. The broker ends its connection within this time: after two or three heartbeats.
const HANG: Duration = Duration::from_mins(1);
/// The longest delay during that time.
const HANG_RETRY: Duration = Duration::from_secs(1);
/// After a session of this length the back-off starts from the beginning.
const GOOD_SESSION: Duration = Duration::from_secs(30);
/// An error that persists is logged again after this time.
const LOG_AGAIN: Duration = Duration::from_mins(10);

pub struct AmqpSource {
    pub name: SourceName,
    pub config: AmqpSourceConfig,
    pub connector: Connector,
    /// The bound of the bodies in memory, in bytes. It limits the prefetch.
    pub max_in_flight_bytes: u64,
    pub intake: Arc<dyn Intake>,
    pub stats: Arc<SourceStats>,
    /// Whether the source is paused: then it takes no messages, and has no connection.
    pub paused: watch::Receiver<bool>,
}

/// What a source remembers from one session to the next.
struct SourceMemory {
    ledger: Ledger,
    settlement_sender: mpsc::UnboundedSender<Settlement>,
    settlements: mpsc::UnboundedReceiver<Settlement>,
    signals: Arc<SourceSignals>,
    largest_body: LargestBody,
    /// False once the broker has refused to tell the queue's counts.
    can_query_counts: bool,
    /// True once the broker has ended a connection because the user has too many channels.
    has_few_channels: bool,
}

impl AmqpSource {
    /// Consumes until `stop`. Then waits at most for `grace` until the messages handed out are settled, acknowledges, and closes.
    pub async fn run(mut self, stop: CancellationToken, grace: Duration) {
        let (settlement_sender, settlements) = mpsc::unbounded_channel();
        let mut memory = SourceMemory {
            ledger: Ledger::new(self.config.prefetch.into()),
            settlement_sender,
            settlements,
            signals: Arc::new(SourceSignals::with_stop(stop.clone())),
            largest_body: LargestBody::default(),
            can_query_counts: true,
            has_few_channels: false,
        };
        let mut failures = 0_u32;
        let mut in_use_since = None;
        let mut error_log = ErrorLog::default();
        loop {
            if *self.paused.borrow_and_update() && !self.wait_until_resumed(&stop).await {
                return;
            }
            let began = Instant::now();
            let session = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                opened = Session::open(&self, &mut memory) => opened,
            };
            let error = match session {
                Ok(session) => {
                    error_log.clear();
                    self.stats.set_consuming();
                    tracing::info!(source = %self.name, queue = %self.config.queue, "consuming");
                    match session.run(&self, &mut memory, &stop, grace).await {
                        SessionEnd::Stopped => return,
                        SessionEnd::Paused => continue,
                        SessionEnd::Reopen => {
                            tracing::debug!(source = %self.name, "receiving the unacknowledged messages again");
                            continue;
                        }
                        SessionEnd::NotExclusive(error) | SessionEnd::Failed(error) => error,
                    }
                }
                Err(error) => error,
            };
            let is_in_use = error.kind == BrokerErrorKind::InUse;
            if is_in_use {
                self.stats.set_standby(format!("stands by: {error}"));
            } else {
                self.stats.set_down(format!("does not consume: {error}"));
            }
            error_log.log(&self.name, error);
            if began.elapsed() >= GOOD_SESSION {
                failures = 0;
            }
            failures = failures.saturating_add(1);
            in_use_since = is_in_use.then(|| in_use_since.unwrap_or(began));
            let most =
                if in_use_since.is_some_and(|since| since.elapsed() < HANG) { HANG_RETRY } else { Duration::MAX };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(BACKOFF.full_jitter(failures).min(most)) => {}
            }
            self.stats.count_reconnect();
        }
    }

    /// Returns false if the source is not resumed, because the relay stops.
    async fn wait_until_resumed(&mut self, stop: &CancellationToken) -> bool {
        self.stats.set_paused();
        tracing::info!(source = %self.name, "source paused; it takes no messages until it is resumed");
        let resumed = tokio::select! {
            () = stop.cancelled() => false,
            resumed = self.paused.wait_for(|paused| !paused) => resumed.is_ok(),
        };
        if resumed {
            tracing::info!(source = %self.name, "source resumed");
        }
        resumed
    }
}

/// Logs each error once, and not with every attempt to reconnect.
#[derive(Default)]
struct ErrorLog {
    last: Option<(BrokerError, Instant)>,
}

impl ErrorLog {
    fn clear(&mut self) {
        self.last = None;
    }

    fn log(&mut self, source: &SourceName, error: BrokerError) {
        if self.last.as_ref().is_some_and(|(last, at)| *last == error && at.elapsed() < LOG_AGAIN) {
            return;
        }
        match error.kind {
            BrokerErrorKind::InUse => {
                tracing::info!(%source, %error, "standing by; this relay consumes once the queue is free");
            }
            BrokerErrorKind::NotExclusive => {
                tracing::error!(%source, %error, "another consumer takes from the queue; this relay stopped consuming it");
            }
            _ => tracing::warn!(%source, %error, "source unavailable; the relay reconnects until it works"),
        }
        self.last = Some((error, Instant::now()));
    }
}
