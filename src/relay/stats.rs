//! Statistics of the relay: counters and states of its sources, routes and sinks, how reloads ended, and why it is not ready.
//!
//! All parts of the relay write them, the admin listener and the control socket read them. Each source, route and sink of the
//! configuration has its counters from the start, at zero.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::SetOnce;

use super::alerts::AlertCounts;
use crate::config::{Config, SinkConfig, SourceConfig};
use crate::delivery::{LogLimiter, SinkStats};
use crate::event::{ExpressionError, SourceName};
use crate::journal::{Journal, JournalStats};
use crate::rules::{Alert, Condition, Field, Glob, Route, RouteName};
use crate::source::{SourceState, SourceStats};
use crate::spool::{Instances, OpenShards, Spool};

#[derive(Debug)]
pub struct Stats {
    current: ArcSwap<StatsSnapshot>,
    /// Limit of all spooled deliveries together.
    pub spool_max_bytes: u64,
    /// Limit of the spooled deliveries of one sink.
    pub spool_limit_bytes: u64,
    pub dead_letters_max_bytes: u64,
    unrouted: AtomicU64,
    reloads: AtomicU64,
    failed_reloads: AtomicU64,
    last_reload_failed: AtomicBool,
    /// Why the relay has not started yet. None: it has.
    /// None: the relay has started.
    start_blocker: Mutex<Option<StartBlocker>>,
    alert_counts: AlertCounts,
    spool: SetOnce<Arc<OpenShards>>,
    journal: SetOnce<Journal>,
    instances: Arc<Instances>,
}

/// The statistics of the sources, sinks and routes of one configuration, each in the order of the configuration.
#[derive(Debug)]
pub struct StatsSnapshot {
    pub sources: Vec<Arc<SourceStats>>,
    /// Indexed by [`SinkIndex`](crate::rules::SinkIndex).
    pub sinks: Vec<Arc<SinkStats>>,
    /// Indexed as the routes of a [`Plan`](crate::rules::Plan).
    pub routes: Vec<Arc<RouteStats>>,
    pub alerts: Arc<[Alert]>,
}

impl StatsSnapshot {
    /// Keeps the counters of `previous` for names that `config` still has; the others start at zero.
    fn new(config: &Config, previous: Option<&Self>) -> Arc<Self> {
        let tenants = named_tenants(config);
        let source = |source: &SourceConfig| {
            let families = source.decode_options.expects.families();
            let known = previous.and_then(|previous| previous.source(&source.name));
            known.filter(|known| known.counts_families(families)).cloned().unwrap_or_else(|| {
                let tenants = tenants.iter().map(String::as_str);
                Arc::new(SourceStats::new(source.name.clone(), families, tenants))
            })
        };
        let sink = |sink: &SinkConfig| {
            let known = previous.and_then(|previous| previous.sinks.iter().find(|known| *known.name() == sink.name));
            known.cloned().unwrap_or_else(|| Arc::new(SinkStats::new(sink.name.clone())))
        };
        let route = |route: &Route| {
            let known = previous.and_then(|previous| previous.routes.iter().find(|known| *known.name() == route.name));
            known.cloned().unwrap_or_else(|| Arc::new(RouteStats::new(route.name.clone())))
        };
        Arc::new(Self {
            sources: config.sources.iter().map(source).collect(),
            sinks: config.sinks.iter().map(sink).collect(),
            routes: config.rules.routes().iter().map(route).collect(),
            alerts: Arc::clone(&config.alerts),
        })
    }

    #[must_use]
    pub fn source(&self, name: &SourceName) -> Option<&Arc<SourceStats>> {
        self.sources.iter().find(|source| source.name() == name)
    }

