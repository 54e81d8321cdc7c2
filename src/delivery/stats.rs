//! What the relay counts: one place that everything on the way of an event writes to, and that the admin listener reads.
//!
//! Every label that the configuration names is there from the start, at zero.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::SetOnce;

use super::Throttle;
use crate::config::{Config, SinkConfig, SourceConfig};
use crate::event::{ExpressionError, SourceName};
use crate::rules::{Condition, Field, Route, RouteName, SinkName};
use crate::source::{SourceState, SourceStats};
use crate::spool::Spool;

/// The state and the counters of one relay.
#[derive(Debug)]
pub struct Stats {
    now: ArcSwap<Counted>,
    /// What the deliveries in the spool may take, in bytes.
    pub spool_max_bytes: u64,
    /// What those of one sink may take of that, in bytes.
    pub spool_limit_bytes: u64,
    /// What the dead letters may take, in bytes.
    pub dead_letters_max_bytes: u64,
    unrouted: AtomicU64,
    reloads: AtomicU64,
    failed_reloads: AtomicU64,
    last_reload_failed: AtomicBool,
    waiting: Mutex<Option<String>>,
    spool: SetOnce<Arc<Spool>>,
}

/// What the configuration in force names, each with its counters.
#[derive(Debug)]
pub struct Counted {
    /// In the order of the configuration.
    pub sources: Vec<Arc<SourceStats>>,
    /// In the order of the configuration, as [`SinkIndex`](crate::rules::SinkIndex) counts.
    pub sinks: Vec<Arc<SinkStats>>,
    /// In the order of the configuration, as the places in a plan count.
    pub routes: Vec<Arc<RouteStats>>,
}

impl Counted {
    /// The counters of what `config` names: those of `before` where it named the same, and all others at zero.
    fn new(config: &Config, before: Option<&Self>) -> Arc<Self> {
        let tenants = named_tenants(config);
        let source = |source: &SourceConfig| {
            let families = source.decode_options.expects.families();
            let known =
                before.and_then(|before| before.source(&source.name)).filter(|known| known.counts_families(families));
            known.cloned().unwrap_or_else(|| {
                let tenants = tenants.iter().map(String::as_str);
                Arc::new(SourceStats::new(source.name.clone(), families, tenants))
            })
        };
        let sink = |sink: &SinkConfig| {
            let known = before.and_then(|before| before.sinks.iter().find(|known| *known.name() == sink.name));
            known.cloned().unwrap_or_else(|| Arc::new(SinkStats::new(sink.name.clone())))
        };
        let route = |route: &Route| {
            let known = before.and_then(|before| before.routes.iter().find(|known| *known.name() == route.name));
            known.cloned().unwrap_or_else(|| Arc::new(RouteStats::new(route.name.clone())))
        };
        Arc::new(Self {
            sources: config.sources.iter().map(source).collect(),
            sinks: config.sinks.iter().map(sink).collect(),
            routes: config.rules.routes().iter().map(route).collect(),
        })
    }

    /// The counters of the source of that name.
    #[must_use]
    pub fn source(&self, name: &SourceName) -> Option<&Arc<SourceStats>> {
        self.sources.iter().find(|source| source.name() == name)
    }

    /// The route at that place took an event.
    pub fn count_route(&self, route: usize) {
        if let Some(route) = self.routes.get(route) {
            route.events.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The `if:` of the route at that place could not be evaluated for an event.
    pub fn count_route_error(&self, route: usize, error: &ExpressionError) {
        let Some(route) = self.routes.get(route) else { return };
        route.errors.fetch_add(1, Ordering::Relaxed);
        if let Some(left_out) = route.notices.pass() {
            tracing::warn!(route = %route.name, %error, left_out, "the `if:` of a route could not be evaluated: it doesn't match");
        }
    }
}

impl Stats {
    /// All zero.
    #[must_use]
    pub fn new(config: &Config) -> Arc<Self> {
        Arc::new(Self {
            now: ArcSwap::new(Counted::new(config, None)),
            spool_max_bytes: config.spool.max_size,
            spool_limit_bytes: config.spool.limit(),
            dead_letters_max_bytes: config.dead_letters.max_size,
            unrouted: AtomicU64::new(0),
            reloads: AtomicU64::new(0),
            failed_reloads: AtomicU64::new(0),
            last_reload_failed: AtomicBool::new(false),
            waiting: Mutex::new(Some("the relay is starting".to_owned())),
            spool: SetOnce::new(),
        })
    }

    /// What is counted now.
    #[must_use]
    pub fn now(&self) -> Arc<Counted> {
        self.now.load_full()
    }

    /// What `config` names is counted from now on.
    pub fn configure(&self, config: &Config) -> Arc<Counted> {
        let counted = Counted::new(config, Some(&self.now()));
        self.now.store(Arc::clone(&counted));
        counted
    }

    /// No route took an event.
    pub fn count_unrouted(&self) {
        self.unrouted.fetch_add(1, Ordering::Relaxed);
    }

    /// How many events no route took.
    #[must_use]
    pub fn unrouted(&self) -> u64 {
        self.unrouted.load(Ordering::Relaxed)
    }

    /// The configuration was read anew: it is in force, or the old one still is.
    pub fn count_reload(&self, is_in_force: bool) {
        let count = if is_in_force { &self.reloads } else { &self.failed_reloads };
        count.fetch_add(1, Ordering::Relaxed);
        self.last_reload_failed.store(!is_in_force, Ordering::Relaxed);
    }

    /// How many reloads succeeded, how many failed, and whether the last one succeeded.
    #[must_use]
    pub fn reloads(&self) -> (u64, u64, bool) {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (load(&self.reloads), load(&self.failed_reloads), !self.last_reload_failed.load(Ordering::Relaxed))
    }

    /// The relay as a whole can't start yet, for that reason: another one holds the spool, say.
    pub fn set_waiting(&self, reason: impl Into<String>) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.into());
    }

