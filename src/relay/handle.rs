//! What can be asked of a relay, by the control socket and by who runs it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio::sync::{mpsc, oneshot};

use super::jobs::Jobs;
use super::taps::{TappedMessage, Taps};
use crate::config::{Config, unknown_name};
use crate::delivery::Stats;
use crate::spool::Subject;

/// A relay, for who asks something of it. What can't be done is a sentence.
#[derive(Debug, Clone)]
pub struct Handle {
    stats: Arc<Stats>,
    asks: mpsc::UnboundedSender<Ask>,
    config: Arc<ArcSwapOption<Config>>,
    taps: Arc<Taps>,
    jobs: Arc<Jobs>,
    since: Instant,
}

/// One question, and where its answer goes.
#[derive(Debug)]
pub(super) enum Ask {
    Pause(Subject, oneshot::Sender<Result<(), String>>),
    Resume(Subject, oneshot::Sender<Result<(), String>>),
    Reload(Box<Config>, oneshot::Sender<Result<(), String>>),
}

impl Handle {
    pub(super) fn new(stats: Arc<Stats>) -> (Self, mpsc::UnboundedReceiver<Ask>) {
        let (asks, asked) = mpsc::unbounded_channel();
        (
            Self {
                stats,
                asks,
                config: Arc::default(),
                taps: Arc::default(),
                jobs: Arc::default(),
                since: Instant::now(),
            },
            asked,
        )
    }

    /// What it counts.
    #[must_use]
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// For how long there has been this relay.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.since.elapsed()
    }

    /// The configuration in force, once it runs.
    #[must_use]
    pub fn config(&self) -> Option<Arc<Config>> {
        self.config.load_full()
    }

    pub(crate) fn set_config(&self, config: &Arc<Config>) {
        self.config.store(Some(Arc::clone(config)));
    }

    /// Messages of that source as they come in; what is too fast for who looks on is left out.
    pub fn look_on(&self, source: &str) -> Result<mpsc::Receiver<TappedMessage>, String> {
        let config = self.config().ok_or_else(|| "the relay is starting: ask again in a moment".to_owned())?;
        let known = config.sources.iter().find(|known| known.name.as_str() == source).ok_or_else(|| {
            let known: Vec<_> = config.sources.iter().map(|source| source.name.as_str()).collect();
            unknown_name("source", source, &known)
        })?;
        Ok(self.taps.open(known.name.clone()))
    }

    /// Redrives and purges that are under way.
    #[must_use]
    pub fn jobs(&self) -> &Arc<Jobs> {
        &self.jobs
    }

    pub(super) fn taps(&self) -> &Arc<Taps> {
        &self.taps
    }

    /// Sends nothing more to a sink, or takes nothing more from a source, until it is resumed.
    pub async fn pause(&self, of: Subject) -> Result<(), String> {
        self.ask(|done| Ask::Pause(of, done)).await
    }

    /// Ends a pause.
    pub async fn resume(&self, of: Subject) -> Result<(), String> {
        self.ask(|done| Ask::Resume(of, done)).await
    }

    /// Puts another configuration in force, or leaves everything as it is.
    pub async fn reload(&self, config: Config) -> Result<(), String> {
        self.ask(|done| Ask::Reload(Box::new(config), done)).await
    }

    async fn ask(&self, ask: impl FnOnce(oneshot::Sender<Result<(), String>>) -> Ask) -> Result<(), String> {
        let (done, answer) = oneshot::channel();
        // Dropped with the relay, which is then heard of below.
        let _ = self.asks.send(ask(done));
        answer.await.unwrap_or_else(|_| Err("the relay stops".to_owned()))
    }
}
