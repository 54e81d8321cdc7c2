//! The relay as a whole: start, reload, stop.
//!
//! A message goes through [`Intake::accept`](crate::source::Intake::accept) in `router` to the dispatcher of each sink in
//! [`delivery`](crate::delivery); its receipt brings the end of each delivery back to the watermark in [`source`](crate::source).
//! `running` owns the tasks of the current configuration, and other tasks command and observe a relay by its [`Handle`].

mod alerts;
mod bench;
mod blocked_sources;
mod captures;
mod handle;
mod jobs;
mod orphaned_sinks;
mod orphans;
mod redrive;
mod replay;
mod router;
mod running;
mod send_test;
mod shards;
mod stats;
#[cfg(test)]
mod stopping;

pub use alerts::{AlertCounts, AlertSummary, RaisedSummary};
#[doc(hidden)]
pub use bench::BenchRelay;
pub use handle::Handle;
pub use jobs::{Job, JobOutcome, JobRequest, JobStatus, Jobs, STOPPED};
pub use orphaned_sinks::OrphanedSink;
pub use redrive::{RedriveRequest, RedriveResult, dry_run};
pub use replay::{EventCount, ReplayRequest, count_events};
pub use send_test::{InvalidTest, TEST_TIMEOUT, TestEvent, TestRequest, TestResult};
pub use stats::{RouteStats, Stats, StatsSnapshot};

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::journal::Journal;
use crate::sink::OpenError;
use crate::spool::{Spool, SpoolError};
use crate::storage::{create_private_directory, in_memory_warning};
use crate::tasks::{self, TaskKind};
use blocked_sources::BlockedSourceWarnings;
use handle::RelayCommand;
use orphaned_sinks::OrphanWarnings;
use running::RunningRelay;

/// How long the spool may take to close its file.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the log says that the spool is still being opened.
const OPENING_REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// How often blocked sources and orphaned sinks are looked for, to warn of them.
const WARNING_INTERVAL: Duration = Duration::from_secs(1);

/// Why a relay could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error(transparent)]
    Sink(#[from] OpenError),
    #[error("the thread that writes the journal can't be started: {0}")]
    Journal(std::io::Error),
    /// Nothing more may be done with the spool: another relay may have it.
    #[error("the lease of the spool has ended: the database did not answer in time, or this process was suspended")]
    LeaseLost,
    /// A thread or a task panicked, which is a bug. No message was acknowledged that is not delivered or stored.
    #[error(
        "a part of the relay ({0:?}) panicked, so the relay ends; the log names the place in the source: please report it, and start the relay again"
    )]
    Dead(TaskKind),
    /// A task panicked or was aborted, which is a bug. No message was acknowledged that is not delivered or stored.
    #[error("a task of the relay failed, so the relay ends; please report it, and start the relay again ({0})")]
    Broken(#[from] tokio::task::JoinError),
}

/// A relay that is configured and not started.
pub struct Relay {
    config: Config,
    handle: Handle,
    commands: mpsc::UnboundedReceiver<RelayCommand>,
}

impl Relay {
    #[must_use]
    pub fn new(config: Config) -> Self {
        let (handle, commands) = Handle::new(Stats::new(&config));
        Self { config, handle, commands }
    }

    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs until `stop`, or until every source has ended, as recordings do. It then takes no more messages, gives the in-flight
    /// deliveries the configured grace period, and acknowledges every settled message.
    pub async fn run(self, stop: CancellationToken) -> Result<(), RelayError> {
        tokio::select! {
            // A panic also ends the relay's own wait for that task, which knows less of it.
            biased;
            dead = tasks::first_panic() => Err(RelayError::Dead(dead)),
            ended = self.run_to_end(stop) => match (ended, tasks::first_panic().now_or_never()) {
                // The task panicked just after the first line had looked.
                (Err(RelayError::Broken(_)), Some(dead)) => Err(RelayError::Dead(dead)),
                (ended, _) => ended,
            },
        }
    }

