//! Decides whether attempts may begin: all, one probe at a time, or none.
//!
//! Five failures in a row that are the sink's own open the breaker. So do refusals of ten different events in a row: the sink is then at
//! fault, not the events. While it is open, one attempt is made after each back-off, and only a delivery closes it. A pause lets nothing
//! through until it ends: at a time (`Retry-After`), or when a person resumes the sink (after `pause`, or 410). Both outlive the process.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::retry::backoff;
use super::state::{ON_REQUEST, OpenBreaker, Pause, PersistedState};
use crate::clock::MonotonicTime;
use crate::config::Retry;
use crate::sink::{AttemptId, MAX_RETRY_AFTER};

const FAILURES: u32 = 5;
/// So many different events in a row that were refused, or whose value doesn't fit, blame the sink.
pub(super) const IN_A_ROW: usize = 10;

#[derive(Debug, Default)]
pub struct Breaker {
    /// Failures in a row that are the sink's own.
    failures: u32,
    open: Option<OpenState>,
    pause: Option<Pause>,
    /// Different events that were refused since the last delivery, [`IN_A_ROW`] at most.
    refused: Vec<Uuid>,
    /// Whether [`IN_A_ROW`] different events were refused or didn't fit, and none was delivered since.
    refuses_everything: bool,
}

#[derive(Debug)]
struct OpenState {
    backoffs: u32,
    until: Instant,
    probe: Option<AttemptId>,
    /// The error of the last attempt.
    error: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Any number of attempts may begin.
    Open,
    /// The breaker is open: one attempt may begin then. None: the probe is in flight.
    Probe(Option<Instant>),
    /// No attempt may begin until then. None: until a person resumes the sink.
    Paused(Option<Instant>),
}

impl Breaker {
    /// Restores what [`save`](Self::save) stored. From now on no probe waits longer than `max_backoff`, and no pause longer than its whole
    /// length: the times may come from a wrong clock of an earlier boot.
    #[must_use]
    pub fn restore(state: &PersistedState, max_backoff: Duration) -> Self {
        let now = MonotonicTime::now();
        let open = state.open.clone().map(|OpenBreaker { backoffs, until, error }| OpenState {
            backoffs,
            until: Instant::now() + until.remaining().min(max_backoff),
            probe: None,
            error,
        });
        let pause = state.pause.clone().map(|pause| {
            let longest = pause.length.map_or(MAX_RETRY_AFTER, Duration::from_millis);
            Pause { until: pause.until.map(|until| until.min(now.after(longest))), ..pause }
        });
        Self { open, pause, refuses_everything: state.refuses_everything, ..Self::default() }
    }

    pub fn save(&self, state: &mut PersistedState) {
        state.pause.clone_from(&self.pause);
        state.refuses_everything = self.refuses_everything;
        state.open = self.open.as_ref().map(|open| OpenBreaker {
            backoffs: open.backoffs,
            until: MonotonicTime::now().after(open.until.saturating_duration_since(Instant::now())),
            error: open.error.clone(),
        });
    }

    /// A pause whose time has come still counts, until [`end_pause`](Self::end_pause).
    #[must_use]
    pub fn gate(&self) -> Gate {
        match (&self.pause, &self.open) {
            (Some(pause), _) => Gate::Paused(pause.until.map(|until| Instant::now() + until.remaining())),
            (None, Some(open)) => Gate::Probe(open.probe.is_none().then_some(open.until)),
            (None, None) => Gate::Open,
        }
    }

    #[must_use]
    pub fn allows_attempt(&self) -> bool {
        match self.gate() {
            Gate::Open => true,
            Gate::Probe(at) => at.is_some_and(|at| at <= Instant::now()),
            Gate::Paused(_) => false,
        }
    }