    /// Counts an event that the route with this index matched.
    pub fn count_route(&self, route: usize) {
        if let Some(route) = self.routes.get(route) {
            route.events.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts an event for which the `if:` of the route with this index could not be evaluated.
    pub fn count_route_error(&self, route: usize, error: &ExpressionError) {
        let Some(route) = self.routes.get(route) else { return };
        route.errors.fetch_add(1, Ordering::Relaxed);
        if let Some(suppressed) = route.error_log.allow() {
            tracing::warn!(
                route = %route.name, %error, suppressed,
                "the `if:` of a route could not be evaluated; the event is handled as if the route did not match"
            );
        }
    }
}

impl Stats {
    #[must_use]
    pub fn new(config: &Config) -> Arc<Self> {
        let instances = Arc::<Instances>::default();
        instances.set_configuration(config.hash);
        Arc::new(Self {
            current: ArcSwap::new(StatsSnapshot::new(config, None)),
            spool_max_bytes: config.spool.max_size,
            spool_limit_bytes: config.spool.limit(),
            dead_letters_max_bytes: config.dead_letters.max_size,
            unrouted: AtomicU64::new(0),
            reloads: AtomicU64::new(0),
            failed_reloads: AtomicU64::new(0),
            last_reload_failed: AtomicBool::new(false),
            start_blocker: Mutex::new(Some(StartBlocker {
                reason: "the relay is starting".to_owned(),
                is_standby: false,
            })),
            alert_counts: AlertCounts::default(),
            spool: SetOnce::new(),
            journal: SetOnce::new(),
            instances,
        })
    }

    /// The statistics of the current configuration. Its counters continue to change.
    #[must_use]
    pub fn snapshot(&self) -> Arc<StatsSnapshot> {
        self.current.load_full()
    }

    /// Replaces the snapshot at a reload.
    pub fn configure(&self, config: &Config) -> Arc<StatsSnapshot> {
        let snapshot = StatsSnapshot::new(config, Some(&self.snapshot()));
        self.current.store(Arc::clone(&snapshot));
        self.instances.set_configuration(config.hash);
        snapshot
    }

    /// Counts an event that no route matched.
    pub fn count_unrouted(&self) {
        self.unrouted.fetch_add(1, Ordering::Relaxed);
    }

    #[must_use]
    pub fn unrouted(&self) -> u64 {
        self.unrouted.load(Ordering::Relaxed)
    }

    /// How often alerts were raised and resolved.
    #[must_use]
    pub fn alert_counts(&self) -> &AlertCounts {
        &self.alert_counts
    }

    pub fn count_reload(&self, succeeded: bool) {
        let count = if succeeded { &self.reloads } else { &self.failed_reloads };
        count.fetch_add(1, Ordering::Relaxed);
        self.last_reload_failed.store(!succeeded, Ordering::Relaxed);
    }

    /// How many reloads succeeded, how many failed, and whether the last one succeeded.
    #[must_use]
    pub fn reloads(&self) -> (u64, u64, bool) {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (load(&self.reloads), load(&self.failed_reloads), !self.last_reload_failed.load(Ordering::Relaxed))
    }

    /// Sets why the relay can't start yet, for example because another relay holds the spool.
    pub fn set_start_blocker(&self, reason: impl Into<String>) {
        self.set_blocker(Some(StartBlocker { reason: reason.into(), is_standby: false }));
    }

    /// Another relay has the spool, and this one goes on when that one ends: it is ready for that.
    pub fn set_standby(&self, reason: String) {
        self.set_blocker(Some(StartBlocker { reason, is_standby: true }));
    }

    /// Why it stands by, if it does.
    #[must_use]
    pub fn standby(&self) -> Option<String> {
        self.start_blocker().filter(|blocker| blocker.is_standby).map(|blocker| blocker.reason)
    }

    fn start_blocker(&self) -> Option<StartBlocker> {
        self.start_blocker.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_blocker(&self, blocker: Option<StartBlocker>) {
        *self.start_blocker.lock().unwrap_or_else(PoisonError::into_inner) = blocker;
    }

    /// The spool, or a shard of it, is open: the relay has started.
    pub fn add_spool(&self, spool: Arc<Spool>) {
        match self.spool.get() {
            Some(open) => open.add(spool),
            // It is called by one task.
            None => drop(self.spool.set(Arc::new(OpenShards::new(spool)))),
        }
        self.set_blocker(None);
    }

    /// The relay gives the shard up.
    pub fn remove_spool(&self, spool: &Arc<Spool>) {
        if let Some(open) = self.spool.get() {
            open.remove(spool);
        }
    }

    pub fn set_journal(&self, journal: Journal) {
        // Set once at the start.
        let _ = self.journal.set(journal);
    }

    /// None: the configuration has `journal: none`, or the relay is starting.
    #[must_use]
    pub fn journal(&self) -> Option<&JournalStats> {
        self.journal.get()?.stats()
    }

    /// None until the spool is open.
    #[must_use]
    pub fn spool(&self) -> Option<&Arc<OpenShards>> {
        self.spool.get()
    }

    /// The relays that share the spool, if several machines can reach it.
    #[must_use]
    pub fn instances(&self) -> &Arc<Instances> {
        &self.instances
    }

    /// Whether this is the shard that looks after what all shards of this relay have in common.
    #[must_use]
    pub fn is_first(&self, shard: &Spool) -> bool {
        self.spool().is_none_or(|open| open.is_first(shard))
    }

    /// Waits until the spool is open.
    pub async fn spool_opened(&self) -> Arc<OpenShards> {
        Arc::clone(self.spool.wait().await)
    }

    /// Everything that keeps the relay from doing its work, in sentences. Empty: it is ready.
    #[must_use]
    pub fn not_ready_reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        match self.start_blocker() {
            Some(StartBlocker { is_standby: true, .. }) => return reasons,
            blocker => reasons.extend(blocker.map(|blocker| blocker.reason)),
        }
        reasons.extend(self.spool().and_then(|spool| spool.problem()));
        for source in &self.snapshot().sources {
            let (state, problem) = source.state();
            if matches!(state, SourceState::Consuming | SourceState::Standby) {
                continue;
            }
            let problem = problem.unwrap_or_else(|| "does not consume".to_owned());
            reasons.push(format!("source {} {problem}", source.name()));
        }
        reasons
    }
}

/// Why the relay has not started yet.
#[derive(Debug, Clone)]
struct StartBlocker {
    reason: String,
    is_standby: bool,
}

#[derive(Debug)]
pub struct RouteStats {
    name: RouteName,
    events: AtomicU64,
    errors: AtomicU64,
    error_log: LogLimiter,
}

impl RouteStats {
    fn new(name: RouteName) -> Self {
        Self { name, events: AtomicU64::new(0), errors: AtomicU64::new(0), error_log: LogLimiter::default() }
    }

    #[must_use]
    pub fn name(&self) -> &RouteName {
        &self.name
    }

    /// How many events the route matched.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// For how many events its `if:` could not be evaluated.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }
}

/// The tenants that the configuration names, each once: those of sources, then those of routes, without globs.
fn named_tenants(config: &Config) -> Vec<String> {
    fn add_tenants(condition: &Condition, tenants: &mut Vec<String>) {
        let globs = condition.fields.iter().filter(|(field, _)| *field == Field::Tenant).flat_map(|(_, globs)| globs);
        let names = globs.map(Glob::as_str).filter(|name| !name.contains(['*', '?']));
        tenants.extend(names.map(str::to_owned));
        for condition in &condition.not {
            add_tenants(condition, tenants);
        }
    }
    let mut tenants = Vec::new();
    tenants
        .extend(config.sources.iter().filter_map(|source| source.decode_options.tenant.as_deref()).map(str::to_owned));
    for route in config.rules.routes() {
        add_tenants(&route.when, &mut tenants);
    }
    let mut seen = HashSet::new();
    tenants.retain(|tenant| seen.insert(tenant.clone()));
    tenants
}
