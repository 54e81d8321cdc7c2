//! What runs for the configuration in force: dispatchers, sources, and the router between them.
//!
//! A start is a change from nothing, and a reload one from what runs: what is the same goes on untouched.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::RelayError;
use super::handle::{Ask, Handle};
use super::router::{Router, Routing};
use crate::config::{Config, SinkConfig, SourceConfig, SourceKind, unknown_name};
use crate::delivery::{Counted, Dispatcher, Inlet, Order, Settings, SinkStats, State, Stats};
use crate::event::SourceName;
use crate::rules::SinkName;
use crate::sink::{OpenError, Sink};
use crate::source::{AmqpSource, Intake, RecordingSource, SourceSignals, SourceStats};
use crate::spool::{Spool, Subject};
use crate::tasks::{self, TaskKind};

/// What sources get beyond the grace to acknowledge what the sinks settled last.
const ACKNOWLEDGING: Duration = Duration::from_secs(5);
/// How often it is looked whether a task that was told to end has.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Everything that runs.
pub(super) struct Running {
    config: Arc<Config>,
    spool: Arc<Spool>,
    stats: Arc<Stats>,
    stop: CancellationToken,
    router: Arc<Router>,
    dispatchers: JoinSet<()>,
    sources: JoinSet<()>,
    sinks: HashMap<SinkName, RunningSink>,
    /// Those that the configuration no longer names, while they finish what is under way.
    ending: HashMap<SinkName, AbortHandle>,
    intakes: HashMap<SourceName, RunningSource>,
}

struct RunningSink {
    inlet: Inlet,
    stop: CancellationToken,
    task: AbortHandle,
}

struct RunningSource {
    stop: CancellationToken,
    paused: watch::Sender<bool>,
    task: AbortHandle,
}

impl Running {
    pub(super) async fn start(
        config: Config,
        spool: Arc<Spool>,
        handle: &Handle,
        stop: CancellationToken,
    ) -> Result<Self, RelayError> {
        let stats = Arc::clone(handle.stats());
        let router = Arc::new(Router::new(Arc::clone(&spool), Arc::clone(&stats), Arc::clone(handle.taps())));
        let config = Arc::new(config);
        let mut running = Self {
            config: Arc::clone(&config),
            spool,
            stats,
            stop,
            router,
            dispatchers: JoinSet::new(),
            sources: JoinSet::new(),
            sinks: HashMap::new(),
            ending: HashMap::new(),
            intakes: HashMap::new(),
        };
        let opened = open(&config, None).await?;
        let counted = running.stats.now();
        running.set_sinks(&config, opened, &counted).await;
        running.route(&config, &counted);
        for source in &config.sources {
            running.start_source(&config, source, &counted);
        }
        Ok(running)
    }

    /// The configuration in force.
    pub(super) fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// A sink that the configuration no longer names finishes what it has in flight.
    pub(super) fn still_ends(&self, sink: &SinkName) -> bool {
        self.ending.get(sink).is_some_and(|task| !task.is_finished())
    }

    /// Something still runs.
    pub(super) fn goes_on(&self) -> bool {
        !self.sources.is_empty() || !self.dispatchers.is_empty()
    }

    /// A task has ended. One that failed ends everything, whichever it is.
    pub(super) async fn ended(&mut self) -> Result<(), JoinError> {
        let ended = tokio::select! {
            Some(ended) = self.sources.join_next() => ended,
            Some(ended) = self.dispatchers.join_next() => ended,
            else => Ok(()),
        };
        if self.sources.is_empty() {
            // Nothing more comes in: the dispatchers end when they are through.
            self.router.swap(None);
            self.sinks.clear();
        }
        ended
    }

    pub(super) async fn answer(&mut self, ask: Ask) {
        let (answer, to) = match ask {
            Ask::Pause(of, to) => (self.pause(&of, true), to),
            Ask::Resume(of, to) => (self.pause(&of, false), to),
            Ask::Reload(config, to) => (self.reload(*config).await, to),
        };
        // Who asked may have stopped waiting.
        let _ = to.send(answer);
    }

