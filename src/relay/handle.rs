//! What can be asked of a relay, by the control socket and by who runs it.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tokio::sync::{mpsc, oneshot};

use crate::config::Config;
use crate::delivery::Stats;
use crate::spool::Subject;

/// A relay, for who asks something of it. What can't be done is a sentence.
#[derive(Debug, Clone)]
pub struct Handle {
    stats: Arc<Stats>,
    asks: mpsc::UnboundedSender<Ask>,
    config: Arc<ArcSwapOption<Config>>,
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
        (Self { stats, asks, config: Arc::default() }, asked)
    }

    /// What it counts.
    #[must_use]
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// The configuration in force, once it runs.
    #[must_use]
    pub fn config(&self) -> Option<Arc<Config>> {
        self.config.load_full()
    }

    pub(super) fn set_config(&self, config: &Arc<Config>) {
        self.config.store(Some(Arc::clone(config)));
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
