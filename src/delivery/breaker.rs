//! Whether a sink gets anything at the moment: all, one probe at a time, or nothing.
//!
//! Five failures in a row that speak of the sink itself open the breaker. While it is open one attempt goes out after each
//! back-off, and a success closes it. A pause lets nothing through until it is over: `Retry-After` says when, a person or an
//! address that is gone doesn't. Both outlive the process.

use std::time::{Duration, Instant};

use super::retry::back_off;
use super::state::{ASKED, Opened, Pause, State};
use crate::config::Retry;
use crate::sink::AttemptId;
use crate::spool::Millis;

/// So many failures in a row open it.
const FAILURES: u32 = 5;

/// The state of one sink.
#[derive(Debug, Default)]
pub struct Breaker {
    /// In a row, of attempts that speak of the sink.
    failures: u32,
    open: Option<Open>,
    pause: Option<Pause>,
}

#[derive(Debug)]
struct Open {
    /// Back-offs so far.
    times: u32,
    until: Instant,
    probe: Option<AttemptId>,
    /// How the last attempt failed.
    cause: String,
}

impl Breaker {
    /// As it was [kept](Self::keep).
    #[must_use]
    pub fn restore(state: &State) -> Self {
        let open = state.open.clone().map(|Opened { times, until, cause }| Open {
            times,
            until: Instant::now() + Millis(until).from_now(),
            probe: None,
            cause,
        });
        Self { failures: 0, open, pause: state.pause.clone() }
    }

    /// What is to be kept of it.
    pub fn keep(&self, state: &mut State) {
        state.pause.clone_from(&self.pause);
        state.open = self.open.as_ref().map(|open| Opened {
            times: open.times,
            until: Millis::now().after(open.until.saturating_duration_since(Instant::now())).0,
            cause: open.cause.clone(),
        });
    }

    /// An attempt may begin now.
    #[must_use]
    pub fn lets_through(&self) -> bool {
        self.is_over_pause()
            && self.open.as_ref().is_none_or(|open| open.probe.is_none() && open.until <= Instant::now())
    }

