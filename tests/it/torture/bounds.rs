//! The number of duplicates that the faults of a run can explain (promise 7). Duplicates come only from attempts whose
//! result is unknown; a crash leaves at most a prefetch per source and a drain window per sink of these.

use super::checker::Bounds;
use super::plan::Sink;
use super::schedule::{Fault, Tally};

/// `prefetch` of the source in the relay's configuration.
pub const PREFETCH: u64 = 200;
/// `concurrency` of the webhook in the relay's configuration.
pub const CONCURRENCY: u64 = 32;

/// The number of spooled deliveries that a sink may have in flight.
const DRAIN_WINDOW: u64 = 1_000;
/// The number of unconfirmed publishes of the AMQP sink: four windows of 256.
const AMQP_WINDOWS: u64 = 4 * 256;

/// The bounds for a run: `tally` counts its faults, `cut_short` the stops that used the whole grace period, `unknown`
/// the webhook requests without an answer, and `blamed` the events that the webhook may have refused before its breaker
/// opened.
pub fn of(tally: &Tally, cut_short: u64, unknown: u64, blamed: u64) -> Bounds {
    let crashes =
        tally.times(&[Fault::Kill, Fault::KillOnFullDisk, Fault::LettersOnFullDisk, Fault::TaskPanic]) + cut_short;
    // A broker restart undoes acknowledgements that are not on its disk. The relay that sent them may have stopped.
    let undone = tally.times(&[Fault::RabbitRestart, Fault::RabbitKill]) * PREFETCH;
    let everywhere = crashes * (PREFETCH + DRAIN_WINDOW) + undone;
    let of_sink = |sink| match sink {
        Sink::Kafka => tally.times(&[Fault::KafkaRestart, Fault::KafkaKill]) * (PREFETCH + DRAIN_WINDOW),
        Sink::Amqp => tally.times(&[Fault::RabbitRestart, Fault::RabbitKill, Fault::SinkCut]) * AMQP_WINDOWS,
        // A frozen relay finds that its requests timed out, even if the webhook has answered them.
        Sink::Webhook => unknown + tally.times(&[Fault::Freeze]) * CONCURRENCY,
        // The relay repeats a partial write at most once each time the disk is full.
        Sink::File => {
            let full = tally.times(&[Fault::FullDisk, Fault::KillOnFullDisk, Fault::LettersOnFullDisk]);
            full * (PREFETCH + DRAIN_WINDOW)
        }
    };
    // After a crash, the relay recognizes the dead letter of a redelivered message. It does not if the broker lost the
    // redelivered flag.
    Bounds { sinks: Sink::ALL.map(|sink| everywhere + of_sink(sink)), letters: undone, blamed }
}
