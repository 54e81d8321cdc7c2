//! The `amqp` source: consumes a queue that exists, and acknowledges what is settled.
//!
//! READ on the queue is permission enough: nothing is declared unless the configuration asks, nothing is requeued, nothing is
//! rejected. The source supervises its connection itself and tries for ever; a lost connection cancels nothing that was
//! taken through it.

mod channels;
mod peek;
mod prefetch;
mod probe;
mod queue;
mod session;

pub use peek::peek;
pub(super) use probe::probe;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Intake, Ledger, Pressure, Settled, SourceStats};
use crate::amqp::{Problem, ProblemKind};
use crate::config::AmqpSourceConfig;
use crate::event::SourceName;
use session::{Ended, Session};

/// The first pause before a source connects again; doubled up to the last, each with full jitter.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(10);
/// A session that lasted this long was a good one: the next pause is the first again.
const GOOD_SESSION: Duration = Duration::from_secs(30);
/// A standing problem is logged again after this long.
const REMIND: Duration = Duration::from_mins(10);

/// A source that consumes one queue.
pub struct AmqpSource {
    /// Its name in the configuration.
    pub name: SourceName,
    /// What to consume, and how.
    pub config: AmqpSourceConfig,
    /// The relay's name, for the connection's.
    pub relay: String,
    /// Bodies in memory, in bytes: bounds the prefetch.
    pub max_in_flight_bytes: u64,
    /// Where messages go.
    pub intake: Arc<dyn Intake>,
    /// What is counted.
    pub stats: Arc<SourceStats>,
    /// Whether it is paused: then it takes nothing, and has no connection.
    pub paused: watch::Receiver<bool>,
}

/// What outlives a session: what was handed out, and how it comes back.
struct State {
    ledger: Ledger,
    settle: mpsc::UnboundedSender<Settled>,
    settled: mpsc::UnboundedReceiver<Settled>,
    pressure: Arc<Pressure>,
    largest: prefetch::Largest,
    /// The broker says how long the queue is, as far as is known.
    may_ask: bool,
    /// The user may open few channels, as far as is known.
    few_channels: bool,
}

impl AmqpSource {
    /// Consumes until `stop`; then lets what is handed out settle until `deadline` is reached, acknowledges, and closes.
    pub async fn run(mut self, stop: CancellationToken, grace: Duration) {
        let (settle, settled) = mpsc::unbounded_channel();
        let ledger = Ledger::new(self.config.prefetch.into());
        let pressure = Arc::new(Pressure::until(stop.clone()));
        let mut state = State {
            ledger,
            settle,
            settled,
            pressure,
            largest: prefetch::Largest::default(),
            may_ask: true,
            few_channels: false,
        };
        let mut pause = FIRST_PAUSE;
        let mut reported = Reported::default();
        loop {
            if *self.paused.borrow_and_update() {
                self.stats.set_paused();
                tracing::info!(source = %self.name, "paused: nothing is taken until it is resumed");
                tokio::select! {
                    () = stop.cancelled() => return,
                    // Without anyone who could resume it, the relay stops.
                    resumed = resumed(&mut self.paused) => if !resumed { return },
                }
                tracing::info!(source = %self.name, "resumed");
            }
            let began = Instant::now();
            let session = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                opened = Session::open(&self, &mut state) => opened,
            };
            let problem = match session {
                Ok(session) => {
                    reported.clear();
                    self.stats.set_up();
                    tracing::info!(source = %self.name, queue = %self.config.queue, "consuming");
                    match session.run(&self, &mut state, &stop, grace).await {
                        Ended::Stopped => return,
                        Ended::Paused => continue,
                        Ended::Renew => {
                            tracing::debug!(source = %self.name, "taking the unacknowledged messages anew");
                            continue;
                        }
                        Ended::Shared(problem) | Ended::Lost(problem) => problem,
                    }
                }
                Err(problem) => problem,
            };
            if problem.kind == ProblemKind::InUse {
                self.stats.set_standby(format!("stands by: {problem}"));
            } else {
                self.stats.set_down(format!("does not consume: {problem}"));
            }
            reported.report(&self.name, &problem);
            if began.elapsed() >= GOOD_SESSION {
                pause = FIRST_PAUSE;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause.mul_f64(fastrand::f64())) => {}
            }
            self.stats.count_reconnect();
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }
}

/// Waits until the source is resumed. False: nobody can resume it any more.
async fn resumed(paused: &mut watch::Receiver<bool>) -> bool {
    paused.wait_for(|paused| !paused).await.is_ok()
}

/// One line for each problem, not one for each attempt.
#[derive(Default)]
struct Reported {
    last: Option<(Problem, Instant)>,
}

impl Reported {
    fn clear(&mut self) {
        self.last = None;
    }

    fn report(&mut self, source: &SourceName, problem: &Problem) {
        if let Some((last, at)) = &self.last
            && last == problem
            && at.elapsed() < REMIND
        {
            tracing::debug!(%source, %problem, "still not consuming");
            return;
        }
        self.last = Some((problem.clone(), Instant::now()));
        match problem.kind {
            ProblemKind::InUse => tracing::info!(%source, %problem, "standing by"),
            ProblemKind::Shared => tracing::error!(%source, %problem, "the queue isn't this relay's alone"),
            _ => tracing::warn!(%source, %problem, "not consuming; trying again until it works"),
        }
    }
}
