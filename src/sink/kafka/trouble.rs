//! What librdkafka last said is wrong, so that a record that timed out can say why: its own report says only that it did.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode as Code;

use super::verdict::{Judgement, judge};
use super::words::in_plain_words;
use crate::sink::Blame;

/// The same trouble is said again in the log after this long.
const SAY_AGAIN: Duration = Duration::from_mins(1);
/// Longer reasons are cut, in characters: brokers send some of the text.
const MAX_REASON: usize = 500;

/// The last trouble.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    any: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: Option<String>,
    /// When each was last said. No more than there are codes.
    said: Vec<(Code, Instant)>,
}

impl Trouble {
    /// librdkafka says that. True if it is news.
    pub(super) fn note(&self, code: Code, reason: &str) -> bool {
        self.any.store(true, Ordering::Release);
        let mut state = self.lock();
        // That all brokers are down says less than what the last of them said.
        if code == Code::AllBrokersDown && state.last.is_some() {
            return false;
        }
        state.last = Some(in_plain_words(reason).chars().take(MAX_REASON).collect());
        let now = Instant::now();
        match state.said.iter_mut().find(|(said, _)| *said == code) {
            Some((_, at)) if now.duration_since(*at) < SAY_AGAIN => return false,
            Some((_, at)) => *at = now,
            None => state.said.push((code, now)),
        }
        true
    }

    /// A record was delivered.
    pub(super) fn over(&self) {
        if self.any.load(Ordering::Acquire) {
            self.any.store(false, Ordering::Release);
            self.lock().last = None;
        }
    }

    /// Something is wrong, and no record was delivered since.
    pub(super) fn is_any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// The cause of a failure of a record for that topic, for people.
    pub(super) fn cause(&self, code: Code, topic: &str) -> String {
        let what = in_words(code, topic);
        if judge(code) == Judgement::Retry(Blame::Sink)
            && let Some(reason) = self.last()
        {
            return format!("{what}: {reason}");
        }
        what
    }

    /// What librdkafka last said, while no record was delivered since.
    pub(super) fn last(&self) -> Option<String> {
        self.lock().last.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who creates topics, when it is not a person.
pub(super) const AUTO_CREATE: &str =
    "the relay asks the brokers to create topics only with `options: { allow.auto.create.topics: true }`";

fn in_words(code: Code, topic: &str) -> String {
    match code {
        Code::MessageTimedOut => "no broker took the record in time".to_owned(),
        Code::UnknownTopic | Code::UnknownTopicOrPartition => {
            format!("topic {topic} doesn't exist; create it ({AUTO_CREATE})")
        }
        Code::TopicAuthorizationFailed => format!("no right to write to topic {topic}"),
        Code::MessageSizeTooLarge => {
            format!("the record is larger than the max.message.bytes of topic {topic} or the sink's message.max.bytes")
        }
        Code::PurgeQueue => "taken back before it was sent".to_owned(),
        Code::PurgeInflight => "given up before it was answered".to_owned(),
        Code::QueueFull => "librdkafka's queue is full".to_owned(),
        Code::Fatal => "the producer has failed for good and is rebuilt".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_out_says_what_was_wrong_until_a_record_is_delivered() {
        let trouble = Trouble::default();
        assert!(trouble.note(Code::Authentication, "SASL authentication failed (after 7ms in state AUTH)"));
        trouble.note(Code::AllBrokersDown, "1/1 brokers are down");
        assert_eq!(
            trouble.cause(Code::MessageTimedOut, "t"),
            "no broker took the record in time: SASL authentication failed"
        );
        assert_eq!(trouble.cause(Code::TopicAuthorizationFailed, "t"), "no right to write to topic t");
        trouble.over();
        assert_eq!(trouble.cause(Code::MessageTimedOut, "t"), "no broker took the record in time");
    }

    #[test]
    fn the_same_trouble_is_said_once() {
        let trouble = Trouble::default();
        assert!(trouble.note(Code::BrokerTransportFailure, "refused"));
        assert!(!trouble.note(Code::BrokerTransportFailure, "refused (after 1 ms)"));
        assert!(trouble.note(Code::Authentication, "failed"));
        trouble.over();
        assert!(!trouble.note(Code::BrokerTransportFailure, "refused"));
    }
}