    async fn run_to_end(self, stop: CancellationToken) -> Result<(), RelayError> {
        let Self { config, handle, commands } = self;
        let stats = handle.stats();
        // The journal, the control socket and file sinks are there, also where the spool is elsewhere.
        if let Err(error) = create_private_directory(&config.data_dir) {
            tracing::warn!(%error, file = %config.data_dir.display(), "the data directory can't be created");
        }
        if config.shards().len() > 1 {
            return shards::run(config, handle, commands, stop).await;
        }
        let has_warned = Cell::new(false);
        let opening = Spool::open_when_free(&config.spool, &config.dead_letters, stats.instances(), |held| {
            if !has_warned.replace(true) {
                tracing::warn!(error = %held, "the spool can't be used yet; the relay waits until it can");
            }
            if held.is_standby() {
                stats.set_standby(held.to_string());
            } else {
                stats.set_start_blocker(held.to_string());
            }
        });
        let spool_file = config.spool.store.file();
        let opening = report_while_running(opening, OPENING_REPORT_INTERVAL, |seconds| {
            let Some(file) = spool_file.filter(|_| !has_warned.get()) else { return };
            let bytes = std::fs::metadata(file).map_or(0, |file| file.len());
            tracing::info!(
                file = %file.display(),
                "still opening the spool after {seconds} s; after an unclean stop all of its {bytes} bytes are checked"
            );
        });
        let spool = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            opened = opening => Arc::new(opened?),
        };
        if let Some(warning) = config.spool.store.file().and_then(in_memory_warning) {
            tracing::warn!("{warning}");
        }
        let journal = Journal::start(config.journal.as_ref()).map_err(RelayError::Journal)?;
        spool.record_dead_letters(journal.clone());
        stats.add_spool(Arc::clone(&spool));
        stats.set_journal(journal.clone());
        tokio::select! {
            biased;
            () = spool.lease_ended() => return Err(RelayError::LeaseLost),
            ended = relay(config, &spool, journal.clone(), &handle, commands, stop) => ended?,
        }
        stats.instances().set_leaving();
        // Every delivery is settled by now, or its grace period is over.
        spool.close(CLOSE_TIMEOUT).await;
        journal.close(CLOSE_TIMEOUT).await;
        Ok(())
    }
}

/// Runs with an open spool. A start and a reload wait for the disk, which may fail for any length of time: `stop` ends both.
async fn relay(
    config: Config,
    spool: &Arc<Spool>,
    journal: Journal,
    handle: &Handle,
    mut commands: mpsc::UnboundedReceiver<RelayCommand>,
    stop: CancellationToken,
) -> Result<(), RelayError> {
    let starting = RunningRelay::start(config, Arc::clone(spool), journal, handle, stop.clone());
    // The sources start last, and the dispatchers right before: until then the relay has received no message, and attempted no delivery.
    let Some(started) = stop.run_until_cancelled(starting).await else { return Ok(()) };
    let mut running = started?;
    handle.set_config(running.config());
    let mut blocked_sources = BlockedSourceWarnings::default();
    let mut orphans = OrphanWarnings::default();
    let mut check = tokio::time::interval(WARNING_INTERVAL);
    check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while running.is_running() {
        tokio::select! {
            _ = check.tick() => if handle.stats().is_first(spool) {
                blocked_sources.update(handle.stats());
                orphans.update(handle.stats(), |sink| running.is_stopping(sink));
            },
            ended = running.join_next() => ended?,
            Some(command) = commands.recv() => {
                // A stop also ends the command; its sender then gets the error that the relay stops.
                if stop.run_until_cancelled(running.on_command(command)).await.is_some() {
                    handle.set_config(running.config());
                }
            }
        }
    }
    Ok(())
}

/// Awaits `work`, and meanwhile calls `report` at intervals with the seconds since it began.
async fn report_while_running<T>(work: impl Future<Output = T>, every: Duration, mut report: impl FnMut(u64)) -> T {
    let begun = tokio::time::Instant::now();
    let mut ticks = tokio::time::interval_at(begun + every, every);
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = ticks.tick() => report(begun.elapsed().as_secs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn long_work_is_reported_repeatedly() {
        let (reporter, mut reports) = mpsc::unbounded_channel();
        let until_the_third = async {
            for _ in 0..3 {
                reports.recv().await.expect("a report");
            }
        };
        report_while_running(until_the_third, Duration::from_millis(1), |_| reporter.send(()).unwrap()).await;
        report_while_running(async {}, OPENING_REPORT_INTERVAL, |_| {
            panic!("work that is done at once is not reported")
        })
        .await;
    }
}
