//! The last error that librdkafka reported. A record that timed out has it as its cause, as its own report says only that it
//! timed out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode as Code;

use super::error_class::{ErrorClass, classify};
use super::reasons::explain_reason;
use crate::sink::{Blame, CANCELLED};

/// The same error is logged again after this long.
const LOG_AGAIN_AFTER: Duration = Duration::from_mins(1);
/// The longest reason that is kept, in characters: part of the text is sent by the broker.
const MAX_REASON: usize = 500;

#[derive(Debug, Default)]
pub(super) struct LastError {
    /// Read without the lock for each delivered record.
    is_set: AtomicBool,
    state: Mutex<LastErrorState>,
}

#[derive(Debug, Default)]
struct LastErrorState {
    reason: Option<String>,
    /// When each code was last logged. Bounded by the number of codes.
    logged: Vec<(Code, Instant)>,
}

impl LastError {
    /// Records an error. Returns whether it is to be logged.
    pub(super) fn record(&self, code: Code, reason: &str) -> bool {
        self.is_set.store(true, Ordering::Release);
        let mut state = self.lock();
        // "All brokers are down" says less than the error of the last broker.
        if code == Code::AllBrokersDown && state.reason.is_some() {
            return false;
        }
        state.reason = Some(explain_reason(reason).chars().take(MAX_REASON).collect());
        let now = Instant::now();
        match state.logged.iter_mut().find(|(logged, _)| *logged == code) {
            Some((_, at)) if now.duration_since(*at) < LOG_AGAIN_AFTER => return false,
            Some((_, at)) => *at = now,
            None => state.logged.push((code, now)),
        }
        true
    }

    /// Called when a record was delivered.
    pub(super) fn clear(&self) {
        if self.is_set.load(Ordering::Acquire) {
            self.is_set.store(false, Ordering::Release);
            self.lock().reason = None;
        }
    }

    /// Whether there was an error since the last delivered record.
    pub(super) fn is_set(&self) -> bool {
        self.is_set.load(Ordering::Acquire)
    }

    /// The cause of a failed attempt to produce to that topic.
    pub(super) fn cause(&self, code: Code, topic: &str) -> String {
        let what = describe(code, topic);
        if classify(code) == ErrorClass::Retry(Blame::Sink)
            && let Some(reason) = self.reason()
        {
            return format!("{what}: {reason}");
        }
        what
    }

    /// The last error, if no record was delivered since.
    pub(super) fn reason(&self) -> Option<String> {
        self.lock().reason.clone()
    }

    fn lock(&self) -> MutexGuard<'_, LastErrorState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Appended to the error if a topic doesn't exist.
pub(super) const AUTO_CREATE_HINT: &str =
    "the relay asks the brokers to create topics only with `options: { allow.auto.create.topics: true }`";

fn describe(code: Code, topic: &str) -> String {
    match code {
        Code::MessageTimedOut => "no broker accepted the record in time".to_owned(),
        Code::UnknownTopic | Code::UnknownTopicOrPartition => {
            format!("topic {topic} doesn't exist; create it ({AUTO_CREATE_HINT})")
        }
        Code::TopicAuthorizationFailed => format!("the user may not write to topic {topic}"),
        Code::MessageSizeTooLarge => {
            format!("the record is larger than `max.message.bytes` of topic {topic} or `message.max.bytes` of the sink")
        }
        Code::PurgeQueue => CANCELLED.to_owned(),
        Code::PurgeInflight => "abandoned before a broker answered".to_owned(),
        Code::QueueFull => "the producer's queue is full (`queue.buffering.max.messages`)".to_owned(),
        Code::Fatal => "the Kafka producer failed fatally and is being rebuilt".to_owned(),
        other => format!("the broker or librdkafka refused the record ({other})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_has_the_last_error_as_its_cause_until_a_record_is_delivered() {
        let last_error = LastError::default();
        assert!(last_error.record(Code::Authentication, "SASL authentication failed (after 7ms in state AUTH)"));
        last_error.record(Code::AllBrokersDown, "1/1 brokers are down");
        assert_eq!(
            last_error.cause(Code::MessageTimedOut, "t"),
            "no broker accepted the record in time: SASL authentication failed"
        );
        assert_eq!(last_error.cause(Code::TopicAuthorizationFailed, "t"), "the user may not write to topic t");
        last_error.clear();
        assert_eq!(last_error.cause(Code::MessageTimedOut, "t"), "no broker accepted the record in time");
    }

    #[test]
    fn the_same_error_is_logged_once() {
        let last_error = LastError::default();
        assert!(last_error.record(Code::BrokerTransportFailure, "refused"));
        assert!(!last_error.record(Code::BrokerTransportFailure, "refused (after 1 ms)"));
        assert!(last_error.record(Code::Authentication, "failed"));
        last_error.clear();
        assert!(!last_error.record(Code::BrokerTransportFailure, "refused"));
    }
}
