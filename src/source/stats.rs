//! What a source counts of itself.
//!
//! Plain atomics: counting an event takes a shared lock and one addition, and allocates nothing once its tenant is known.
//! Who shows these numbers, and how, isn't known here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::clock::WallTime;
use crate::event::{Family, SourceName};

/// So many tenants are counted by name for each source; all further ones together as [`OTHER_TENANTS`].
pub const MAX_COUNTED_TENANTS: usize = 1_000;

/// The name under which the tenants beyond [`MAX_COUNTED_TENANTS`] are counted.
pub const OTHER_TENANTS: &str = "_other";

/// What a source does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceState {
    /// It takes messages, or has read all it will ever have.
    Consuming,
    /// Another relay has its queue.
    Standby,
    /// It is paused.
    Paused,
    /// It can't consume.
    Down,
}

impl SourceState {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Consuming => "consuming",
            Self::Standby => "standby",
            Self::Paused => "paused",
            Self::Down => "down",
        }
    }
}

/// A message that is neither settled nor in the spool for so long finds no room there: without that it is spooled before.
const HELD_UP: Duration = Duration::from_secs(3);

/// The state and the counters of one source.
#[derive(Debug)]
pub struct SourceStats {
    name: SourceName,
    /// With why it doesn't consume.
    state: Mutex<(SourceState, Option<String>)>,
    /// Since when its oldest unacknowledged message is the oldest.
    head_since: Mutex<Option<Instant>>,
    last_message: AtomicU64,
    reconnects: AtomicU64,
    received: AtomicU64,
    events: EventCounts,
}

impl SourceStats {
    /// All zero and not consuming yet. `tenants` are those that the configuration names: counted by name before all others.
    #[must_use]
    pub fn new<'a>(name: SourceName, families: &[Family], tenants: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            name,
            state: Mutex::new((SourceState::Down, Some("is starting".to_owned()))),
            head_since: Mutex::default(),
            last_message: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
            received: AtomicU64::new(0),
            events: EventCounts::new(families, tenants),
        }
    }

    /// Whether it counts the events of these families.
    #[must_use]
    pub fn counts(&self, families: &[Family]) -> bool {
        self.events.slots == slots(families)
    }

    /// The source consumes, or has read everything it will ever have: nothing is wrong.
    pub fn set_up(&self) {
        self.set(SourceState::Consuming, None);
    }

    /// Another relay has its queue: it takes over from that one.
    pub fn set_standby(&self, reason: impl Into<String>) {
        self.set(SourceState::Standby, Some(reason.into()));
    }

    /// It takes nothing until it is resumed.
    pub fn set_paused(&self) {
        self.set(SourceState::Paused, Some("is paused".to_owned()));
    }

    fn set(&self, state: SourceState, reason: Option<String>) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = (state, reason);
    }

    /// What it does, and why it doesn't consume.
    #[must_use]
    pub fn state(&self) -> (SourceState, Option<String>) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The source doesn't consume, for that reason. The reason continues a sentence that starts with the source's name.
    pub fn set_down(&self, problem: impl Into<String>) {
        self.set(SourceState::Down, Some(problem.into()));
    }

    /// Since when its oldest unacknowledged message is the oldest; none: there is none.
    pub fn set_head_since(&self, since: Option<Instant>) {
        *self.head_since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// It consumes, and what it brought is not settled for longer than that takes while the spool has room.
    #[must_use]
    pub fn is_held_up(&self) -> bool {
        let since = *self.head_since.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_up() && since.is_some_and(|since| since.elapsed() >= HELD_UP)
    }

    /// A message came in now.
    pub fn count_received(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
        self.last_message.store(u64::try_from(WallTime::now().0).unwrap_or(0), Ordering::Relaxed);
    }

    /// A message became an event.
    pub fn count_event(&self, kind: &str, tenant: &str, status: &str) {
        self.events.count(kind, tenant, status);
    }

    /// The connection was lost and is tried anew.
    pub fn count_reconnect(&self) {
        self.reconnects.fetch_add(1, Ordering::Relaxed);
    }

    /// Which source.
    #[must_use]
    pub fn name(&self) -> &SourceName {
        &self.name
    }

    /// It consumes.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.state().0 == SourceState::Consuming
    }

    /// Why it doesn't consume.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.state().1
    }

    /// When the last message came in, since 1970; zero is never.
    #[must_use]
    pub fn last_message(&self) -> Duration {
        Duration::from_millis(self.last_message.load(Ordering::Relaxed))
    }

    /// How often it had to connect anew.
    #[must_use]
    pub fn reconnects(&self) -> u64 {
        self.reconnects.load(Ordering::Relaxed)
    }

    /// How many messages came in.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// How many events there were.
    #[must_use]
    pub fn events(&self) -> &EventCounts {
        &self.events
    }
}

/// Events by type, tenant and status.
#[derive(Debug)]
pub struct EventCounts {
    /// Type and status of each place in the lists below.
    slots: Vec<(&'static str, &'static str)>,
    tenants: RwLock<HashMap<Arc<str>, Counts>>,
    others: Counts,
}

type Counts = Box<[AtomicU64]>;

/// What is counted: each type with each of its statuses.
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
        let increase = |counts: &Counts| {
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

    /// Every type, tenant, status and number, the tenants in alphabetical order and [`OTHER_TENANTS`] last.
    #[must_use]
    pub fn all(&self) -> Vec<EventCount> {
        let tenants = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
        let mut named: Vec<_> = tenants.iter().map(|(tenant, counts)| (Arc::clone(tenant), counts)).collect();
        named.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        // A tenant may really be called so; then its events are counted here.
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

/// How many events of one kind there were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventCount {
    /// The event's type.
    pub kind: &'static str,
    /// Its tenant, or [`OTHER_TENANTS`].
    pub tenant: Arc<str>,
    /// Its status.
    pub status: &'static str,
    /// So many since start.
    pub count: u64,
}

fn zeros(length: usize) -> Counts {
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
        let all = of.events().all();
        all.iter().find(|count| &*count.tenant == tenant && count.status == status).map(|count| count.count)
    }

    #[test]
    fn named_tenants_are_there_from_the_start() {
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
        assert_eq!(stats.events().all().len(), (MAX_COUNTED_TENANTS + 1) * 4);
    }

    #[test]
    fn a_source_is_down_until_it_says_otherwise() {
        let stats = stats([]);
        assert!(!stats.is_up());
        assert!(stats.problem().is_some());
        stats.set_up();
        assert!(stats.is_up());
        assert_eq!(stats.problem(), None);
        stats.set_down("lost its connection");
        assert!(!stats.is_up());
        assert_eq!(stats.problem().as_deref(), Some("lost its connection"));
    }
}
