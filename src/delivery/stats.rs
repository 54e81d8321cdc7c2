//! Statistics of one sink: how its attempts and deliveries ended, and how long its deliveries took.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use strum::{IntoStaticStr, VariantArray};

use crate::clock::Timestamp;
use crate::rules::SinkName;

/// How an attempt ended, as the metrics name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum AttemptResult {
    Delivered,
    /// It failed and may be repeated.
    Retry,
    /// The destination refused this event.
    Refused,
}

/// How a delivery ended, as the metrics name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum DeliveryResult {
    Delivered,
    /// It was refused, given up, or could not be rendered.
    DeadLetter,
    /// The spool had no room for it and `when_full: drop_newest` is set; or it was a copy of a dead letter that could not be delivered.
    Dropped,
}

/// Deliveries to a sink fail, and none has succeeded since.
#[derive(Debug, Clone)]
pub struct Outage {
    pub since: Instant,
    /// How the last attempt failed.
    pub error: String,
}

#[derive(Debug)]
pub struct SinkStats {
    name: SinkName,
    attempts: [AtomicU64; AttemptResult::VARIANTS.len()],
    results: [AtomicU64; DeliveryResult::VARIANTS.len()],
    in_flight: AtomicU64,
    /// How many of its dispatchers have an open breaker, and are paused: each shard of the spool has one.
    open_breakers: AtomicU64,
    pauses: AtomicU64,
    outage: Mutex<Option<Outage>>,
    duration: Histogram,
    last_failure: Mutex<Option<LastFailure>>,
}

/// The last attempt that failed or was refused.
#[derive(Debug, Clone)]
pub struct LastFailure {
    pub error: String,
    pub at: Timestamp,
}

impl SinkStats {
    #[must_use]
    pub fn new(name: SinkName) -> Self {
        Self {
            name,
            attempts: Default::default(),
            results: Default::default(),
            in_flight: AtomicU64::new(0),
            open_breakers: AtomicU64::new(0),
            pauses: AtomicU64::new(0),
            outage: Mutex::default(),
            duration: Histogram::default(),
            last_failure: Mutex::default(),
        }
    }

    /// Counts an attempt that failed or was refused, and why.
    pub fn count_failure(&self, result: AttemptResult, error: &str) {
        self.count_attempt(result);
        let failure = LastFailure { error: error.to_owned(), at: Timestamp::now() };
        *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
    }

    /// None: no attempt has failed since the start.
    #[must_use]
    pub fn last_failure(&self) -> Option<LastFailure> {
        self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn count_attempt(&self, result: AttemptResult) {
        if let Some(count) = self.attempts.get(result as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn count(&self, result: DeliveryResult) {
        if let Some(count) = self.results.get(result as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a delivery. It took the time from the receipt of its message until the destination confirmed it.
    pub fn count_delivered(&self, took: Duration) {
        self.count(DeliveryResult::Delivered);
        self.duration.observe(took);
    }

    pub fn count_attempt_start(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub fn count_attempt_end(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// An attempt failed, and the sink is at fault.
    pub fn set_failing(&self, error: &str) {
        let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        let since = outage.as_ref().map_or_else(Instant::now, |outage| outage.since);
        *outage = Some(Outage { since, error: error.to_owned() });
    }

    /// A delivery succeeded, or it is unknown again how the sink is.
    pub fn end_outage(&self) {
        *self.outage.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// None: the last delivery succeeded, or there was none.
    #[must_use]
    pub fn outage(&self) -> Option<Outage> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    #[must_use]
    pub fn name(&self) -> &SinkName {
        &self.name
    }

    #[must_use]
    pub fn attempts(&self, result: AttemptResult) -> u64 {
        self.attempts.get(result as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    #[must_use]
    pub fn results(&self, result: DeliveryResult) -> u64 {
        self.results.get(result as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// How many attempts are in flight.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    #[must_use]
    pub fn is_breaker_open(&self) -> bool {
        self.open_breakers.load(Ordering::Relaxed) > 0
    }

    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.pauses.load(Ordering::Relaxed) > 0
    }

    /// The time from the receipt of a message until the destination confirmed its event.
    #[must_use]
    pub fn duration(&self) -> &Histogram {
        &self.duration
    }
}

/// What one dispatcher adds to the state of its sink, until it is dropped.
#[derive(Debug)]
pub struct ShownState {
    stats: Arc<SinkStats>,
    is_breaker_open: AtomicBool,
    is_paused: AtomicBool,
}

impl ShownState {
    #[must_use]
    pub fn new(stats: Arc<SinkStats>) -> Self {
        Self { stats, is_breaker_open: AtomicBool::new(false), is_paused: AtomicBool::new(false) }
    }

    pub fn set(&self, is_breaker_open: bool, is_paused: bool) {
        let count =
            |shown: &AtomicBool, count: &AtomicU64, is_set: bool| match (shown.swap(is_set, Ordering::Relaxed), is_set)
            {
                (false, true) => drop(count.fetch_add(1, Ordering::Relaxed)),
                (true, false) => drop(count.fetch_sub(1, Ordering::Relaxed)),
                _ => {}
            };
        count(&self.is_breaker_open, &self.stats.open_breakers, is_breaker_open);
        count(&self.is_paused, &self.stats.pauses, is_paused);
    }
}

impl Drop for ShownState {
    fn drop(&mut self) {
        self.set(false, false);
    }
}

/// Durations counted in fixed buckets, from those of a healthy Kafka to those after an outage.
#[derive(Debug, Default)]
pub struct Histogram {
    /// One bucket for each bound, and a last one for durations above all bounds.
    buckets: [AtomicU64; Self::BOUNDS_MS.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    /// The upper bounds of all buckets but the last, in milliseconds.
    pub const BOUNDS_MS: [u32; 16] =
        [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 60_000, 600_000, 3_600_000];

    fn observe(&self, duration: Duration) {
        let bound = Self::BOUNDS_MS.iter().position(|ms| duration <= Duration::from_millis((*ms).into()));
        if let Some(bucket) = self.buckets.get(bound.unwrap_or(Self::BOUNDS_MS.len())) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_us.fetch_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The upper bound of each bucket in seconds (of the last: infinity) with the count of that bucket alone.
    #[must_use]
    pub fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = Self::BOUNDS_MS.iter().map(|ms| f64::from(*ms) / 1_000.0).chain([f64::INFINITY]);
        bounds.zip(self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed))).collect()
    }

    /// The sum of all durations.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum_us.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_in_the_first_bucket_whose_bound_it_does_not_exceed() {
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
}
