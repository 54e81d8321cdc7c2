//! Whether the relay knows the ends that its sources have for it.
//!
//! The end of a request may be in the queue while the relay is down, or while a source does not consume: reporting the request as overdue
//! would be a false alarm. So the relay waits until every source has caught up. There is no way to ask a queue with priorities whether it
//! has been read once; that a source receives nothing for a while is the next best sign.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::event::SourceName;
use crate::source::{SourceState, SourceStats};

/// A source that has consumed for this time has caught up, however much it receives: an alert comes within 10 s.
const CATCH_UP: Duration = Duration::from_secs(8);
/// A source that receives nothing for this time has caught up.
const QUIET: Duration = Duration::from_millis(900);
/// The relay waits no longer than this for sources: one that never comes back must not silence the alerts about all requests.
const MAX_WAIT: Duration = Duration::from_mins(10);

#[derive(Debug, Clone)]
pub(super) struct SourceReading {
    name: SourceName,
    state: SourceState,
    reconnects: u64,
    received: u64,
}

impl SourceReading {
    pub(super) fn of(source: &SourceStats) -> Self {
        Self {
            name: source.name().clone(),
            state: source.state().0,
            reconnects: source.reconnects(),
            received: source.received(),
        }
    }
}

/// Requests are reported as overdue while it is open.
#[derive(Debug, Default)]
pub(super) struct SourceGate {
    consuming: HashMap<SourceName, Consuming>,
    closed_since: Option<Instant>,
}

#[derive(Debug)]
struct Consuming {
    since: Instant,
    /// Another number means that it has lost its connection meanwhile.
    reconnects: u64,
    received: u64,
    last_received: Instant,
    has_caught_up: bool,
}

impl Consuming {
    fn update(&mut self, source: &SourceReading, now: Instant) {
        if self.received != source.received {
            (self.received, self.last_received) = (source.received, now);
        }
        self.has_caught_up |=
            now.duration_since(self.last_received) >= QUIET || now.duration_since(self.since) >= CATCH_UP;
    }
}

impl SourceGate {
    /// To be called about each second, with all sources of the configuration.
    pub(super) fn is_open(&mut self, sources: Vec<SourceReading>, now: Instant) -> bool {
        let stands_by = sources.iter().any(|source| source.state == SourceState::Standby);
        let mut before = std::mem::take(&mut self.consuming);
        let mut have_caught_up = true;
        for source in sources {
            if source.state != SourceState::Consuming {
                have_caught_up = false;
                continue;
            }
            let known = before.remove(&source.name).filter(|known| known.reconnects == source.reconnects);
            let mut consuming = known.unwrap_or(Consuming {
                since: now,
                reconnects: source.reconnects,
                received: source.received,
                last_received: now,
                has_caught_up: false,
            });
            consuming.update(&source, now);
            have_caught_up &= consuming.has_caught_up;
            self.consuming.insert(source.name, consuming);
        }
        if have_caught_up {
            self.closed_since = None;
            return true;
        }
        let closed_since = *self.closed_since.get_or_insert(now);
        // Another relay receives the ends: this one will never know them.
        !stands_by && now.duration_since(closed_since) >= MAX_WAIT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A gate whose clock the test sets.
    struct Setup {
        gate: SourceGate,
        begin: Instant,
    }

    impl Setup {
        fn new() -> Self {
            Self { gate: SourceGate::default(), begin: Instant::now() }
        }

        /// Whether the gate is open that many seconds after the beginning.
        fn at(&mut self, seconds: u64, sources: &[SourceReading]) -> bool {
            self.gate.is_open(sources.to_vec(), self.begin + Duration::from_secs(seconds))
        }
    }

    fn source(name: &str, state: SourceState, received: u64) -> SourceReading {
        SourceReading { name: SourceName::new(name), state, reconnects: 0, received }
    }

    fn consuming(received: u64) -> SourceReading {
        source("regards", SourceState::Consuming, received)
    }

    #[test]
    fn a_source_has_caught_up_when_it_receives_nothing_for_a_second() {
        let mut setup = Setup::new();
        let open = [0, 10, 20, 20, 30].into_iter().zip(0..).map(|(received, at)| setup.at(at, &[consuming(received)]));
        assert_eq!(open.collect::<Vec<_>>(), [false, false, false, true, true]);
    }

    #[test]
    fn a_source_that_always_receives_has_caught_up_after_its_time() {
        let mut setup = Setup::new();
        let open: Vec<_> = (0..10).map(|at| setup.at(at, &[consuming(at)])).collect();
        assert_eq!(open.iter().position(|open| *open), Some(8));
    }

    #[test]
    fn the_gate_is_closed_during_an_outage_and_until_the_source_has_caught_up_again() {
        let mut setup = Setup::new();
        setup.at(0, &[consuming(5)]);
        assert!(setup.at(1, &[consuming(5)]));
        for at in 2..100 {
            assert!(!setup.at(at, &[source("regards", SourceState::Down, 5)]));
        }
        assert!(!setup.at(100, &[consuming(5)]));
        assert!(!setup.at(101, &[consuming(6)]));
        assert!(setup.at(102, &[consuming(6)]));
        // An outage between two looks.
        assert!(!setup.at(103, &[SourceReading { reconnects: 1, ..consuming(6) }]));
    }

    #[test]
    fn one_source_that_is_down_or_paused_closes_the_gate_for_its_time_only() {
        for state in [SourceState::Down, SourceState::Paused] {
            let mut setup = Setup::new();
            let mut at = |seconds| setup.at(seconds, &[consuming(5), source("other", state, 0)]);
            assert_eq!([0, 1, 599, 600, 1_000].map(&mut at), [false, false, false, true, true], "{state:?}");
        }
    }

    #[test]
    fn a_relay_that_stands_by_never_opens_the_gate() {
        let mut setup = Setup::new();
        let mut at = |seconds| setup.at(seconds, &[source("regards", SourceState::Standby, 5)]);
        assert_eq!([0, 1, 600, 100_000].map(&mut at), [false; 4]);
    }

    #[test]
    fn a_source_that_a_reload_removed_is_not_waited_for() {
        let mut setup = Setup::new();
        let other = source("other", SourceState::Down, 0);
        setup.at(0, &[consuming(5), other.clone()]);
        assert!(!setup.at(1, &[consuming(5), other]));
        assert!(setup.at(2, &[consuming(5)]));
    }
}