    fn pause(&self, of: &Subject, pause: bool) -> Result<(), String> {
        match of {
            Subject::Sink(name) => {
                let sink = self.sinks.get(&SinkName::new(name)).ok_or_else(|| {
                    let known = self.config.sinks.iter().map(|sink| sink.name.as_str());
                    unknown("sink", name, known)
                })?;
                let order = if pause { Order::Pause } else { Order::Resume };
                sink.inlet.orders.send(order).map_err(|_| "the relay stops".to_owned())
            }
            Subject::Source(name) => {
                let source = self.intakes.get(&SourceName::new(name)).ok_or_else(|| {
                    let known = self.config.sources.iter().map(|source| source.name.as_str());
                    unknown("source", name, known)
                })?;
                source.paused.send_replace(pause);
                let state = if pause { State::default().paused() } else { State::default() };
                self.spool.remember(of.clone(), state.to_json());
                Ok(())
            }
        }
    }

    /// All of it, or nothing where a sink can't be opened.
    async fn reload(&mut self, mut config: Config) -> Result<(), String> {
        if self.sources.is_empty() || self.stop.is_cancelled() {
            return Err("the relay stops".to_owned());
        }
        for key in self.keep_what_needs_a_restart(&mut config) {
            tracing::warn!("`{key}` has changed, which takes effect when the relay is started anew");
        }
        let config = Arc::new(config);
        let opened = open(&config, Some(&self.config)).await.map_err(|error| error.to_string())?;
        let counted = self.stats.configure(&config);
        self.set_sinks(&config, opened, &counted).await;
        self.route(&config, &counted);
        let gone: Vec<_> = self.sinks.keys().filter(|name| !names(&config, name)).cloned().collect();
        for name in gone {
            if let Some(sink) = self.sinks.remove(&name) {
                sink.stop.cancel();
                self.ending.insert(name, sink.task);
            }
        }
        self.set_sources(&config, &counted).await;
        self.config = config;
        Ok(())
    }

