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
/// The relay waits no longer than this for a source: one that never comes back must not silence the alerts about all requests.
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
    sources: HashMap<SourceName, Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    /// None: it does not consume.
    consuming: Option<Consuming>,
    /// Since when it has not caught up.
    behind_since: Option<Instant>,
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
    fn new(source: &SourceReading, now: Instant) -> Self {
        let &SourceReading { reconnects, received, .. } = source;
        Self { since: now, reconnects, received, last_received: now, has_caught_up: false }
    }

    fn update(&mut self, received: u64, now: Instant) {
        if self.received != received {
            (self.received, self.last_received) = (received, now);
        }
        self.has_caught_up |=
            now.duration_since(self.last_received) >= QUIET || now.duration_since(self.since) >= CATCH_UP;
    }
}

impl Progress {
    /// Whether the relay has to wait for the source.
    fn update(&mut self, source: &SourceReading, now: Instant) -> bool {
        let is_consuming = source.state == SourceState::Consuming;
        let known = self.consuming.take().filter(|known| is_consuming && known.reconnects == source.reconnects);
        self.consuming = is_consuming.then(|| known.unwrap_or_else(|| Consuming::new(source, now)));
        if let Some(consuming) = &mut self.consuming {
            consuming.update(source.received, now);
            if consuming.has_caught_up {
                self.behind_since = None;
                return false;
            }
        }
        let behind_since = *self.behind_since.get_or_insert(now);
        // While it stands by, another relay receives the ends: this one will never know them.
        source.state == SourceState::Standby || now.duration_since(behind_since) < MAX_WAIT
    }
}

impl SourceGate {
    /// To be called about each second, with all sources of the configuration.
    pub(super) fn is_open(&mut self, sources: &[SourceReading], now: Instant) -> bool {
        self.sources.retain(|name, _| sources.iter().any(|source| source.name == *name));
        let mut is_open = true;
        for source in sources {
            let progress = self.sources.entry(source.name.clone()).or_default();
            is_open &= !progress.update(source, now);
        }
        is_open
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
            self.gate.is_open(sources, self.begin + Duration::from_secs(seconds))
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
    fn a_source_that_never_comes_back_opens_no_gate_to_the_outage_of_another_one() {
        let mut setup = Setup::new();
        let gone = source("gone", SourceState::Down, 0);
        let mut at = |seconds, regards: SourceReading| setup.at(seconds, &[regards, gone.clone()]);
        assert_eq!([0, 1, 600].map(|seconds| at(seconds, consuming(5))), [false, false, true]);
        assert!(!at(700, source("regards", SourceState::Down, 5)));
        assert!(!at(701, consuming(6)));
        assert!(at(702, consuming(6)));
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
