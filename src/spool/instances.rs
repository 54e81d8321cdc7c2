//! The relays that use or want a spool that several machines can reach.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A relay of the spool, as the database knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Its machine and its process, as in `relay-1 (process 4711)`.
    pub name: String,
    /// Of each shard that it has; none: it stands by.
    pub leases: Vec<LeaseOfInstance>,
    configuration: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseOfInstance {
    /// Whose queue the shard is about; none: all sources that have one queue.
    pub source: Option<String>,
    /// Higher than that of each owner before.
    pub epoch: i64,
    /// How long it lasts if it is not renewed.
    pub remaining: Duration,
}

/// The database's numbers begin with 1.
const UNREGISTERED: i64 = 0;

/// An unknown configuration: that of a command, which routes nothing.
const UNKNOWN: i64 = 0;

impl Instance {
    /// Whether it is a relay, and not a command that has the spool open.
    #[must_use]
    pub fn is_relay(&self) -> bool {
        self.configuration != UNKNOWN
    }

    pub(super) fn new(name: String, leases: Vec<LeaseOfInstance>, configuration: i64) -> Self {
        Self { name, leases, configuration }
    }
}

/// The relays of a spool as this one sees them, and what it tells them.
#[derive(Debug, Default)]
pub struct Instances {
    /// The hash of this relay's configuration.
    configuration: AtomicI64,
    /// Its number in the database; [`UNREGISTERED`] until it has one.
    registered: AtomicI64,
    is_leaving: AtomicBool,
    seen: Mutex<Vec<Instance>>,
}

impl Instances {
    pub fn set_configuration(&self, hash: u64) {
        self.configuration.store(hash.cast_signed(), Ordering::Relaxed);
    }

    pub(super) fn configuration(&self) -> i64 {
        self.configuration.load(Ordering::Relaxed)
    }

    pub(super) fn registered(&self) -> Option<i64> {
        Some(self.registered.load(Ordering::Relaxed)).filter(|number| *number != UNREGISTERED)
    }

    pub(super) fn set_registered(&self, number: i64) {
        self.registered.store(number, Ordering::Relaxed);
    }

    /// This relay stops: when it has given up its last shard, the others no longer count it.
    pub fn set_leaving(&self) {
        self.is_leaving.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Relaxed)
    }

    /// All relays that were seen lately, this one included.
    #[must_use]
    pub fn all(&self) -> Vec<Instance> {
        self.seen().clone()
    }

    /// Whether that relay has another configuration than this one.
    #[must_use]
    pub fn differs(&self, instance: &Instance) -> bool {
        let own = self.configuration();
        ![own, UNKNOWN].contains(&instance.configuration) && own != UNKNOWN
    }

    /// The names of relays with another configuration.
    #[must_use]
    pub fn differing(&self) -> Vec<String> {
        self.all().into_iter().filter(|instance| self.differs(instance)).map(|instance| instance.name).collect()
    }

    /// Notes what the database knows now, and warns of other configurations when they change.
    pub(super) fn update(&self, seen: Vec<Instance>) {
        let before = self.differing();
        *self.seen() = seen;
        let differing = self.differing();
        if differing == before {
            return;
        }
        match warning(&differing) {
            None => tracing::info!("all relays of the spool have the same configuration again"),
            Some(warning) => tracing::warn!(error = %warning, "two relays of the spool have different configurations"),
        }
    }

    fn seen(&self) -> MutexGuard<'_, Vec<Instance>> {
        // No code runs under the lock that could leave the list half changed.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name of this machine.
pub(super) fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// What to do about relays with another configuration, if there are any.
#[must_use]
pub fn warning(differing: &[String]) -> Option<String> {
    (!differing.is_empty()).then(|| {
        format!(
            "{} has another configuration than this relay: what becomes of an event depends on which of them works; deploy the same file on both",
            differing.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_configurations_are_compared() {
        let seen = [("same", 7), ("command", UNKNOWN), ("other", -8)];
        let instances = Instances::default();
        instances.update(seen.map(|(name, hash)| Instance::new(name.to_owned(), Vec::new(), hash)).into());
        assert!(instances.differing().is_empty(), "this one is a command");
        instances.set_configuration(7);
        assert_eq!(instances.differing(), ["other"]);
        assert!(warning(&instances.differing()).unwrap().starts_with("other has another configuration"));
    }
}
