//! The running parts of a relay: sources, dispatchers, and the router between them.
//!
//! A start and a reload use the same code: they start, replace and end the parts that differ from the previous configuration, and leave
//! the others alone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::alerts::Alerts;
use super::handle::{Handle, RelayCommand, SetPaused};
use super::router::{Router, RoutingTable};
use super::{RelayError, Stats, StatsSnapshot};
use crate::amqp::Connector;
use crate::config::{Config, SinkConfig, SourceConfig, SourceKind, unknown_name};
use crate::delivery::{Dispatcher, DispatcherHandle, PersistedState, Settings, SinkCommand, SinkStats};
use crate::event::SourceName;
use crate::journal::Journal;
use crate::rules::SinkName;
use crate::sink::{OpenError, Sink};
use crate::source::{AmqpSource, Intake, RecordingSource, SourceSignals, SourceStats};
use crate::spool::{Component, Spool};
use crate::tasks::{self, TaskKind};

/// How long sources have after the grace period to acknowledge the messages that were settled last.
const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a task that was told to end is checked.
const JOIN_POLL_INTERVAL: Duration = Duration::from_millis(20);

pub(super) struct RunningRelay {
    config: Arc<Config>,
    spool: Arc<Spool>,
    journal: Journal,
    stats: Arc<Stats>,
    stop: CancellationToken,
    router: Arc<Router>,
    alerts: Arc<Alerts>,
    dispatcher_tasks: JoinSet<()>,
    source_tasks: JoinSet<()>,
    sinks: HashMap<SinkName, RunningSink>,
    /// The dispatchers of sinks that a reload removed, while they finish their in-flight deliveries.
    retired: HashMap<SinkName, AbortHandle>,
    sources: HashMap<SourceName, RunningSource>,
}

struct RunningSink {
    dispatcher: DispatcherHandle,
    stop: CancellationToken,
    task: AbortHandle,
}

struct RunningSource {
    stop: CancellationToken,
    paused: watch::Sender<bool>,
    task: AbortHandle,
}

impl RunningRelay {
    pub(super) async fn start(
        config: Config,
        spool: Arc<Spool>,
        journal: Journal,
        handle: &Handle,
        stop: CancellationToken,
    ) -> Result<Self, RelayError> {
        let stats = Arc::clone(handle.stats());
        let captures = Arc::clone(handle.captures());
        let config = Arc::new(config);
        let alerts = Arc::new(Alerts::new(&config, Arc::clone(&spool), journal.clone(), Arc::clone(&stats)));
        let router =
            Router::new(Arc::clone(&spool), journal.clone(), Arc::clone(&alerts), Arc::clone(&stats), captures);
        let router = Arc::new(router);
        let mut running = Self {
            config: Arc::clone(&config),
            spool,
            journal,
            stats,
            stop,
            router,
            alerts,
            dispatcher_tasks: JoinSet::new(),
            source_tasks: JoinSet::new(),
            sinks: HashMap::new(),
            retired: HashMap::new(),
            sources: HashMap::new(),
        };
        let opened = open(&config, None).await?;
        let snapshot = running.stats.snapshot();
        running.update_sinks(&config, opened, &snapshot).await;
        running.update_router(&config, &snapshot);
        let alerts = Arc::clone(&running.alerts).run(running.stop.clone());
        tasks::spawn(TaskKind::Alerts, alerts);
        for source in running.own_sources(&config) {
            running.start_source(&config, source, &snapshot);
        }
        Ok(running)
    }

    pub(super) fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Whether a sink that a reload removed still finishes its in-flight deliveries.
    pub(super) fn is_stopping(&self, sink: &SinkName) -> bool {
        self.retired.get(sink).is_some_and(|task| !task.is_finished())
    }

    pub(super) fn is_running(&self) -> bool {
        !self.source_tasks.is_empty() || !self.dispatcher_tasks.is_empty()
    }

