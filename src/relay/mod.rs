//! All of it together: start, relay, reload, stop.
//!
//! The way of a message is [`Intake::accept`](crate::source::Intake::accept) in `router`, then the dispatcher of each sink in
//! [`delivery`](crate::delivery), and back through its receipt to the watermark in [`source`](crate::source). What runs for a
//! configuration is in `running`, what can be asked of it in `handle`.

mod bare;
mod blocked;
mod handle;
mod jobs;
mod orphans;
mod redrive;
mod router;
mod running;
#[cfg(test)]
mod stopping;
mod stranded;
mod taps;

#[doc(hidden)]
pub use bare::Bare;
pub use handle::Handle;
pub use jobs::{JobLine, JobOutcome, JobRequest, Jobs};
pub use redrive::{Redrive, Redriven, rehearse};

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::delivery::Stats;
use crate::sink::OpenError;
use crate::spool::{Spool, SpoolError, lost_at_reboot};
use crate::tasks::{self, TaskKind};
use handle::Ask;
use running::Running;

/// What the spool gets to close its file.
const CLOSING: Duration = Duration::from_secs(5);

/// An opening of the spool that takes this long is told in the log, and again each time that it has taken so much longer.
const LONG_OPENING: Duration = Duration::from_secs(5);

/// A relay that can't start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The spool can't be used.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// A sink can't be opened.
    #[error(transparent)]
    Sink(#[from] OpenError),
    /// A thread or a task died: a bug. Nothing was acknowledged that isn't delivered or kept.
    #[error(
        "a part of the relay ({0:?}) died, so the relay ends; the log says where: please report it, and start the relay anew"
    )]
    Dead(TaskKind),
    /// A task ended as it never should: a bug. Nothing was acknowledged that isn't delivered or kept.
    #[error("a part of the relay failed and everything was stopped: {0}")]
    Broken(#[from] tokio::task::JoinError),
}

/// A relay that is configured and not started.
pub struct Relay {
    config: Config,
    handle: Handle,
    asked: mpsc::UnboundedReceiver<Ask>,
}

impl Relay {
    /// Nothing is opened yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let (handle, asked) = Handle::new(Stats::new(&config));
        Self { config, handle, asked }
    }

    /// What it was given.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// For who asks something of it.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Relays until `stop`, or until every source has come to its end, as recordings do. Then no more messages are taken,
    /// those in flight get the configured grace, and what is settled is acknowledged.
    pub async fn run(self, stop: CancellationToken) -> Result<(), RelayError> {
        tokio::select! {
            ended = self.work(stop) => ended,
            dead = tasks::first_panic() => Err(RelayError::Dead(dead)),
        }
    }

    async fn work(self, stop: CancellationToken) -> Result<(), RelayError> {
        let Self { config, handle, asked } = self;
        let stats = handle.stats();
        let said = Cell::new(false);
        let opening = Spool::open_when_free(&config.spool, &config.dead_letters, |held| {
            if !said.replace(true) {
                tracing::warn!(%held, "waiting for the spool");
            }
            stats.set_waiting(held.to_string());
        });
        let spool_path = &config.spool.path;
        let opening = with_signs_of_life(opening, LONG_OPENING, |seconds| {
            if said.get() {
                return;
            }
            let bytes = std::fs::metadata(spool_path).map_or(0, |file| file.len());
            let spool = spool_path.display();
            tracing::info!(%spool, bytes, seconds, "still opening the spool; after an unclean stop all of the file is checked");
        });
        let spool = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            opened = opening => Arc::new(opened?),
        };
        if let Some(warning) = lost_at_reboot(spool.path()) {
            tracing::warn!("{warning}");
        }
        stats.set_spool(Arc::clone(&spool));
        relay(config, &spool, &handle, asked, stop).await?;
        // All that was handed to it is settled, or was given up with the grace.
        spool.close(CLOSING).await;
        Ok(())
    }
}

/// Relays with an open spool. A start and a reload wait for the disk, which may fail for as long as it likes: `stop` ends both.
async fn relay(
    config: Config,
    spool: &Arc<Spool>,
    handle: &Handle,
    mut asked: mpsc::UnboundedReceiver<Ask>,
    stop: CancellationToken,
) -> Result<(), RelayError> {
    let starting = Running::start(config, Arc::clone(spool), handle, stop.clone());
    // Its sources start last: until then nothing was taken.
    let Some(started) = stop.run_until_cancelled(starting).await else { return Ok(()) };
    let mut running = started?;
    handle.set_config(running.config());
    let mut blocked = blocked::Blocked::default();
    let mut stranded = stranded::Stranded::default();
    let mut look = tokio::time::interval(blocked::LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while running.goes_on() {
        tokio::select! {
            _ = look.tick() => {
                blocked.look(handle.stats());
                stranded.look(handle.stats(), |sink| running.still_ends(sink));
            }
            ended = running.ended() => ended?,
            Some(ask) = asked.recv() => {
                // What it has started stops as all else does. Who asked hears that the relay stops.
                if stop.run_until_cancelled(running.answer(ask)).await.is_some() {
                    handle.set_config(running.config());
                }
            }
        }
    }
    Ok(())
}

/// Does `work`; `say` hears again and again for how many seconds that goes on.
async fn with_signs_of_life<T>(work: impl Future<Output = T>, every: Duration, mut say: impl FnMut(u64)) -> T {
    let begun = tokio::time::Instant::now();
    let mut signs = tokio::time::interval_at(begun + every, every);
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = signs.tick() => say(begun.elapsed().as_secs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_takes_long_is_told_again_and_again() {
        let (told, mut signs) = mpsc::unbounded_channel();
        let until_the_third = async {
            for _ in 0..3 {
                signs.recv().await.expect("a sign of life");
            }
        };
        with_signs_of_life(until_the_third, Duration::from_millis(1), |_| told.send(()).unwrap()).await;
        with_signs_of_life(async {}, LONG_OPENING, |_| panic!("nothing is said of what is done at once")).await;
    }
}
