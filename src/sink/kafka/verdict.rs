//! What each of librdkafka's errors says about a record.
//!
//! Sources: `rd_kafka_resp_err_t` in `rdkafka.h` (what each code means), "Producer message delivery failure" in
//! `INTRODUCTION.md` and `rd_kafka_handle_Produce_error` in `rdkafka_request.c` (which of them librdkafka reports without
//! having retried), all of librdkafka 2.12. Codes below zero are librdkafka's own, the others the broker's.

use rdkafka::types::RDKafkaErrorCode as Code;

use crate::sink::Blame;

/// What an error says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judgement {
    /// The record, or one it shared a batch with, is one the broker will never take.
    Refused,
    /// It may be taken later.
    Retry(Blame),
}

/// The table.
pub(super) fn judge(code: Code) -> Judgement {
    match code {
        // A record too large, or one that the topic's rules forbid (a null key where the topic is compacted, a time outside
        // the topic's window). The broker says so of a whole batch.
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidRecord | Code::InvalidTimestamp => {
            Judgement::Refused
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
        | Code::RebootstrapRequired => Judgement::Retry(Blame::Sink),

        // Our own doing: the producer's queue is full, it was emptied because we stop or rebuild it, or producer and broker
        // disagree on how far they got.
        Code::QueueFull
        | Code::PurgeQueue
        | Code::PurgeInflight
        | Code::OutOfOrderSequenceNumber
        | Code::UnknownProducerId
        | Code::InvalidProducerEpoch => Judgement::Retry(Blame::Relay),

        // The topic (unknown, forbidden, illegal), one of its partitions (no leader, too few replicas), another record of the
        // same batch, and whatever later versions add: what can't be read as the whole sink's failure hurts one lane only.
        _ => Judgement::Retry(Blame::Delivery),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_error_says() {
        let sink = Judgement::Retry(Blame::Sink);
        let delivery = Judgement::Retry(Blame::Delivery);
        let relay = Judgement::Retry(Blame::Relay);
        for (code, expected) in [
            (Code::MessageSizeTooLarge, Judgement::Refused),
            (Code::MessageBatchTooLarge, Judgement::Refused),
            (Code::InvalidRecord, Judgement::Refused),
            (Code::InvalidTimestamp, Judgement::Refused),
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
            assert_eq!(judge(code), expected, "{code:?}");
        }
    }
}
