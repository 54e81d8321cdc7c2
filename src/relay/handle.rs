//! The interface of a running relay, for the control socket and the owner of the relay: its commands and its state.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio::sync::{mpsc, oneshot};

use super::Stats;
use super::captures::{CapturedMessage, Captures};
use super::jobs::Jobs;
use crate::config::{Config, unknown_name};
use crate::spool::Component;

/// A running relay as other tasks see it. Errors are sentences for people.
#[derive(Debug, Clone)]
pub struct Handle {
    stats: Arc<Stats>,
    commands: mpsc::UnboundedSender<RelayCommand>,
    config: Arc<ArcSwapOption<Config>>,
    captures: Arc<Captures>,
    jobs: Arc<Jobs>,
    started_at: Instant,
}

/// A command, and where its result goes.
#[derive(Debug)]
pub(super) enum RelayCommand {
    SetPaused(SetPaused, oneshot::Sender<Result<(), String>>),
    Reload(Box<Config>, oneshot::Sender<Result<(), String>>),
}

#[derive(Debug, Clone)]
pub(super) struct SetPaused {
    pub(super) subject: Component,
    /// In the shard with this name; none: in all that this relay has.
    pub(super) shard: Option<String>,
    pub(super) paused: bool,
}

impl Handle {
    pub(super) fn new(stats: Arc<Stats>) -> (Self, mpsc::UnboundedReceiver<RelayCommand>) {
        let (commands, receiver) = mpsc::unbounded_channel();
        let handle = Self {
            stats,
            commands,
            config: Arc::default(),
            captures: Arc::default(),
            jobs: Arc::default(),
            started_at: Instant::now(),
        };
        (handle, receiver)
    }

    #[must_use]
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.started_at.elapsed()
    }

    /// The current configuration. None: the relay is still starting.
    #[must_use]
    pub fn config(&self) -> Option<Arc<Config>> {
        self.config.load_full()
    }

    pub(crate) fn set_config(&self, config: &Arc<Config>) {
        self.config.store(Some(Arc::clone(config)));
    }

    /// Messages of that source as they come in. A slow reader misses some.
    pub fn capture(&self, source: &str) -> Result<mpsc::Receiver<CapturedMessage>, String> {
        let config = self.config().ok_or_else(|| "the relay is starting: try again in a moment".to_owned())?;
        let known = config.sources.iter().find(|known| known.name.as_str() == source).ok_or_else(|| {
            let known: Vec<_> = config.sources.iter().map(|source| source.name.as_str()).collect();
            unknown_name("source", source, &known)
        })?;
        Ok(self.captures.open(known.name.clone()))
    }

    /// The redrives and purges that are running.
    #[must_use]
    pub fn jobs(&self) -> &Arc<Jobs> {
        &self.jobs
    }

    pub(super) fn captures(&self) -> &Arc<Captures> {
        &self.captures
    }

    /// Pauses a sink or a source until it is resumed: in the shard with that name, or in all that this relay has.
    pub async fn pause(&self, subject: Component, shard: Option<String>) -> Result<(), String> {
        self.send(|done| RelayCommand::SetPaused(SetPaused { subject, shard, paused: true }, done)).await
    }

    pub async fn resume(&self, subject: Component, shard: Option<String>) -> Result<(), String> {
        self.send(|done| RelayCommand::SetPaused(SetPaused { subject, shard, paused: false }, done)).await
    }

    /// Applies another configuration. On an error everything stays as it is.
    pub async fn reload(&self, config: Config) -> Result<(), String> {
        self.send(|done| RelayCommand::Reload(Box::new(config), done)).await
    }

    async fn send(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<(), String>>) -> RelayCommand,
    ) -> Result<(), String> {
        let (done, result) = oneshot::channel();
        // A relay that has stopped drops the command, and with it `done`.
        let _ = self.commands.send(command(done));
        result.await.unwrap_or_else(|_| Err("the relay stops".to_owned()))
    }
}
