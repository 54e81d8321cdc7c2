//! The class of each of librdkafka's errors: whether the record is refused or retried, and what is at fault.
//!
//! Sources: `rd_kafka_resp_err_t` in `rdkafka.h` (what each code means), "Producer message delivery failure" in
//! `INTRODUCTION.md` and `rd_kafka_handle_Produce_error` in `rdkafka_request.c` (which of them librdkafka reports without
//! having retried), all of librdkafka 2.12. Codes below zero are librdkafka's own, the others the broker's.

use rdkafka::types::RDKafkaErrorCode as Code;

use crate::sink::Blame;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ErrorClass {
    /// The broker will never accept the record, or one of the same batch.
    Refused,
    /// The broker may accept the record later.
    Retry(Blame),
}

pub(super) fn classify(code: Code) -> ErrorClass {
    match code {
        // A record is too large, or the topic's settings forbid it (a null key in a compacted topic, a timestamp out of range).
        // The broker refuses the whole batch.
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidRecord | Code::InvalidTimestamp => {
            ErrorClass::Refused
        }

        // The connection, the login or the whole cluster.
        Code::BrokerDestroy
        | Code::BrokerTransportFailure
        | Code::CriticalSystemResource
        | Code::Resolve
        | Code::MessageTimedOut
        | Code::AllBrokersDown
        | Code::OperationTimedOut
        | Code::TimedOutQueue
        | Code::SSL
        | Code::Authentication
        | Code::UnsupportedFeature
        | Code::UnknownBroker
        | Code::DestroyBroker
        | Code::Fatal
        | Code::GaplessGuarantee
        | Code::Inconsistent
        | Code::RequestTimedOut
        | Code::BrokerNotAvailable
        | Code::NetworkException
        | Code::ClusterAuthorizationFailed
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState
        | Code::SaslAuthenticationFailed
        | Code::SecurityDisabled
        | Code::UnsupportedVersion
        | Code::ThrottlingQuotaExceeded
        | Code::RebootstrapRequired => ErrorClass::Retry(Blame::Sink),

        // The relay itself: the producer's queue is full, it was purged because the relay stops or rebuilds the producer, or
        // producer and broker disagree about sequence numbers.
        Code::QueueFull
        | Code::PurgeQueue
        | Code::PurgeInflight
        | Code::OutOfOrderSequenceNumber
        | Code::UnknownProducerId
        | Code::InvalidProducerEpoch => ErrorClass::Retry(Blame::Relay),

        // The topic (unknown, forbidden, illegal), one of its partitions (no leader, too few replicas), another record of the
        // same batch, and errors of later versions. An error that is not clearly one of the sink delays only one lane.
        _ => ErrorClass::Retry(Blame::Delivery),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_its_class() {
        let sink = ErrorClass::Retry(Blame::Sink);
        let delivery = ErrorClass::Retry(Blame::Delivery);
        let relay = ErrorClass::Retry(Blame::Relay);
        for (code, expected) in [
            (Code::MessageSizeTooLarge, ErrorClass::Refused),
            (Code::MessageBatchTooLarge, ErrorClass::Refused),
            (Code::InvalidRecord, ErrorClass::Refused),
            (Code::InvalidTimestamp, ErrorClass::Refused),
            (Code::UnknownTopic, delivery),
            (Code::UnknownPartition, delivery),
            (Code::UnknownTopicOrPartition, delivery),
            (Code::UnknownTopicId, delivery),
            (Code::TopicAuthorizationFailed, delivery),
            (Code::InvalidTopic, delivery),
            (Code::InvalidDifferentRecord, delivery),
            (Code::NotEnoughReplicas, delivery),
            (Code::LeaderNotAvailable, delivery),
            (Code::PolicyViolation, delivery),
            (Code::Unknown, delivery),
            (Code::BrokerTransportFailure, sink),
            (Code::AllBrokersDown, sink),
            (Code::MessageTimedOut, sink),
            (Code::RequestTimedOut, sink),
            (Code::Authentication, sink),
            (Code::SaslAuthenticationFailed, sink),
            (Code::ClusterAuthorizationFailed, sink),
            (Code::SSL, sink),
            (Code::Resolve, sink),
            (Code::Fatal, sink),
            (Code::QueueFull, relay),
            (Code::PurgeQueue, relay),
            (Code::PurgeInflight, relay),
            (Code::OutOfOrderSequenceNumber, relay),
        ] {
            assert_eq!(classify(code), expected, "{code:?}");
        }
    }
}