    /// Waits until a task ends. The error of any task ends the relay.
    pub(super) async fn join_next(&mut self) -> Result<(), JoinError> {
        let ended = tokio::select! {
            Some(ended) = self.source_tasks.join_next() => ended,
            Some(ended) = self.dispatcher_tasks.join_next() => ended,
            () = self.stop.cancelled(), if self.source_tasks.is_empty() && !self.sinks.is_empty() => Ok(()),
            else => Ok(()),
        };
        // A shard that never had a source goes on until it is stopped.
        let has_sources = !self.own_sources(&self.config).is_empty();
        if self.source_tasks.is_empty() && (has_sources || self.stop.is_cancelled()) {
            // No message comes in any more: each dispatcher ends once its deliveries are settled.
            self.router.swap(None);
            self.sinks.clear();
        }
        ended
    }

    pub(super) async fn on_command(&mut self, command: RelayCommand) {
        let (result, to) = match command {
            RelayCommand::SetPaused(SetPaused { subject, paused, .. }, to) => (self.set_paused(&subject, paused), to),
            RelayCommand::Reload(config, to) => (self.reload(*config).await, to),
        };
        // The sender may have stopped waiting.
        let _ = to.send(result);
    }

    fn set_paused(&self, subject: &Component, pause: bool) -> Result<(), String> {
        match subject {
            Component::Sink(name) => {
                let sink = self.sinks.get(&SinkName::new(name)).ok_or_else(|| {
                    let known = self.config.sinks.iter().map(|sink| sink.name.as_str());
                    unknown("sink", name, known)
                })?;
                let command = if pause { SinkCommand::Pause } else { SinkCommand::Resume };
                sink.dispatcher.commands.send(command).map_err(|_| "the relay stops".to_owned())
            }
            Component::Source(name) => {
                let source = self.sources.get(&SourceName::new(name)).ok_or_else(|| {
                    let known = self.config.sources.iter().map(|source| source.name.as_str());
                    unknown("source", name, known)
                })?;
                source.paused.send_replace(pause);
                let state = if pause { PersistedState::default().paused() } else { PersistedState::default() };
                self.spool.save_state(subject.clone(), state.to_json());
                Ok(())
            }
        }
    }

    /// Applies the configuration. If a sink can't be opened, nothing changes.
    async fn reload(&mut self, mut config: Config) -> Result<(), String> {
        let has_ended = self.source_tasks.is_empty() && !self.own_sources(&self.config).is_empty();
        if has_ended || self.stop.is_cancelled() {
            return Err("the relay stops".to_owned());
        }
        keep_restart_only_settings(&self.config, &mut config);
        let config = Arc::new(config);
        let opened = open(&config, Some(&self.config)).await.map_err(|error| error.to_string())?;
        let snapshot = self.stats.configure(&config);
        self.update_sinks(&config, opened, &snapshot).await;
        self.update_router(&config, &snapshot);
        let removed: Vec<_> = self.sinks.keys().filter(|name| !is_configured(&config, name)).cloned().collect();
        for name in removed {
            if let Some(sink) = self.sinks.remove(&name) {
                sink.stop.cancel();
                self.retired.insert(name, sink.task);
            }
        }
        self.update_sources(&config, &snapshot).await;
        self.config = config;
        Ok(())
    }

    /// Starts the dispatchers of new sinks, and sends the others their settings.
    ///
    /// Dispatchers begin with attempts of their backlog at once. They start together at the end, without a further wait, so that a stop
    /// which cancels this cancels no attempt.
    async fn update_sinks(&mut self, config: &Config, opened: Vec<Option<Sink>>, snapshot: &StatsSnapshot) {
        let mut ready = Vec::new();
        for ((sink, opened), stats) in config.sinks.iter().zip(opened).zip(&snapshot.sinks) {
            let settings = Settings::of(sink, config);
            if let Some(known) = self.sinks.get(&sink.name) {
                if opened.is_some() {
                    tracing::info!(sink = %sink.name, "sink reopened: its configuration or a file that it names has changed");
                }
                // A dispatcher that has ended had nothing left to deliver.
                let _ = known.dispatcher.commands.send(SinkCommand::Reload(Box::new(settings), opened.map(Box::new)));
            } else if let Some(opened) = opened {
                ready.extend(self.prepare_sink(settings, opened, stats).await);
            }
        }
        for (name, dispatcher, handle) in ready {
            self.start_sink(name, dispatcher, handle);
        }
    }

