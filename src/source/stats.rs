//! The state and the counters of one source.
//!
//! Plain atomics: counting an event takes a shared lock and one addition, and allocates nothing once its tenant is known.
//! This module doesn't know how these numbers are shown.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::clock::WallTime;
use crate::event::{Family, SourceName};

/// The number of tenants that each source counts by name; all others are counted together as [`OTHER_TENANTS`].
pub const MAX_COUNTED_TENANTS: usize = 1_000;

/// The name for the tenants beyond [`MAX_COUNTED_TENANTS`].
pub const OTHER_TENANTS: &str = "_other";

#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase", const_into_str)]
pub enum SourceState {
    /// It takes messages, or has read its whole recording.
    Consuming,
    /// It waits for the relay that consumes its queue.
    Standby,
    Paused,
    Down,
}

/// A source is blocked if its oldest message is neither delivered nor spooled after this time: with room in the spool, the message
/// would have been spooled earlier.
const BLOCKED_AFTER: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub struct SourceStats {
    name: SourceName,
    /// The state, and the reason why it is not [`SourceState::Consuming`].
    state: Mutex<(SourceState, Option<String>)>,
    /// Since when it has been down.
    down_since: Mutex<Option<Instant>>,
    /// When the oldest unacknowledged message became the oldest one.
    head_since: Mutex<Option<Instant>>,
    last_message: AtomicU64,
    reconnects: AtomicU64,
    received: AtomicU64,
    events: EventCounts,
}

impl SourceStats {
    /// The counters, all zero, of a source that doesn't consume yet. `tenants` are those that the configuration names: they are
    /// counted by name before all others.
    #[must_use]
    pub fn new<'a>(name: SourceName, families: &[Family], tenants: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            name,
            state: Mutex::new((SourceState::Down, Some("is starting".to_owned()))),
            down_since: Mutex::new(Some(Instant::now())),
            head_since: Mutex::default(),
            last_message: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
            received: AtomicU64::new(0),
            events: EventCounts::new(families, tenants),
        }
    }

    /// Whether the events of exactly these families are counted.
    #[must_use]
    pub fn counts_families(&self, families: &[Family]) -> bool {
        self.events.slots == slots(families)
    }

    pub fn set_consuming(&self) {
        self.set_state(SourceState::Consuming, None);
    }

    /// The reasons here and below continue a sentence that starts with the source's name.
    pub fn set_standby(&self, reason: impl Into<String>) {
        self.set_state(SourceState::Standby, Some(reason.into()));
    }

    pub fn set_paused(&self) {
        self.set_state(SourceState::Paused, Some("is paused".to_owned()));
    }

    pub fn set_down(&self, reason: impl Into<String>) {
        self.set_state(SourceState::Down, Some(reason.into()));
    }

    fn set_state(&self, state: SourceState, reason: Option<String>) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = (state, reason);
        let mut down_since = self.down_since.lock().unwrap_or_else(PoisonError::into_inner);
        let is_down = state == SourceState::Down;
        *down_since = is_down.then(|| down_since.unwrap_or_else(Instant::now));
    }

    /// The state, and the reason why it is not [`SourceState::Consuming`].
    #[must_use]
    pub fn state(&self) -> (SourceState, Option<String>) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// None: it is not [`SourceState::Down`].
    #[must_use]
    pub fn down_since(&self) -> Option<Instant> {
        *self.down_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[must_use]
    pub fn is_consuming(&self) -> bool {
        self.state().0 == SourceState::Consuming
    }

    /// Sets when the oldest unacknowledged message became the oldest one, or that there is none.
    pub fn set_head_since(&self, since: Option<Instant>) {
        *self.head_since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// Whether its oldest message has been neither delivered nor spooled for 3 s.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        let since = *self.head_since.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_consuming() && since.is_some_and(|since| since.elapsed() >= BLOCKED_AFTER)
    }

    pub fn count_received(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
        self.last_message.store(u64::try_from(WallTime::now().0).unwrap_or(0), Ordering::Relaxed);
    }

    pub fn count_event(&self, kind: &str, tenant: &str, status: &str) {
        self.events.count(kind, tenant, status);
    }

    pub fn count_reconnect(&self) {
        self.reconnects.fetch_add(1, Ordering::Relaxed);
    }

    #[must_use]
    pub fn name(&self) -> &SourceName {
        &self.name
    }

    /// The time of the last message, since 1970; zero if there was none.
    #[must_use]
    pub fn last_message(&self) -> Duration {
        Duration::from_millis(self.last_message.load(Ordering::Relaxed))
    }

    #[must_use]
    pub fn reconnects(&self) -> u64 {
        self.reconnects.load(Ordering::Relaxed)
    }

    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    #[must_use]
    pub fn events(&self) -> &EventCounts {
        &self.events
    }
}

/// The number of events by type, tenant and status.
#[derive(Debug)]
pub struct EventCounts {
    /// The type and status of each index into the counters below.
    slots: Vec<(&'static str, &'static str)>,
    tenants: RwLock<HashMap<Arc<str>, Counters>>,
    others: Counters,
}

type Counters = Box<[AtomicU64]>;

