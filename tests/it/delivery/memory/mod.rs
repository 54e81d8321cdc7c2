//! Memory at every limit: the spool and the dead letters are full, every lane has bodies of 1 MiB, four sinks fail in
//! four ways, and the relay is killed and stopped. Then the sinks recover, and no event may be missing.
//!
//! `make memory` runs it for ten minutes, or for `MEMORY_SECONDS`. It is not part of `make test`.

mod book;
mod world;

use std::time::{Duration, Instant};

use crate::support::Relay;
use crate::support::wait::until_within;
use world::{Full, SINKS, World, stored};

/// Memory limit of the relay, in MiB.
const BOUND: f64 = 256.0;
/// Default duration of the sinks' outage.
const SECONDS: u64 = 30;
/// Number of relays that share the outage: the first is killed, the second is stopped, the last one sees the end of the
/// outage.
const RELAYS: u32 = 3;
/// Time limit for the final deliveries on a slow machine.
const PATIENCE: Duration = Duration::from_mins(15);
const BETWEEN_FIGURES: u32 = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stays_within_its_bound_while_everything_is_full_and_dead_and_loses_nothing() {
    let seconds = std::env::var("MEMORY_SECONDS").ok().filter(|value| !value.is_empty());
    let seconds = seconds.map_or(SECONDS, |value| value.parse().expect("MEMORY_SECONDS is a number"));
    let part = Duration::from_secs(seconds) / RELAYS;
    let (world, mut sinks) = World::new().await;
    let mut peaks = Vec::new();
    let mut look = Figures::default();

    let relay = world.home.start_ready().await;
    until_within(PATIENCE, "the spool and the dead letters to be full", async || {
        look.at("filling", &relay).await;
        world.publish_some().await;
        match Full::of(&relay).await? {
            Full { spool: true, dead_letters: true } => Ok(()),
            full => Err(format!("{full:?}")),
        }
    })
    .await;
    dead(&world, &relay, part, &mut look).await;
    peaks.push(("until it was killed", memory(&relay, "VmHWM:")));
    relay.kill();

    let relay = world.home.start();
    relay.wait_for_metric("source_up", &[], 1.0).await;
    dead(&world, &relay, part, &mut look).await;
    peaks.push(("until it was stopped", memory(&relay, "VmHWM:")));
    relay.stop().await;

    let relay = world.home.start();
    relay.wait_for_metric("source_up", &[], 1.0).await;
    dead(&world, &relay, part, &mut look).await;
    let full = Full::of(&relay).await.expect("metrics");
    assert!(full.spool && full.dead_letters, "it is still full at the end: {full:?}");
    peaks.push(("until the sinks came back", memory(&relay, "VmHWM:")));

    sinks.come_back().await;
    until_within(PATIENCE, "everything to be delivered, or a dead letter", async || {
        look.at("draining", &relay).await;
        world.book.take_dead_letters(&world.home);
        sinks.read().await;
        world.book.missing(&SINKS).map_or(Ok(()), Err)
    })
    .await;
    world.regards.wait_until_acknowledged().await;
    peaks.push(("until all was delivered", memory(&relay, "VmHWM:")));
    relay.stop().await;
    world.regards.assert_left_as_found().await;

    println!("\n{}", world.book);
    for (when, peak) in &peaks {
        println!("peak RSS {when}: {peak:.1} MiB");
    }
    assert!(peaks.iter().all(|(_, peak)| *peak <= BOUND), "at most {BOUND} MiB: {peaks:?}");
}

/// REGARDS continues to publish for this time, and no sink accepts a delivery.
async fn dead(world: &World, relay: &Relay<'_>, how_long: Duration, look: &mut Figures) {
    let began = Instant::now();
    look.every = how_long / BETWEEN_FIGURES;
    while began.elapsed() < how_long {
        look.at("dead", relay).await;
        world.publish_some().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Prints the current figures at intervals.
struct Figures {
    began: Instant,
    last: Option<Instant>,
    every: Duration,
}

impl Default for Figures {
    fn default() -> Self {
        Self { began: Instant::now(), last: None, every: Duration::from_secs(5) }
    }
}

impl Figures {
    async fn at(&mut self, phase: &str, relay: &Relay<'_>) {
        if self.last.is_some_and(|last| last.elapsed() < self.every) {
            return;
        }
        self.last = Some(Instant::now());
        let (now, peak) = (memory(relay, "VmRSS:"), memory(relay, "VmHWM:"));
        let stored = stored(relay).await.unwrap_or_else(|error| error);
        println!("{:4} s {phase}: RSS {now:.1} MiB, at most {peak:.1}; {stored}", self.began.elapsed().as_secs());
    }
}

/// In MiB, from `/proc/PID/status`.
fn memory(relay: &Relay<'_>, which: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", relay.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(which)).expect("a size");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") / 1024.0
}
