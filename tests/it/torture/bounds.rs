//! The number of duplicates that the faults of a run can explain (promise 7). Duplicates come only from attempts whose
//! result is unknown; a crash leaves at most a prefetch per source and a drain window per sink of these.

use super::checker::Bounds;
use super::plan::Sink;
use super::schedule::{Fault, Tally};

/// `prefetch` of the source, in the configuration.
pub const PREFETCH: u64 = 200;
/// `concurrency` of the webhook, there too.
pub const CONCURRENCY: u64 = 32;

/// Deliveries out of the spool that a sink may have in flight.
const DRAIN_WINDOW: u64 = 1_000;
/// Publishes that the AMQP sink may have unconfirmed: four windows of 256.
const AMQP_WINDOWS: u64 = 4 * 256;

/// For so many faults, stops that took all of their grace, requests that the webhook took without answering, and events that it may
/// have refused before that was its own fault.
pub fn of(tally: &Tally, cut_short: u64, unknown: u64, blamed: u64) -> Bounds {
    let crashes =
        tally.times(&[Fault::Kill, Fault::KillOnFullDisk, Fault::LettersOnFullDisk, Fault::TaskPanic]) + cut_short;
    // Acknowledgements that the broker had not on disk are undone, and the relay that gave them may be gone.
    let undone = tally.times(&[Fault::RabbitRestart, Fault::RabbitKill]) * PREFETCH;
    let everywhere = crashes * (PREFETCH + DRAIN_WINDOW) + undone;
    let of_sink = |sink| match sink {
        Sink::Kafka => tally.times(&[Fault::KafkaRestart, Fault::KafkaKill]) * (PREFETCH + DRAIN_WINDOW),
        Sink::Amqp => tally.times(&[Fault::RabbitRestart, Fault::RabbitKill, Fault::SinkCut]) * AMQP_WINDOWS,
        // A relay that was frozen finds its requests' time over, whatever was answered meanwhile.
        Sink::Webhook => unknown + tally.times(&[Fault::Freeze]) * CONCURRENCY,
        // A write that failed half way is made again, at most once for each time the disk was full.
        Sink::File => {
            let full = tally.times(&[Fault::FullDisk, Fault::KillOnFullDisk, Fault::LettersOnFullDisk]);
            full * (PREFETCH + DRAIN_WINDOW)
        }
    };
    // A dead letter is recognized after a crash, when its message is redelivered, unless the broker has forgotten that it gave it out.
    Bounds { sinks: Sink::ALL.map(|sink| everywhere + of_sink(sink)), letters: undone, blamed }
}