/// Each type with each of its statuses.
fn slots(families: &[Family]) -> Vec<(&'static str, &'static str)> {
    families.iter().flat_map(|family| family.statuses.iter().map(|(status, _)| (family.kind, *status))).collect()
}

impl EventCounts {
    fn new<'a>(families: &[Family], tenants: impl IntoIterator<Item = &'a str>) -> Self {
        let slots = slots(families);
        let mut counted = HashMap::new();
        for tenant in tenants {
            if counted.len() == MAX_COUNTED_TENANTS {
                break;
            }
            counted.entry(Arc::from(tenant)).or_insert_with(|| zeros(slots.len()));
        }
        Self { others: zeros(slots.len()), tenants: RwLock::new(counted), slots }
    }

    fn count(&self, kind: &str, tenant: &str, status: &str) {
        // A handful of short constants: comparing them is faster than hashing.
        let Some(slot) = self.slots.iter().position(|(k, s)| *s == status && *k == kind) else { return };
        let increase = |counts: &Counters| {
            if let Some(count) = counts.get(slot) {
                count.fetch_add(1, Ordering::Relaxed);
            }
        };
        {
            let tenants = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(counts) = tenants.get(tenant) {
                return increase(counts);
            }
            if tenants.len() >= MAX_COUNTED_TENANTS {
                return increase(&self.others);
            }
        }
        let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        if tenants.len() >= MAX_COUNTED_TENANTS && !tenants.contains_key(tenant) {
            return increase(&self.others);
        }
        increase(tenants.entry(Arc::from(tenant)).or_insert_with(|| zeros(self.slots.len())));
    }

    /// Every count, by tenant in alphabetical order with [`OTHER_TENANTS`] last.
    #[must_use]
    pub fn snapshot(&self) -> Vec<EventCount> {
        let tenants = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
        let mut named: Vec<_> = tenants.iter().map(|(tenant, counts)| (Arc::clone(tenant), counts)).collect();
        named.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        // A tenant may really have this name; its events are then counted under it.
        if !tenants.contains_key(OTHER_TENANTS) {
            named.push((Arc::from(OTHER_TENANTS), &self.others));
        }
        let mut all = Vec::with_capacity(named.len() * self.slots.len());
        for (tenant, counts) in named {
            for ((kind, status), count) in self.slots.iter().zip(counts) {
                let tenant = Arc::clone(&tenant);
                all.push(EventCount { kind, tenant, status, count: count.load(Ordering::Relaxed) });
            }
        }
        all
    }
}

/// The number of events since the start with one type, tenant and status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventCount {
    pub kind: &'static str,
    /// [`OTHER_TENANTS`] beyond the tenants that are counted by name.
    pub tenant: Arc<str>,
    pub status: &'static str,
    pub count: u64,
}

fn zeros(length: usize) -> Counters {
    (0..length).map(|_| AtomicU64::new(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::FAMILIES;

    const KIND: &str = "fr.cnes.regards.lta.submission.response";

    fn stats<'a>(tenants: impl IntoIterator<Item = &'a str>) -> SourceStats {
        let lta = FAMILIES.iter().find(|family| family.name == "lta").unwrap();
        SourceStats::new(SourceName::new("regards"), std::slice::from_ref(lta), tenants)
    }

    fn count(of: &SourceStats, tenant: &str, status: &str) -> Option<u64> {
        let all = of.events().snapshot();
        all.iter().find(|count| &*count.tenant == tenant && count.status == status).map(|count| count.count)
    }

    #[test]
    fn tenants_of_the_configuration_are_counted_from_the_start() {
        let stats = stats(["esa"]);
        assert_eq!(count(&stats, "esa", "GRANTED"), Some(0));
        assert_eq!(count(&stats, "cnes", "GRANTED"), None);
        stats.count_event(KIND, "cnes", "GRANTED");
        stats.count_event(KIND, "cnes", "GRANTED");
        assert_eq!(count(&stats, "cnes", "GRANTED"), Some(2));
        assert_eq!(count(&stats, "cnes", "ERROR"), Some(0));
    }

    #[test]
    fn tenants_beyond_the_bound_are_counted_together() {
        let stats = stats(["zulu"]);
        for number in 0..MAX_COUNTED_TENANTS + 5 {
            stats.count_event(KIND, &format!("tenant-{number}"), "ERROR");
        }
        stats.count_event(KIND, "zulu", "ERROR");
        assert_eq!(count(&stats, "zulu", "ERROR"), Some(1), "a named tenant keeps its place");
        // One place is zulu's, so 999 of the others have one.
        assert_eq!(count(&stats, OTHER_TENANTS, "ERROR"), Some(6));
        assert_eq!(stats.events().snapshot().len(), (MAX_COUNTED_TENANTS + 1) * 4);
    }

    #[test]
    fn a_source_is_down_until_it_is_set_consuming() {
        let stats = stats([]);
        assert!(!stats.is_consuming());
        assert!(stats.state().1.is_some());
        stats.set_consuming();
        assert!(stats.is_consuming());
        assert_eq!(stats.state().1, None);
        stats.set_down("lost its connection");
        assert!(!stats.is_consuming());
        assert_eq!(stats.state().1.as_deref(), Some("lost its connection"));
    }
}
