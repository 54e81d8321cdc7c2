//! Whether a sink gets anything at the moment: all, one probe at a time, or nothing.
//!
//! Five failures in a row that speak of the sink itself open the breaker, and so do refusals of ten different events in a row: then the
//! sink is at fault, and not the events. While it is open one attempt goes out after each back-off, and only a delivery closes it. A pause lets nothing through until it is over: `Retry-After` says when, a person or an
//! address that is gone doesn't. Both outlive the process.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::retry::back_off;
use super::state::{ASKED, Opened, Pause, State};
use crate::clock::MonotonicTime;
use crate::config::Retry;
use crate::sink::{AttemptId, MAX_RETRY_AFTER};

/// So many failures in a row open it.
const FAILURES: u32 = 5;
/// So many different events that were refused in a row do, too.
pub(super) const REFUSED_IN_A_ROW: usize = 10;

/// The state of one sink.
#[derive(Debug, Default)]
pub struct Breaker {
    /// In a row, of attempts that speak of the sink.
    failures: u32,
    open: Option<Open>,
    pause: Option<Pause>,
    /// The different events that were refused since the last delivery, no more than are enough.
    refused: Vec<Uuid>,
    /// They were enough.
    refuses_everything: bool,
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
    /// As it was [kept](Self::keep), but that no probe waits longer than `max_back_off` from now on, and no pause longer than it was when
    /// it began: what was kept in another boot can be dated by a clock that was wrong.
    #[must_use]
    pub fn restore(state: &State, max_back_off: Duration) -> Self {
        let now = MonotonicTime::now();
        let open = state.open.clone().map(|Opened { times, until, cause }| Open {
            times,
            until: Instant::now() + until.remaining().min(max_back_off),
            probe: None,
            cause,
        });
        let pause = state.pause.clone().map(|pause| {
            let longest = pause.length.map_or(MAX_RETRY_AFTER, Duration::from_millis);
            Pause { until: pause.until.map(|until| until.min(now.after(longest))), ..pause }
        });
        Self { open, pause, refuses_everything: state.refuses_everything, ..Self::default() }
    }

