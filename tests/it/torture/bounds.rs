//! The number of duplicates that the faults of a run can explain (promise 7). Duplicates come only from attempts whose
//! result is unknown; a crash leaves at most a prefetch per source and a drain window per sink of these.

use super::checker::Bounds;
use super::plan::Sink;
use super::receiver::UnknownEnds;
use super::schedule::{Fault, Tally};

/// `prefetch` of the source in the relay's configuration.
pub const PREFETCH: u64 = 200;
/// `concurrency` of the webhook in the relay's configuration.
pub const CONCURRENCY: u64 = 32;
/// `concurrency` of the sink that gets digests.
pub const DIGESTS_AT_ONCE: u64 = 8;

/// The number of spooled deliveries that a sink may have in flight.
const DRAIN_WINDOW: u64 = 1_000;
/// The number of unconfirmed publishes of the AMQP sink: four windows of 256.
const AMQP_WINDOWS: u64 = 4 * 256;

/// The bounds for a run: `tally` counts its faults, `cut_short` the stops that used the whole grace period and the starts
/// after a lost lease, `unknown` the requests without an answer, and `blamed` the events that the webhook may have refused
/// before its breaker opened.
pub fn of(tally: &Tally, cut_short: u64, unknown: UnknownEnds, blamed: u64) -> Bounds {
    let crashes =
        tally.times(&[Fault::Kill, Fault::KillOnFullDisk, Fault::LettersOnFullDisk, Fault::TaskPanic]) + cut_short;
    // A broker restart undoes acknowledgements that are not on its disk. The relay that sent them may have stopped.
    let undone = tally.times(&[Fault::RabbitRestart, Fault::RabbitKill]) * PREFETCH;
    // Messages that come again after all that was stored of them is gone.
    let redelivered = crashes * PREFETCH + undone;
    let everywhere = redelivered + crashes * DRAIN_WINDOW;
    let freezes = tally.times(&[Fault::Freeze]);
    let cuts = tally.times(&[Fault::OwnerCutFromWebhook]);
    let of_sink = |sink| match sink {
        Sink::Kafka => everywhere + tally.times(&[Fault::KafkaRestart, Fault::KafkaKill]) * (PREFETCH + DRAIN_WINDOW),
        Sink::Amqp => {
            everywhere + tally.times(&[Fault::RabbitRestart, Fault::RabbitKill, Fault::SinkCut]) * AMQP_WINDOWS
        }
        // A frozen relay finds that its requests timed out, even if the webhook has answered them.
        Sink::Webhook => everywhere + unknown.events + (freezes + cuts) * CONCURRENCY,
        // The relay repeats a partial write at most once each time the disk is full.
        Sink::File => {
            let full = tally.times(&[Fault::FullDisk, Fault::KillOnFullDisk, Fault::LettersOnFullDisk]);
            everywhere + full * (PREFETCH + DRAIN_WINDOW)
        }
        // A digest whose end is unknown comes again as it was: that puts no event into a second one.
        Sink::Digest => redelivered,
    };
    let digests = crashes * DRAIN_WINDOW + unknown.digests + freezes * DIGESTS_AT_ONCE;
    // The alert of a request is a row in the spool, and a crash can repeat its attempt as any other.
    let alerts = (crashes + tally.times(&[Fault::KafkaRestart, Fault::KafkaKill])) * DRAIN_WINDOW;
    // After a crash, the relay recognizes the dead letter of a redelivered message. It does not if the broker lost the
    // redelivered flag.
    Bounds { sinks: Sink::ALL.map(of_sink), digests, alerts, raised_again: undone, letters: undone, blamed }
}