    /// None: the spool is closed, so the relay is stopping.
    async fn prepare_sink(
        &mut self,
        settings: Settings,
        sink: Sink,
        stats: &Arc<SinkStats>,
    ) -> Option<(SinkName, Dispatcher, DispatcherHandle)> {
        let name = settings.name.clone();
        // Two dispatchers of one sink would not know each other's in-flight deliveries.
        if let Some(before) = self.retired.remove(&name) {
            wait_for(&before).await;
        }
        let (spool, journal) = (Arc::clone(&self.spool), self.journal.clone());
        let preparing = Box::pin(Dispatcher::new(settings, sink, spool, journal, Arc::clone(stats)));
        let (dispatcher, handle) = preparing.await?;
        Some((name, dispatcher, handle))
    }

    fn start_sink(&mut self, name: SinkName, dispatcher: Dispatcher, handle: DispatcherHandle) {
        let stop = self.stop.child_token();
        let run = dispatcher.run(stop.clone(), self.config.delivery.shutdown_grace);
        let task = self.dispatcher_tasks.spawn(tasks::supervise(TaskKind::Dispatcher, run));
        self.sinks.insert(name, RunningSink { dispatcher: handle, stop, task });
    }

    /// Makes the router route by `config`.
    fn update_router(&self, config: &Config, snapshot: &Arc<StatsSnapshot>) {
        let dispatcher = |sink: &SinkConfig| self.sinks.get(&sink.name).map(|sink| sink.dispatcher.clone());
        let Some(dispatchers) = config.sinks.iter().map(dispatcher).collect() else { return };
        self.router.swap(Some(RoutingTable::new(config, dispatchers, Arc::clone(snapshot))));
        self.alerts.swap(config);
        self.spool.copy_dead_letters_to(config.dead_letters.to.clone());
    }

    /// Ends the sources that were removed or have changed, and starts those that are new or have changed.
    async fn update_sources(&mut self, config: &Config, snapshot: &StatsSnapshot) {
        let is_same = |source: &SourceConfig| {
            let before = self.config.sources.iter().find(|before| before.name == source.name);
            let bound = |config: &Config| config.delivery.max_in_flight_bytes;
            let known = before.filter(|before| before.kind == source.kind && before.files == source.files);
            // The counters of a source depend on the families that it expects.
            known.is_some_and(|before| before.decode_options.expects == source.decode_options.expects)
                && bound(config) == bound(&self.config)
        };
        let (same, others): (Vec<_>, Vec<_>) = self.own_sources(config).into_iter().partition(|source| is_same(source));
        let retired: Vec<_> = self
            .sources
            .extract_if(|name, _| same.iter().all(|source| source.name != *name))
            .map(|(_, source)| source)
            .collect();
        // Each source finishes its messages, which takes up to the grace period, so all of them stop at the same time.
        for source in &retired {
            source.stop.cancel();
        }
        for source in &retired {
            wait_for(&source.task).await;
        }
        for source in others {
            self.start_source(config, source, snapshot);
        }
    }