    /// What is to be kept of it.
    pub fn keep(&self, state: &mut State) {
        state.pause.clone_from(&self.pause);
        state.refuses_everything = self.refuses_everything;
        state.open = self.open.as_ref().map(|open| Opened {
            times: open.times,
            until: MonotonicTime::now().after(open.until.saturating_duration_since(Instant::now())),
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
            Some(Pause { until: Some(until), .. }) => Some(now + until.remaining()),
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

    /// The sink took something. True: it was open until now, or refused everything.
    pub fn succeeded(&mut self) -> bool {
        self.failures = 0;
        self.refused.clear();
        std::mem::take(&mut self.refuses_everything) | self.open.take().is_some()
    }

    /// An attempt failed for a reason that is not the sink's: it answered. Where it is open another probe may follow.
    pub fn answered(&mut self, attempt: AttemptId) {
        self.failures = 0;
        self.ended(attempt);
    }

    /// The sink refused that event. True: it is open now, or for longer.
    pub fn refused(&mut self, attempt: AttemptId, event: Uuid, retry: &Retry, cause: &str) -> bool {
        self.failures = 0;
        if !self.refuses_everything && !self.refused.contains(&event) {
            self.refused.push(event);
        }
        self.refuses_everything |= self.refused.len() >= REFUSED_IN_A_ROW;
        match &mut self.open {
            Some(open) if open.probe == Some(attempt) => {
                open.fail(retry, cause);
                true
            }
            None if self.refuses_everything => {
                self.open(retry, cause);
                true
            }
            // Too few yet, or it began before the breaker opened.
            _ => false,
        }
    }

    /// It refused ten different events in a row, and has taken none since: a refusal says nothing of its event.
    #[must_use]
    pub fn refuses_everything(&self) -> bool {
        self.refuses_everything
    }

    /// An attempt failed for a reason of the sink's. True: it is open now, or for longer.
    pub fn failed(&mut self, attempt: AttemptId, retry: &Retry, cause: &str) -> bool {
        self.failures = self.failures.saturating_add(1);
        match &mut self.open {
            Some(open) if open.probe == Some(attempt) => {
                open.fail(retry, cause);
                true
            }
            None if self.failures >= FAILURES => {
                self.open(retry, cause);
                true
            }
            // Too few yet, or it began before the breaker opened.
            _ => false,
        }
    }

    fn open(&mut self, retry: &Retry, cause: &str) {
        let until = Instant::now() + back_off(retry, 1);
        self.open = Some(Open { times: 1, until, probe: None, cause: cause.to_owned() });
    }

    /// Nothing more goes out for that long. A pause that has no end stays.
    pub fn pause_for(&mut self, time: Duration, why: String) {
        let until = MonotonicTime::now().after(time);
        let length = u64::try_from(time.as_millis()).ok();
        match &mut self.pause {
            Some(Pause { until: None, .. }) => {}
            Some(pause) if pause.until >= Some(until) => {}
            pause => *pause = Some(Pause { why, until: Some(until), length }),
        }
    }

    /// Nothing more goes out until it is [resumed](Self::resume).
    pub fn pause_until_resumed(&mut self, why: String) {
        self.pause = Some(Pause { why, until: None, length: None });
    }

    /// The pause is over; and whoever says so thinks that the sink is well.
    pub fn resume(&mut self) {
        *self = self.without_trouble();
    }

    /// The sink is not what it was: only what a person paused stays as it is.
    pub fn renew(&mut self) {
        let asked = self.pause.take().filter(|pause| pause.why == ASKED);
        *self = Self { pause: asked, ..self.without_trouble() };
    }

    /// As if nothing had happened, but that no event dies of refusals before one is delivered.
    fn without_trouble(&self) -> Self {
        Self { refuses_everything: self.refuses_everything, ..Self::default() }
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
        self.pause.as_ref().is_none_or(|pause| pause.until.is_some_and(MonotonicTime::has_passed))
    }
}

impl Open {
    /// Its probe failed.
    fn fail(&mut self, retry: &Retry, cause: &str) {
        self.times = self.times.saturating_add(1);
        self.until = Instant::now() + back_off(retry, self.times);
        self.probe = None;
        cause.clone_into(&mut self.cause);
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

    #[test]
    fn only_a_delivery_closes_it() {
        let mut breaker = opened(&RETRY);
        breaker.began(AttemptId(6));
        breaker.answered(AttemptId(6));
        assert!(breaker.is_open() && breaker.lets_through(), "another probe follows");
        breaker.began(AttemptId(7));
        assert!(breaker.refused(AttemptId(7), Uuid::nil(), &SLOW, "400"));
        assert!(breaker.is_open() && !breaker.lets_through(), "after a back-off");
        assert!(breaker.succeeded() && breaker.is_closed());
    }

    #[test]
    fn ten_different_events_refused_in_a_row_open_it_until_one_is_delivered() {
        let mut breaker = Breaker::default();
        let refuse = |breaker: &mut Breaker, event: u128| {
            breaker.refused(AttemptId(1), Uuid::from_u128(event), &RETRY, "400");
        };
        for _ in 0..20 {
            refuse(&mut breaker, 1);
        }
        for event in 0..9 {
            refuse(&mut breaker, event);
        }
        assert!(breaker.is_closed() && !breaker.refuses_everything(), "nine");
        assert!(!breaker.succeeded());
        for event in 0..10 {
            refuse(&mut breaker, event);
        }
        assert!(breaker.is_open() && breaker.refuses_everything());
        let mut again = Breaker::restore(&kept(&breaker), SLOW.max_backoff);
        assert!(again.is_open() && again.refuses_everything(), "over a restart, too");
        again.resume();
        assert!(again.is_closed() && again.refuses_everything(), "nothing was delivered yet");
        refuse(&mut again, 11);
        assert!(again.is_open());
        assert!(again.succeeded() && !again.refuses_everything());
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
        let again = Breaker::restore(&kept(&breaker), SLOW.max_backoff);
        assert!(again.is_open());
        assert_eq!(again.pause(), breaker.pause());
        let breaker = opened(&SLOW);
        let (until, restored) =
            (breaker.next().unwrap(), Breaker::restore(&kept(&breaker), SLOW.max_backoff).next().unwrap());
        assert!(until.max(restored) - until.min(restored) < Duration::from_mins(1));
        assert_eq!(State::parse(Some("nonsense")), State::default());
    }

    /// What was kept is of a boot whose clock was an hour ahead.
    #[test]
    fn what_seems_far_away_after_a_restart_is_waited_for_no_longer_than_it_was_to_be() {
        let hour = Duration::from_hours(1);
        let soon = |breaker: &Breaker, most: u64| breaker.next().unwrap() <= Instant::now() + Duration::from_secs(most);
        let mut breaker = opened(&SLOW);
        let mut state = State::default();
        breaker.keep(&mut state);
        assert!(!soon(&Breaker::restore(&state, SLOW.max_backoff), 600), "it may wait so long");
        assert!(soon(&Breaker::restore(&state, Duration::from_mins(10)), 600));
        breaker = Breaker::default();
        breaker.pause_for(Duration::from_mins(1), "later".to_owned());
        let mut state = State::default();
        breaker.keep(&mut state);
        let pause = state.pause.as_mut().unwrap();
        pause.until = pause.until.map(|until| until.after(hour));
        assert!(soon(&Breaker::restore(&state, SLOW.max_backoff), 60));
        // Kept by an older version, which did not say how long it was.
        let old = r#"{"pause":{"why":"later","until":9000000000000}}"#;
        assert!(soon(&Breaker::restore(&State::parse(Some(old)), SLOW.max_backoff), 24 * 3_600));
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
