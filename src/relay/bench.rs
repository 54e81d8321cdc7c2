//! The router and the dispatchers without any input or output, for `make cost`: what the relay itself does for each message.
//!
//! It is here and not in `benches/` because a benchmark is a crate of its own: it can't use the router, which is private to this module,
//! nor add a kind to the closed enum [`Sink`].

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::alerts::Alerts;
use super::router::{Router, RoutingTable};
use super::{CLOSE_TIMEOUT, RelayError, Stats};
use crate::config::Config;
use crate::delivery::{Dispatcher, Settings};
use crate::event::Message;
use crate::journal::Journal;
use crate::sink::Sink;
use crate::source::{Intake, Receipt};
use crate::spool::Spool;

/// A relay without sources, whose sinks confirm each event at once.
pub struct BenchRelay {
    router: Router,
    journal: Journal,
    _dispatchers: JoinSet<()>,
}

impl BenchRelay {
    pub async fn start(config: &Config) -> Result<Self, RelayError> {
        let spool = Arc::new(Spool::open(&config.spool, &config.dead_letters)?);
        let journal = Journal::start(config.journal.as_ref()).map_err(RelayError::Journal)?;
        let stats = Stats::new(config);
        let snapshot = stats.snapshot();
        let (mut dispatchers, mut handles) = (JoinSet::new(), Vec::new());
        for (sink, stats) in config.sinks.iter().zip(&snapshot.sinks) {
            let (settings, sink) = (Settings::of(sink, config), Sink::null(sink));
            if let Some((dispatcher, handle)) =
                Dispatcher::new(settings, sink, Arc::clone(&spool), journal.clone(), Arc::clone(stats)).await
            {
                dispatchers.spawn(dispatcher.run(CancellationToken::new(), Duration::ZERO));
                handles.push(handle);
            }
        }
        let alerts = Alerts::new(config, Arc::clone(&spool), journal.clone(), Arc::clone(&stats));
        let router = Router::new(spool, journal.clone(), Arc::new(alerts), stats, Arc::default());
        router.swap(Some(RoutingTable::new(config, handles, snapshot)));
        Ok(Self { router, journal, _dispatchers: dispatchers })
    }

    /// Writes what is left to the journal.
    pub async fn close(self) {
        self.journal.close(CLOSE_TIMEOUT).await;
    }

    /// Takes a message as from a source.
    pub fn accept(&self, message: Message, receipt: Receipt) {
        self.router.accept(message, receipt);
    }
}
