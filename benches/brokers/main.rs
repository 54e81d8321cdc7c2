//! What the relay costs between a real `RabbitMQ` and a real Kafka, beside a floor that does nothing but carry: `make bench`.
//!
//! Each case gets a queue that is full already and topics that are empty. It is measured from the first record in Kafka to the
//! last. Cases take turns, round by round, so that what changes on the machine changes for all of them.
//!
//! `BENCH_EVENTS` (100,000), `BENCH_ROUNDS` (5) and `BENCH_CASES` (all: `floor,one,…`) make it shorter or longer.

// A benchmark that panics has failed, which says enough.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, missing_docs)]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

mod case;
mod floor;
mod kafka;
mod latency;
mod load;
mod process;
mod profile;
mod receiver;
mod run;
#[path = "../../tests/it/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the tests use the rest")]
mod support;
mod table;

use std::collections::BTreeMap;

use case::Case;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    if floor::is_asked_for() {
        return runtime.block_on(floor::run());
    }
    // `cargo test --benches` only wants to know that it builds; `cargo bench` says so.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let (events, rounds) = (number("BENCH_EVENTS", 100_000), number("BENCH_ROUNDS", 5));
    let wanted = std::env::var("BENCH_CASES").unwrap_or_default();
    let is_wanted = |case: &Case| wanted.is_empty() || wanted.split(',').any(|name| name == case.name());
    let cases: Vec<Case> = Case::ALL.into_iter().filter(is_wanted).collect();
    assert!(!cases.is_empty(), "BENCH_CASES={wanted} names none of {:?}", Case::ALL.map(Case::name));
    let mut measured = BTreeMap::new();
    for round in 1..=rounds {
        for &case in &cases {
            let figures = runtime.block_on(run::throughput(case, events));
            println!("round {round}, {}: {figures}", case.name());
            measured.entry(case).or_insert_with(Vec::new).push(figures);
        }
    }
    table::print(&measured, events);
    let Some(rate) = half_rate(&measured) else { return };
    println!(
        "\nfrom being published to being in Kafka, at {rate} events/s: half of the time no more than, 99 %, 99.9 %\n"
    );
    for round in 1..=rounds {
        for case in [Case::Floor, Case::One] {
            println!("round {round}, {}: {}", case.name(), runtime.block_on(run::latency(case, rate)));
        }
    }
}

/// Half of what the floor and the relay both manage, where both were measured.
fn half_rate(measured: &BTreeMap<Case, Vec<run::Figures>>) -> Option<u64> {
    let slowest = |case| Some(measured.get(&case)?.iter().map(|figures| figures.rate).fold(f64::INFINITY, f64::min));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate of some thousands")]
    Some((slowest(Case::Floor)?.min(slowest(Case::One)?) / 2.0) as u64)
}

fn number(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty());
    text.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}
