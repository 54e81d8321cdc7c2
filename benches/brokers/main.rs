//! The relay between a real RabbitMQ and a real Kafka, compared with the bare client libraries: `make bench`.
//!
//! Each case starts with a filled queue and empty topics, and is measured from the first to the last record in Kafka. The cases
//! take turns, from the second round on in random order, so that neither changes of the machine nor leftovers of a case favour
//! one. Further measurements: latency, and the cost of the spool's store, at half of the possible rate; speed of the spool; and
//! start, rest and stop of the relay.
//!
//! `BENCH_EVENTS` (100,000), `BENCH_ROUNDS` (5), `BENCH_BACKLOG` (200,000), `BENCH_JOURNAL` (10,000,000) and `BENCH_CASES` (all: `baseline,one,…`) make it shorter
//! or longer. `BENCH_JSON` is a file for the table as JSON, `BENCH_PROFILES` a directory for profiles of `perf`.

// A benchmark that panics has failed.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

mod backlog;
mod baseline;
mod case;
mod course;
mod footprint;
mod kafka;
mod latency;
mod load;
mod process;
mod profile;
mod receiver;
mod run;
mod store;
#[path = "../../tests/it/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the tests use the rest")]
mod support;
mod table;
mod trace;

use fastrand::Rng;
use tokio::runtime::Builder;

use case::Case;
use run::Filled;
use store::Store;
use table::{Line, Table};

const LATENCY: &str = "latency";
/// What the store of the spool costs while all sinks are healthy, at half of the possible rate.
const STEADY: [(Case, &str); 2] = [(Case::One, "one-steady"), (Case::WithPostgres, "steady-postgres")];
/// Events of the run that finds the possible rate while others are published.
const TO_FIND_THE_RATE: u64 = 30_000;
/// Spooled deliveries of the spool's benchmark.
const BACKLOG: u64 = 200_000;
/// Recorded events of the journal's benchmark, which is run once.
const JOURNAL: u64 = 10_000_000;

fn main() {
    if baseline::is_asked_for() {
        // The same runtime as the relay's.
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
        return runtime.block_on(async { tokio::spawn(baseline::run()).await.expect("it runs until it is killed") });
    }
    // `cargo test --benches` only builds; `cargo bench` passes `--bench`.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    runtime.block_on(measure());
}

async fn measure() {
    let (events, rounds) = (number("BENCH_EVENTS", 100_000), number("BENCH_ROUNDS", 5));
    let wanted = Wanted(std::env::var("BENCH_CASES").unwrap_or_default());
    wanted.check();
    let compared = Case::ALL.into_iter().filter(|case| case.base() != *case);
    let mut bases: Vec<_> = compared.map(|case| (case.name(), case.base().name())).collect();
    bases.push((backlog::name(Store::Postgres), backlog::name(Store::Sqlite)));
    bases.push((backlog::STUCK.0, backlog::name(Store::Postgres)));
    bases.push((STEADY[1].1, STEADY[0].1));
    let mut table = Table::default();
    let mut half = None;
    for round in 1..=rounds {
        let mut add = |case, figures: Vec<(&'static str, f64)>| {
            println!("round {round}, {case}: {}", Line(&figures));
            table.add(case, &figures);
        };
        let mut cases = Case::ALL;
        // The first round gives the table its order.
        if round > 1 {
            Rng::with_seed(round).shuffle(&mut cases);
        }
        for case in cases.into_iter().filter(|case| wanted.has(case.name())) {
            add(case.name(), run::throughput(case, events, Filled::Before).await);
        }
        if wanted.has(LATENCY) {
            let rate = rate_of(&mut half).await;
            let mut cases = [Case::Baseline, Case::One];
            if round % 2 == 0 {
                cases.reverse();
            }
            for case in cases {
                add(case.name(), run::latency(case, rate).await);
            }
        }
        let mut steady = STEADY;
        if round % 2 == 0 {
            steady.reverse();
        }
        for (case, name) in steady.into_iter().filter(|(_, name)| wanted.has(name)) {
            let rate = rate_of(&mut half).await;
            add(name, run::throughput(case, events, Filled::Steadily(rate)).await);
        }
        let mut stores = Store::ALL;
        if round % 2 == 0 {
            stores.reverse();
        }
        for store in stores.into_iter().filter(|store| wanted.has(backlog::name(*store))) {
            add(backlog::name(store), backlog::measure(store, number("BENCH_BACKLOG", BACKLOG), 0).await);
        }
        let (name, stuck) = backlog::STUCK;
        if wanted.has(name) {
            add(name, backlog::measure(Store::Postgres, number("BENCH_BACKLOG", BACKLOG), stuck).await);
        }
        if wanted.has(trace::NAME) && round == 1 {
            add(trace::NAME, trace::measure(number("BENCH_JOURNAL", JOURNAL)).await);
        }
        if wanted.has(footprint::NAME) {
            add(footprint::NAME, footprint::measure().await);
        }
    }
    println!("\n{rounds} rounds of {events} events\n{}", table.text(&bases));
    if let Some(rate) = half {
        println!("latency is from being published to being in Kafka; it and the steady cases are at {rate} events/s");
    }
    if let Some(file) = std::env::var_os("BENCH_JSON") {
        let json = serde_json::json!({
            "events": events, "latencyRate": half, "measured": table.json(&bases),
        });
        std::fs::write(file, format!("{json:#}\n")).expect("written");
    }
}

/// The half rate, which is found once.
async fn rate_of(half: &mut Option<u64>) -> u64 {
    match half {
        Some(rate) => *rate,
        None => *half.insert(half_rate().await),
    }
}

/// Half of the rate that both the baseline and the relay reach during publishing.
async fn half_rate() -> u64 {
    let mut slowest = f64::INFINITY;
    for case in [Case::Baseline, Case::One] {
        let figures = run::throughput(case, TO_FIND_THE_RATE, Filled::Meanwhile).await;
        println!("while it is published to, {}: {}", case.name(), Line(&figures));
        slowest = slowest.min(figures[0].1);
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate of some thousands")]
    let half = (slowest / 2.0) as u64;
    half
}

/// The selected cases; all if empty.
struct Wanted(String);

impl Wanted {
    fn has(&self, name: &str) -> bool {
        self.0.is_empty() || self.0.split(',').any(|wanted| wanted == name)
    }

    fn check(&self) {
        let cases = Case::ALL.map(Case::name);
        let backlogs = Store::ALL.map(backlog::name);
        let steady = STEADY.map(|(_, name)| name);
        let known =
            [cases.as_slice(), &backlogs, &steady, &[backlog::STUCK.0, LATENCY, trace::NAME, footprint::NAME]].concat();
        for name in self.0.split(',').filter(|name| !name.is_empty()) {
            assert!(known.contains(&name), "BENCH_CASES: there is no {name}; there are {}", known.join(", "));
        }
    }
}

fn number(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty());
    text.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}