    /// Makes the new configuration keep what a running relay can't change; says what would have been new.
    fn keep_what_needs_a_restart(&self, config: &mut Config) -> Vec<&'static str> {
        let now = &self.config;
        let changed = [
            ("name", config.name != now.name),
            ("spool", config.spool != now.spool),
            ("dead_letters.keep", config.dead_letters.keep != now.dead_letters.keep),
            ("dead_letters.max_size", config.dead_letters.max_size != now.dead_letters.max_size),
            ("admin", config.admin != now.admin),
            ("delivery.shutdown_grace", config.delivery.shutdown_grace != now.delivery.shutdown_grace),
        ];
        config.name.clone_from(&now.name);
        config.spool = now.spool.clone();
        config.dead_letters.keep = now.dead_letters.keep;
        config.dead_letters.max_size = now.dead_letters.max_size;
        config.admin = now.admin.clone();
        config.delivery.shutdown_grace = now.delivery.shutdown_grace;
        changed.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key).collect()
    }

    /// Starts the dispatchers of new sinks, and tells the others what is new.
    async fn set_sinks(&mut self, config: &Config, opened: Vec<Option<Sink>>, counted: &Counted) {
        for ((sink, opened), stats) in config.sinks.iter().zip(opened).zip(&counted.sinks) {
            let settings = Settings::of(sink, config);
            if let Some(known) = self.sinks.get(&sink.name) {
                if opened.is_some() {
                    tracing::info!(sink = %sink.name, "reopened: its configuration or a file that it names has changed");
                }
                // A dispatcher that is gone had no messages left to deliver.
                let _ = known.inlet.orders.send(Order::Reload(Box::new(settings), opened.map(Box::new)));
            } else if let Some(opened) = opened {
                self.start_sink(settings, opened, stats).await;
            }
        }
    }

    async fn start_sink(&mut self, settings: Settings, sink: Sink, stats: &Arc<SinkStats>) {
        let name = settings.name.clone();
        // Two at once would not know what the other has under way.
        if let Some(before) = self.ending.remove(&name) {
            wait_for(&before).await;
        }
        let (spool, grace) = (Arc::clone(&self.spool), self.config.delivery.shutdown_grace);
        // None: the spool is closed, which only the end of the relay does.
        if let Some((dispatcher, inlet)) = Dispatcher::new(settings, sink, spool, Arc::clone(stats)).await {
            let stop = self.stop.child_token();
            let task =
                self.dispatchers.spawn(tasks::supervise(TaskKind::Dispatcher, dispatcher.run(stop.clone(), grace)));
            self.sinks.insert(name, RunningSink { inlet, stop, task });
        }
    }

    /// What comes in goes where `config` says.
    fn route(&self, config: &Config, counted: &Arc<Counted>) {
        let inlet = |sink: &SinkConfig| self.sinks.get(&sink.name).map(|sink| sink.inlet.clone());
        let Some(inlets) = config.sinks.iter().map(inlet).collect() else { return };
        self.router.swap(Some(Routing::new(config, inlets, Arc::clone(counted))));
        self.spool.copy_dead_letters_to(config.dead_letters.to.clone());
    }

    /// Ends the sources that are gone or have changed, and starts those that are new or have changed.
    async fn set_sources(&mut self, config: &Config, counted: &Counted) {
        let is_same = |source: &SourceConfig| {
            let before = self.config.sources.iter().find(|before| before.name == source.name);
            let bound = |config: &Config| config.delivery.max_in_flight_bytes;
            let known = before.filter(|before| before.kind == source.kind && before.files == source.files);
            // Its counters are those of the families that it expects.
            known.is_some_and(|before| before.decode_options.expects == source.decode_options.expects)
                && bound(config) == bound(&self.config)
        };
        let (same, others): (Vec<_>, Vec<_>) = config.sources.iter().partition(|source| is_same(source));
        let ending: Vec<_> = self
            .intakes
            .extract_if(|name, _| same.iter().all(|source| source.name != *name))
            .map(|(_, source)| source)
            .collect();
        // Each finishes what it has taken; one after the other would take as long as the slowest times their number.
        for source in &ending {
            source.stop.cancel();
        }
        for source in &ending {
            wait_for(&source.task).await;
        }
        for source in others {
            self.start_source(config, source, counted);
        }
    }

    fn start_source(&mut self, config: &Config, source: &SourceConfig, counted: &Counted) {
        let Some(stats) = counted.source(&source.name) else { return };
        let saved = self.spool.remembered(&Subject::Source(source.name.to_string()));
        let paused = watch::Sender::new(State::parse(saved.as_deref()).pause.is_some());
        let stop = self.stop.child_token();
        let task = self.spawn_source(config, source, Arc::clone(stats), paused.subscribe(), stop.clone());
        self.intakes.insert(source.name.clone(), RunningSource { stop, paused, task });
    }

    fn spawn_source(
        &mut self,
        config: &Config,
        source: &SourceConfig,
        stats: Arc<SourceStats>,
        paused: watch::Receiver<bool>,
        stop: CancellationToken,
    ) -> AbortHandle {
        let grace = self.config.delivery.shutdown_grace + ACKNOWLEDGING;
        let intake = Arc::clone(&self.router) as Arc<dyn Intake>;
        match &source.kind {
            SourceKind::Amqp(amqp) => {
                let source = AmqpSource {
                    name: source.name.clone(),
                    config: (**amqp).clone(),
                    relay: config.name.clone(),
                    max_in_flight_bytes: config.delivery.max_in_flight_bytes,
                    intake,
                    stats,
                    paused,
                };
                self.sources.spawn(tasks::supervise(TaskKind::Source, source.run(stop, grace)))
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
                self.sources.spawn(tasks::supervise(TaskKind::Source, source.run(stop, grace)))
            }
        }
    }
}

/// Opens the sinks that are new or not as they were before; what one needs and isn't there is an error of all.
async fn open(config: &Config, before: Option<&Config>) -> Result<Vec<Option<Sink>>, OpenError> {
    let mut opened = Vec::with_capacity(config.sinks.len());
    for sink in &config.sinks {
        let is_same = before.is_some_and(|before| before.sinks.contains(sink));
        opened.push(if is_same { None } else { Some(Sink::open(sink, &config.name).await?) });
    }
    Ok(opened)
}

/// Until a task has ended that was told to.
async fn wait_for(task: &AbortHandle) {
    while !task.is_finished() {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

fn names(config: &Config, name: &SinkName) -> bool {
    config.sinks.iter().any(|sink| sink.name == *name)
}

/// Why there is nothing of that name to pause: nobody has it, or what had it has ended and takes no orders any more.
fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<_> = known.collect();
    if known.contains(&name) {
        return format!(
            "{what} {name} can't be paused or resumed now: every source has ended, and the relay stops once the rest is delivered"
        );
    }
    unknown_name(what, name, &known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_any_more_is_not_called_unknown() {
        assert_eq!(unknown("sink", "b", ["a", "c"].into_iter()), "there is no sink b; there are a, c");
        let ended = unknown("sink", "on_call", ["on_call"].into_iter());
        assert!(ended.starts_with("sink on_call can't be paused or resumed now"), "{ended}");
    }
}