    /// Everything may go: it is neither open nor paused.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.pause.is_none() && self.open.is_none()
    }

    /// Only probes go out.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Why nothing goes out.
    #[must_use]
    pub fn pause(&self) -> Option<&Pause> {
        self.pause.as_ref()
    }

    /// When the next attempt may begin, if it is a matter of time that none may now.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        let now = Instant::now();
        let pause = match &self.pause {
            Some(Pause { until: None, .. }) => return None,
            Some(Pause { until: Some(until), .. }) => Some(now + Millis(*until).from_now()),
            None => None,
        };
        let open = match &self.open {
            Some(Open { probe: Some(_), .. }) => return None,
            Some(open) => Some(open.until),
            None => None,
        };
        pause.max(open)
    }

    /// An attempt begins: while it is open that is the probe.
    pub fn began(&mut self, attempt: AttemptId) {
        if let Some(open) = &mut self.open {
            open.probe = Some(attempt);
        }
    }

    /// An attempt ended and said nothing of the sink.
    pub fn ended(&mut self, attempt: AttemptId) {
        if let Some(open) = self.open.as_mut().filter(|open| open.probe == Some(attempt)) {
            open.probe = None;
        }
    }

    /// The sink took something. True: it was open until now.
    pub fn succeeded(&mut self) -> bool {
        self.failures = 0;
        self.open.take().is_some()
    }

    /// An attempt failed for a reason of the sink's. True: it is open now, or for longer.
    pub fn failed(&mut self, attempt: AttemptId, retry: &Retry, cause: &str) -> bool {
        self.failures = self.failures.saturating_add(1);
        match &mut self.open {
            Some(open) if open.probe == Some(attempt) => {
                open.times = open.times.saturating_add(1);
                open.until = Instant::now() + back_off(retry, open.times);
                open.probe = None;
                cause.clone_into(&mut open.cause);
                true
            }
            None if self.failures >= FAILURES => {
                let until = Instant::now() + back_off(retry, 1);
                self.open = Some(Open { times: 1, until, probe: None, cause: cause.to_owned() });
                true
            }
            // Too few yet, or it began before the breaker opened.
            _ => false,
        }
    }

    /// Nothing more goes out for that long. A pause that has no end stays.
    pub fn pause_for(&mut self, time: Duration, why: String) {
        let until = Millis::now().after(time).0;
        match &mut self.pause {
            Some(Pause { until: None, .. }) => {}
            Some(pause) if pause.until >= Some(until) => {}
            pause => *pause = Some(Pause { why, until: Some(until) }),
        }
    }

    /// Nothing more goes out until it is [resumed](Self::resume).
    pub fn pause_until_resumed(&mut self, why: String) {
        self.pause = Some(Pause { why, until: None });
    }

    /// The pause is over; and whoever says so thinks that the sink is well.
    pub fn resume(&mut self) {
        *self = Self::default();
    }

    /// The sink is not what it was: only what a person paused stays as it is.
    pub fn renew(&mut self) {
        let asked = self.pause.take().filter(|pause| pause.why == ASKED);
        *self = Self { pause: asked, ..Self::default() };
    }

    /// Ends a pause whose time has come. True: it did.
    pub fn end_pause(&mut self) -> bool {
        let is_over = self.pause.is_some() && self.is_over_pause();
        if is_over {
            self.pause = None;
        }
        is_over
    }

    fn is_over_pause(&self) -> bool {
        self.pause.as_ref().is_none_or(|pause| pause.until.is_some_and(|until| Millis(until) <= Millis::now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY: Retry = Retry { first: Duration::ZERO, max: Duration::ZERO, give_up_after: None, attempts: None };
    const SLOW: Retry =
        Retry { first: Duration::from_hours(1), max: Duration::from_hours(1), give_up_after: None, attempts: None };

    fn opened(retry: &Retry) -> Breaker {
        let mut breaker = Breaker::default();
        for attempt in 1..=5 {
            assert!(breaker.lets_through());
            assert_eq!(breaker.failed(AttemptId(attempt), retry, "down"), attempt == 5);
        }
        breaker
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_a_success_closes_it() {
        let mut breaker = Breaker::default();
        for attempt in 0..20 {
            breaker.failed(AttemptId(attempt), &RETRY, "down");
            if attempt % 4 == 3 {
                breaker.succeeded();
            }
        }
        assert!(breaker.is_closed(), "never five in a row");
        let mut breaker = opened(&RETRY);
        assert!(breaker.is_open());
        assert!(breaker.succeeded());
        assert!(breaker.is_closed());
    }

    #[test]
    fn while_it_is_open_one_probe_goes_out_after_each_back_off() {
        assert!(!opened(&SLOW).lets_through());
        let mut breaker = opened(&RETRY);
        assert!(breaker.lets_through());
        breaker.began(AttemptId(6));
        assert!(!breaker.lets_through(), "one at a time");
        assert_eq!(breaker.next(), None);
        assert!(!breaker.failed(AttemptId(4), &SLOW, "down"), "it began before");
        breaker.ended(AttemptId(6));
        assert!(breaker.lets_through(), "a probe that said nothing is followed by another");
        breaker.began(AttemptId(7));
        assert!(breaker.failed(AttemptId(7), &SLOW, "down"));
        assert!(!breaker.lets_through());
        assert!(breaker.next() > Some(Instant::now()));
    }

    #[test]
    fn a_pause_ends_in_time_or_when_it_is_resumed() {
        let mut breaker = Breaker::default();
        breaker.pause_for(Duration::from_hours(1), "later".to_owned());
        breaker.pause_for(Duration::from_secs(1), "sooner".to_owned());
        assert!(!breaker.lets_through());
        assert_eq!(breaker.pause().unwrap().why, "later");
        assert!(!breaker.end_pause());
        breaker.pause_until_resumed("gone".to_owned());
        breaker.pause_for(Duration::ZERO, "no".to_owned());
        assert_eq!(breaker.next(), None);
        breaker.resume();
        assert!(breaker.lets_through() && breaker.is_closed());
        breaker.pause_for(Duration::ZERO, "over".to_owned());
        assert!(breaker.lets_through() && breaker.end_pause() && breaker.is_closed());
    }

    fn kept(breaker: &Breaker) -> State {
        let mut state = State::default();
        breaker.keep(&mut state);
        State::parse(state.to_json().as_deref())
    }

    #[test]
    fn both_outlive_the_process() {
        assert_eq!(kept(&Breaker::default()), State::default());
        let mut breaker = opened(&SLOW);
        breaker.pause_until_resumed("gone".to_owned());
        let again = Breaker::restore(&kept(&breaker));
        assert!(again.is_open());
        assert_eq!(again.pause(), breaker.pause());
        let breaker = opened(&SLOW);
        let (until, restored) = (breaker.next().unwrap(), Breaker::restore(&kept(&breaker)).next().unwrap());
        assert!(until.max(restored) - until.min(restored) < Duration::from_mins(1));
        assert_eq!(State::parse(Some("nonsense")), State::default());
    }

    #[test]
    fn another_sink_of_the_name_stays_paused_only_by_a_person() {
        let mut breaker = opened(&SLOW);
        breaker.pause_until_resumed("gone".to_owned());
        breaker.renew();
        assert!(breaker.is_closed());
        breaker.pause_until_resumed(ASKED.to_owned());
        breaker.renew();
        assert!(breaker.pause().is_some());
    }
}