    /// The spool is open: from here on the relay works.
    pub fn set_spool(&self, spool: Arc<Spool>) {
        // Set once at start; a second time would be the same spool.
        let _ = self.spool.set(spool);
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The spool, once it is open.
    #[must_use]
    pub fn spool(&self) -> Option<&Arc<Spool>> {
        self.spool.get()
    }

    /// The spool, as soon as it is open.
    pub async fn spool_opened(&self) -> Arc<Spool> {
        Arc::clone(self.spool.wait().await)
    }

    /// Everything that keeps the relay from doing its work, in sentences. Empty: it is ready.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        problems.extend(self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clone());
        if let Some(problem) = self.spool().and_then(|spool| spool.problem()) {
            problems.push(problem);
        }
        for source in &self.now().sources {
            let (state, problem) = source.state();
            if matches!(state, SourceState::Consuming | SourceState::Standby) {
                continue;
            }
            let problem = problem.unwrap_or_else(|| "does not consume".to_owned());
            problems.push(format!("source {} {problem}", source.name()));
        }
        problems
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptResult {
    /// The destination has it.
    Delivered,
    /// It failed.
    Retry,
    /// The destination refused it.
    Refused,
}

impl AttemptResult {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Delivered, Self::Retry, Self::Refused];

    /// The word used in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Retry => "retry",
            Self::Refused => "refused",
        }
    }

    const fn place(self) -> usize {
        match self {
            Self::Delivered => 0,
            Self::Retry => 1,
            Self::Refused => 2,
        }
    }
}

/// How a delivery ended, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryResult {
    /// The destination has it.
    Delivered,
    /// It was refused, given up, or could not be rendered.
    DeadLetter,
    /// The spool had no room for it, and `when_full: drop_newest` says so; or it was the copy of a dead letter and could not be delivered.
    Dropped,
}

impl DeliveryResult {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Delivered, Self::DeadLetter, Self::Dropped];

    /// The word used in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::DeadLetter => "dead_letter",
            Self::Dropped => "dropped",
        }
    }

    const fn place(self) -> usize {
        match self {
            Self::Delivered => 0,
            Self::DeadLetter => 1,
            Self::Dropped => 2,
        }
    }
}

/// The state and the counters of one sink.
#[derive(Debug)]
pub struct SinkStats {
    name: SinkName,
    attempts: [AtomicU64; AttemptResult::ALL.len()],
    results: [AtomicU64; DeliveryResult::ALL.len()],
    in_flight: AtomicU64,
    breaker_open: AtomicBool,
    paused: AtomicBool,
    duration: Histogram,
}

impl SinkStats {
    /// All zero.
    #[must_use]
    pub fn new(name: SinkName) -> Self {
        Self {
            name,
            attempts: Default::default(),
            results: Default::default(),
            in_flight: AtomicU64::new(0),
            breaker_open: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            duration: Histogram::default(),
        }
    }

