//! The way of a message with nothing at either end: what benchmarks measure of the relay alone.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::router::{Router, Routing};
use crate::config::Config;
use crate::delivery::{Dispatcher, Settings, Stats};
use crate::event::Message;
use crate::sink::Sink;
use crate::source::{Intake, Receipt};
use crate::spool::{Spool, SpoolError};

/// The router and the dispatchers of a configuration, without its sources, and with sinks that have at once what they are given.
pub struct Bare {
    router: Router,
    _dispatchers: JoinSet<()>,
}

impl Bare {
    /// Starts it.
    pub async fn start(config: &Config) -> Result<Self, SpoolError> {
        let spool = Arc::new(Spool::open(&config.spool, &config.dead_letters)?);
        let stats = Stats::new(config);
        let counted = stats.now();
        let (mut dispatchers, mut inlets) = (JoinSet::new(), Vec::new());
        for (sink, stats) in config.sinks.iter().zip(&counted.sinks) {
            let (settings, sink) = (Settings::of(sink, config), Sink::null(sink));
            if let Some((dispatcher, inlet)) =
                Dispatcher::new(settings, sink, Arc::clone(&spool), Arc::clone(stats)).await
            {
                dispatchers.spawn(dispatcher.run(CancellationToken::new(), Duration::ZERO));
                inlets.push(inlet);
            }
        }
        let router = Router::new(spool, stats, Arc::default());
        router.swap(Some(Routing::new(config, inlets, counted)));
        Ok(Self { router, _dispatchers: dispatchers })
    }

    /// As a source gives it.
    pub fn accept(&self, message: Message, receipt: Receipt) {
        self.router.accept(message, receipt);
    }
}