    /// The sources of this shard.
    fn own_sources<'a>(&self, config: &'a Config) -> Vec<&'a SourceConfig> {
        config.sources.iter().filter(|source| source.shard() == self.spool.shard()).collect()
    }

    fn start_source(&mut self, config: &Config, source: &SourceConfig, snapshot: &StatsSnapshot) {
        let Some(stats) = snapshot.source(&source.name) else { return };
        let state = self.spool.saved_state(&Component::Source(source.name.to_string()));
        let paused = watch::Sender::new(PersistedState::parse(state.as_deref()).pause.is_some());
        let stop = self.stop.child_token();
        let task = self.spawn_source(config, source, Arc::clone(stats), paused.subscribe(), stop.clone());
        self.sources.insert(source.name.clone(), RunningSource { stop, paused, task });
    }

    fn spawn_source(
        &mut self,
        config: &Config,
        source: &SourceConfig,
        stats: Arc<SourceStats>,
        paused: watch::Receiver<bool>,
        stop: CancellationToken,
    ) -> AbortHandle {
        let grace = self.config.delivery.shutdown_grace + ACKNOWLEDGE_TIMEOUT;
        let intake = Arc::clone(&self.router) as Arc<dyn Intake>;
        match &source.kind {
            SourceKind::Amqp(amqp) => {
                let source = AmqpSource {
                    name: source.name.clone(),
                    config: (**amqp).clone(),
                    connector: Connector::new(&amqp.connection, &config.name),
                    max_in_flight_bytes: config.delivery.max_in_flight_bytes,
                    intake,
                    stats,
                    paused,
                };
                self.source_tasks.spawn(tasks::supervise(TaskKind::Source, source.run(stop, grace)))
            }
            SourceKind::Recording(recording) => {
                let source = RecordingSource {
                    name: source.name.clone(),
                    config: recording.clone(),
                    intake,
                    stats,
                    signals: Arc::new(SourceSignals::with_stop(stop.clone())),
                    paused,
                };
                self.source_tasks.spawn(tasks::supervise(TaskKind::Source, source.run(stop, grace)))
            }
        }
    }
}

/// Restores the settings that a running relay can't change, and warns of those that differ.
pub(super) fn keep_restart_only_settings(now: &Config, config: &mut Config) {
    let changed = [
        ("name", config.name != now.name),
        ("spool", config.spool != now.spool),
        ("journal", config.journal != now.journal),
        ("dead_letters.keep", config.dead_letters.keep != now.dead_letters.keep),
        ("dead_letters.max_size", config.dead_letters.max_size != now.dead_letters.max_size),
        ("admin", config.admin != now.admin),
        ("delivery.shutdown_grace", config.delivery.shutdown_grace != now.delivery.shutdown_grace),
    ];
    config.name.clone_from(&now.name);
    config.spool = now.spool.clone();
    config.journal.clone_from(&now.journal);
    config.dead_letters.keep = now.dead_letters.keep;
    config.dead_letters.max_size = now.dead_letters.max_size;
    config.admin = now.admin.clone();
    config.delivery.shutdown_grace = now.delivery.shutdown_grace;
    for (key, _) in changed.into_iter().filter(|(_, changed)| *changed) {
        tracing::warn!("`{key}` has changed; the relay keeps the old value until it is restarted");
    }
}

/// Opens the sinks that are new or have changed. None: the sink is unchanged.
async fn open(config: &Config, before: Option<&Config>) -> Result<Vec<Option<Sink>>, OpenError> {
    let mut opened = Vec::with_capacity(config.sinks.len());
    for sink in &config.sinks {
        let is_same = before.is_some_and(|before| before.sinks.contains(sink));
        opened.push(if is_same { None } else { Some(Sink::open(sink, &config.name).await?) });
    }
    Ok(opened)
}

async fn wait_for(task: &AbortHandle) {
    while !task.is_finished() {
        tokio::time::sleep(JOIN_POLL_INTERVAL).await;
    }
}

fn is_configured(config: &Config, name: &SinkName) -> bool {
    config.sinks.iter().any(|sink| sink.name == *name)
}

/// The error if no sink or source of that name can be paused: it is unknown, or has ended already.
fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<_> = known.collect();
    if known.contains(&name) {
        return format!(
            "{what} {name} can't be paused or resumed now: every source has ended, and the relay stops once all deliveries are settled"
        );
    }
    unknown_name(what, name, &known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ended_sink_has_another_error_than_an_unknown_one() {
        assert_eq!(unknown("sink", "b", ["a", "c"].into_iter()), "there is no sink b; there are a, c");
        let ended = unknown("sink", "on_call", ["on_call"].into_iter());
        assert!(ended.starts_with("sink on_call can't be paused or resumed now"), "{ended}");
    }
}