    /// An attempt ended so.
    pub fn count_attempt(&self, result: AttemptResult) {
        if let Some(count) = self.attempts.get(result.place()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A delivery ended so.
    pub fn count(&self, result: DeliveryResult) {
        if let Some(count) = self.results.get(result.place()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A delivery took so long, from the receipt of its message until the destination had it.
    pub fn count_delivered(&self, took: Duration) {
        self.count(DeliveryResult::Delivered);
        self.duration.observe(took);
    }

    /// An attempt began.
    pub fn attempt_began(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// An attempt ended, whatever its verdict.
    pub fn attempt_ended(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Its breaker is open: only probes go out.
    pub fn set_breaker_open(&self, open: bool) {
        self.breaker_open.store(open, Ordering::Relaxed);
    }

    /// It is paused.
    pub fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
    }

    /// Which sink.
    #[must_use]
    pub fn name(&self) -> &SinkName {
        &self.name
    }

    /// How many attempts ended so.
    #[must_use]
    pub fn attempts(&self, result: AttemptResult) -> u64 {
        self.attempts.get(result.place()).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// How many deliveries ended so.
    #[must_use]
    pub fn results(&self, result: DeliveryResult) -> u64 {
        self.results.get(result.place()).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// How many attempts are under way.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Its breaker is open.
    #[must_use]
    pub fn is_breaker_open(&self) -> bool {
        self.breaker_open.load(Ordering::Relaxed)
    }

    /// It is paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// How long its deliveries took.
    #[must_use]
    pub fn duration(&self) -> &Histogram {
        &self.duration
    }
}

/// The counter of one route.
#[derive(Debug)]
pub struct RouteStats {
    name: RouteName,
    events: AtomicU64,
    errors: AtomicU64,
    notices: Throttle,
}

impl RouteStats {
    fn new(name: RouteName) -> Self {
        Self { name, events: AtomicU64::new(0), errors: AtomicU64::new(0), notices: Throttle::default() }
    }

    /// Which route.
    #[must_use]
    pub fn name(&self) -> &RouteName {
        &self.name
    }

    /// How many events it took.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// How many its `if:` could not be evaluated for.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }
}

/// Durations counted in fixed buckets, from a healthy Kafka to the retries of an outage.
#[derive(Debug, Default)]
pub struct Histogram {
    /// One more than there are bounds: the last is what lies above them all.
    buckets: [AtomicU64; Self::BOUNDS_MS.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    /// The upper bounds of the buckets but the last, in milliseconds.
    pub const BOUNDS_MS: [u32; 16] =
        [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 60_000, 600_000, 3_600_000];

    fn observe(&self, duration: Duration) {
        let bound = Self::BOUNDS_MS.iter().position(|ms| duration <= Duration::from_millis((*ms).into()));
        if let Some(bucket) = self.buckets.get(bound.unwrap_or(Self::BOUNDS_MS.len())) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_us.fetch_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The upper bound of each bucket in seconds, the last one infinite, and the number in it alone.
    #[must_use]
    pub fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = Self::BOUNDS_MS.iter().map(|ms| f64::from(*ms) / 1_000.0).chain([f64::INFINITY]);
        bounds.zip(self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed))).collect()
    }

    /// All durations added up.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum_us.load(Ordering::Relaxed))
    }
}

/// The tenants that the configuration names, each once: those of sources, then those of routes where no glob is meant.
fn named_tenants(config: &Config) -> Vec<String> {
    fn of_condition(condition: &Condition, tenants: &mut Vec<String>) {
        let globs = condition.fields.iter().filter(|(field, _)| *field == Field::Tenant).flat_map(|(_, globs)| globs);
        let names = globs.map(crate::rules::Glob::as_str).filter(|name| !name.contains(['*', '?']));
        tenants.extend(names.map(str::to_owned));
        for condition in &condition.not {
            of_condition(condition, tenants);
        }
    }
    let mut tenants = Vec::new();
    tenants
        .extend(config.sources.iter().filter_map(|source| source.decode_options.tenant.as_deref()).map(str::to_owned));
    for route in config.rules.routes() {
        of_condition(&route.when, &mut tenants);
    }
    let mut seen = std::collections::HashSet::new();
    tenants.retain(|tenant| seen.insert(tenant.clone()));
    tenants
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_bucket_whose_bound_it_reaches() {
        let histogram = Histogram::default();
        for ms in [0, 1, 2, 3, 3_600_000, 3_600_001] {
            histogram.observe(Duration::from_millis(ms));
        }
        let buckets: Vec<u64> = histogram.buckets().into_iter().map(|(_, count)| count).collect();
        assert_eq!(buckets[..3], [2, 1, 1]);
        assert_eq!(buckets[15..], [1, 1]);
        assert_eq!(buckets.iter().sum::<u64>(), 6);
        assert_eq!(histogram.sum(), Duration::from_millis(7_200_007));
    }

    #[test]
    fn each_result_has_its_own_place() {
        for (place, result) in DeliveryResult::ALL.into_iter().enumerate() {
            assert_eq!(result.place(), place);
        }
        for (place, result) in AttemptResult::ALL.into_iter().enumerate() {
            assert_eq!(result.place(), place);
        }
    }
}