    /// Whether the breaker is closed and the sink is not paused.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.pause.is_none() && self.open.is_none()
    }

    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    #[must_use]
    pub fn pause(&self) -> Option<&Pause> {
        self.pause.as_ref()
    }

    /// To be called when an attempt starts. If the breaker is open, the attempt is its probe.
    pub fn on_attempt_start(&mut self, attempt: AttemptId) {
        if let Some(open) = &mut self.open {
            open.probe = Some(attempt);
        }
    }

    /// To be called if the result of an attempt says nothing about the sink.
    pub fn on_attempt_end(&mut self, attempt: AttemptId) {
        if let Some(open) = self.open.as_mut().filter(|open| open.probe == Some(attempt)) {
            open.probe = None;
        }
    }

    /// To be called if the sink confirmed an event. Returns true if the breaker was open, or the sink had refused everything.
    pub fn on_success(&mut self) -> bool {
        self.failures = 0;
        self.refused.clear();
        std::mem::take(&mut self.refuses_everything) | self.open.take().is_some()
    }

    /// To be called if an attempt failed, but the sink answered. If the breaker is open, another probe may follow at once.
    pub fn on_answer(&mut self, attempt: AttemptId) {
        self.failures = 0;
        self.on_attempt_end(attempt);
    }

    /// To be called if the sink refused an event. Returns true if the breaker has opened, or stays open for another back-off.
    pub fn on_refusal(&mut self, attempt: AttemptId, event: Uuid, retry: &Retry, error: &str) -> bool {
        self.failures = 0;
        if !self.refuses_everything && !self.refused.contains(&event) {
            self.refused.push(event);
        }
        self.refuses_everything |= self.refused.len() >= IN_A_ROW;
        match &mut self.open {
            Some(open) if open.probe == Some(attempt) => {
                open.fail(retry, error);
                true
            }
            None if self.refuses_everything => {
                self.open(retry, error);
                true
            }
            // Too few so far, or the attempt began before the breaker opened.
            _ => false,
        }
    }

    /// To be called if the values of ten different events in a row don't fit the sink's schema, and for further ones until one is
    /// delivered. Returns true if the breaker has opened, or stays open for another back-off.
    pub fn on_misfits(&mut self, attempt: AttemptId, retry: &Retry, error: &str) -> bool {
        self.refuses_everything = true;
        match &mut self.open {
            Some(open) if open.probe == Some(attempt) => {
                open.fail(retry, error);
                true
            }
            None => {
                self.open(retry, error);
                true
            }
            Some(_) => false,
        }
    }

    /// Whether the sink refused ten different events in a row and has confirmed none since: a refusal then says nothing about its event.
    #[must_use]
    pub fn refuses_everything(&self) -> bool {
        self.refuses_everything
    }

    /// To be called if an attempt failed because of the sink. Returns true if the breaker has opened, or stays open for another back-off.
    pub fn on_failure(&mut self, attempt: AttemptId, retry: &Retry, error: &str) -> bool {
        self.failures = self.failures.saturating_add(1);
        match &mut self.open {
            Some(open) if open.probe == Some(attempt) => {
                open.fail(retry, error);
                true
            }
            None if self.failures >= FAILURES => {
                self.open(retry, error);
                true
            }
            // Too few so far, or the attempt began before the breaker opened.
            _ => false,
        }
    }

    fn open(&mut self, retry: &Retry, error: &str) {
        let until = Instant::now() + backoff(retry, 1);
        self.open = Some(OpenState { backoffs: 1, until, probe: None, error: error.to_owned() });
    }

    /// Pauses the sink for `time`. A pause that ends later, or never, stays.
    pub fn pause_for(&mut self, time: Duration, reason: String) {
        let until = MonotonicTime::now().after(time);
        let length = u64::try_from(time.as_millis()).ok();
        match &mut self.pause {
            Some(Pause { until: None, .. }) => {}
            Some(pause) if pause.until >= Some(until) => {}
            pause => *pause = Some(Pause { reason, until: Some(until), length }),
        }
    }

    /// Pauses the sink until [`resume`](Self::resume).
    pub fn pause_until_resumed(&mut self, reason: String) {
        self.pause = Some(Pause { reason, until: None, length: None });
    }

    /// Ends the pause, and closes the breaker: a person who resumes a sink expects it to work.
    pub fn resume(&mut self) {
        *self = self.closed();
    }

    /// To be called if the sink was replaced. A pause stays only if a person asked for it.
    pub fn reset_for_new_sink(&mut self) {
        let pause = self.pause.take().filter(|pause| pause.reason == ON_REQUEST);
        *self = Self { pause, ..self.closed() };
    }

    /// A closed breaker. If the sink refused everything, no event becomes a dead letter by refusal before one is delivered.
    fn closed(&self) -> Self {
        Self { refuses_everything: self.refuses_everything, ..Self::default() }
    }

    /// Ends a pause whose time is over. Returns true if there was one.
    pub fn end_pause(&mut self) -> bool {
        let is_over = self.pause.as_ref().is_some_and(|pause| pause.until.is_some_and(MonotonicTime::has_passed));
        if is_over {
            self.pause = None;
        }
        is_over
    }
}

impl OpenState {
    fn fail(&mut self, retry: &Retry, error: &str) {
        self.backoffs = self.backoffs.saturating_add(1);
        self.until = Instant::now() + backoff(retry, self.backoffs);
        self.probe = None;
        error.clone_into(&mut self.error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY: Retry = Retry {
        initial_backoff: Duration::ZERO,
        max_backoff: Duration::ZERO,
        give_up_after: None,
        max_attempts: None,
        refuse_after: 3,
    };
    const SLOW: Retry = Retry {
        initial_backoff: Duration::from_hours(1),
        max_backoff: Duration::from_hours(1),
        give_up_after: None,
        max_attempts: None,
        refuse_after: 3,
    };

    /// When the next attempt may begin.
    fn next(breaker: &Breaker) -> Instant {
        match breaker.gate() {
            Gate::Probe(Some(at)) | Gate::Paused(Some(at)) => at,
            gate => panic!("the gate has no time: {gate:?}"),
        }
    }

    fn opened(retry: &Retry) -> Breaker {
        let mut breaker = Breaker::default();
        for attempt in 1..=5 {
            assert!(breaker.allows_attempt());
            assert_eq!(breaker.on_failure(AttemptId(attempt), retry, "down"), attempt == 5);
        }
        breaker
    }

    #[test]
    fn five_failures_in_a_row_open_the_breaker_and_a_success_closes_it() {
        let mut breaker = Breaker::default();
        for attempt in 0..20 {
            breaker.on_failure(AttemptId(attempt), &RETRY, "down");
            if attempt % 4 == 3 {
                breaker.on_success();
            }
        }
        assert!(breaker.is_closed(), "never five in a row");
        let mut breaker = opened(&RETRY);
        assert!(breaker.is_open());
        assert!(breaker.on_success());
        assert!(breaker.is_closed());
    }

    #[test]
    fn an_open_breaker_lets_one_probe_through_after_each_backoff() {
        assert!(!opened(&SLOW).allows_attempt());
        let mut breaker = opened(&RETRY);
        assert!(breaker.allows_attempt());
        breaker.on_attempt_start(AttemptId(6));
        assert!(!breaker.allows_attempt(), "one at a time");
        assert_eq!(breaker.gate(), Gate::Probe(None));
        assert!(!breaker.on_failure(AttemptId(4), &SLOW, "down"), "the attempt began before the breaker opened");
        breaker.on_attempt_end(AttemptId(6));
        assert!(breaker.allows_attempt(), "a probe without a result is followed by another");
        breaker.on_attempt_start(AttemptId(7));
        assert!(breaker.on_failure(AttemptId(7), &SLOW, "down"));
        assert!(!breaker.allows_attempt());
        assert!(next(&breaker) > Instant::now());
    }

    #[test]
    fn a_pause_ends_in_time_or_when_the_sink_is_resumed() {
        let mut breaker = Breaker::default();
        breaker.pause_for(Duration::from_hours(1), "later".to_owned());
        breaker.pause_for(Duration::from_secs(1), "sooner".to_owned());
        assert!(!breaker.allows_attempt());
        assert_eq!(breaker.pause().unwrap().reason, "later");
        assert!(!breaker.end_pause());
        breaker.pause_until_resumed("gone".to_owned());
        breaker.pause_for(Duration::ZERO, "no".to_owned());
        assert_eq!(breaker.gate(), Gate::Paused(None));
        breaker.resume();
        assert_eq!(breaker.gate(), Gate::Open);
        assert!(breaker.allows_attempt() && breaker.is_closed());
        breaker.pause_for(Duration::ZERO, "over".to_owned());
        assert!(breaker.end_pause() && breaker.is_closed() && breaker.allows_attempt());
    }

    #[test]
    fn only_a_delivery_closes_the_breaker() {
        let mut breaker = opened(&RETRY);
        breaker.on_attempt_start(AttemptId(6));
        breaker.on_answer(AttemptId(6));
        assert!(breaker.is_open() && breaker.allows_attempt(), "another probe may begin");
        breaker.on_attempt_start(AttemptId(7));
        assert!(breaker.on_refusal(AttemptId(7), Uuid::nil(), &SLOW, "400"));
        assert!(breaker.is_open() && !breaker.allows_attempt(), "the next probe waits for the back-off");
        assert!(breaker.on_success() && breaker.is_closed());
    }

    #[test]
    fn ten_different_events_refused_in_a_row_open_the_breaker_until_one_is_delivered() {
        let mut breaker = Breaker::default();
        let refuse = |breaker: &mut Breaker, event: u128| {
            breaker.on_refusal(AttemptId(1), Uuid::from_u128(event), &RETRY, "400");
        };
        for _ in 0..20 {
            refuse(&mut breaker, 1);
        }
        for event in 0..9 {
            refuse(&mut breaker, event);
        }
        assert!(breaker.is_closed() && !breaker.refuses_everything(), "nine");
        assert!(!breaker.on_success());
        for event in 0..10 {
            refuse(&mut breaker, event);
        }
        assert!(breaker.is_open() && breaker.refuses_everything());
        let mut again = Breaker::restore(&stored(&breaker), SLOW.max_backoff);
        assert!(again.is_open() && again.refuses_everything(), "also after a restart");
        again.resume();
        assert!(again.is_closed() && again.refuses_everything(), "nothing was delivered yet");
        refuse(&mut again, 11);
        assert!(again.is_open());
        assert!(again.on_success() && !again.refuses_everything());
    }

    fn stored(breaker: &Breaker) -> PersistedState {
        let mut state = PersistedState::default();
        breaker.save(&mut state);
        PersistedState::parse(state.to_json().as_deref())
    }

    #[test]
    fn pause_and_breaker_outlive_the_process() {
        assert_eq!(stored(&Breaker::default()), PersistedState::default());
        let mut breaker = opened(&SLOW);
        breaker.pause_until_resumed("gone".to_owned());
        let again = Breaker::restore(&stored(&breaker), SLOW.max_backoff);
        assert!(again.is_open());
        assert_eq!(again.pause(), breaker.pause());
        let breaker = opened(&SLOW);
        let (until, restored) = (next(&breaker), next(&Breaker::restore(&stored(&breaker), SLOW.max_backoff)));
        assert!(until.max(restored) - until.min(restored) < Duration::from_mins(1));
        assert_eq!(PersistedState::parse(Some("nonsense")), PersistedState::default());
    }

    /// The stored times are of a boot whose clock was an hour ahead.
    #[test]
    fn a_restart_makes_no_wait_longer_than_its_full_length() {
        let hour = Duration::from_hours(1);
        let soon = |breaker: &Breaker, most: u64| next(breaker) <= Instant::now() + Duration::from_secs(most);
        let mut breaker = opened(&SLOW);
        let mut state = PersistedState::default();
        breaker.save(&mut state);
        assert!(!soon(&Breaker::restore(&state, SLOW.max_backoff), 600), "it waits longer than 600 s");
        assert!(soon(&Breaker::restore(&state, Duration::from_mins(10)), 600));
        breaker = Breaker::default();
        breaker.pause_for(Duration::from_mins(1), "later".to_owned());
        let mut state = PersistedState::default();
        breaker.save(&mut state);
        let pause = state.pause.as_mut().unwrap();
        pause.until = pause.until.map(|until| until.after(hour));
        assert!(soon(&Breaker::restore(&state, SLOW.max_backoff), 60));
        let old = r#"{"pause":{"reason":"its length is unknown","until":9000000000000}}"#;
        assert!(soon(&Breaker::restore(&PersistedState::parse(Some(old)), SLOW.max_backoff), 24 * 3_600));
    }

    #[test]
    fn a_replaced_sink_stays_paused_only_if_a_person_paused_it() {
        let mut breaker = opened(&SLOW);
        breaker.pause_until_resumed("gone".to_owned());
        breaker.reset_for_new_sink();
        assert!(breaker.is_closed());
        breaker.pause_until_resumed(ON_REQUEST.to_owned());
        breaker.reset_for_new_sink();
        assert!(breaker.pause().is_some());
    }
}
