//! Rate and CPU time between the first and the last event.

use std::time::{Duration, Instant};

use super::process::Process;

/// Interval between two counts.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);
/// A measurement that takes longer has failed.
const PATIENCE: Duration = Duration::from_mins(5);

/// The result, from the first count above zero to the full count.
pub struct Course {
    /// Events per second.
    pub rate: f64,
    /// CPU time of each process per event, in µs.
    pub cpu: Vec<f64>,
}

struct Look {
    at: Instant,
    count: u64,
    cpu: Vec<f64>,
}

/// Counts until `count` is `all`.
pub async fn watch(all: u64, processes: &[Process], count: impl AsyncFn() -> u64) -> Course {
    let began = Instant::now();
    let look = async || {
        assert!(began.elapsed() < PATIENCE, "not done after {PATIENCE:?}");
        tokio::time::sleep(BETWEEN_LOOKS).await;
        let count = count().await;
        Look { at: Instant::now(), count, cpu: processes.iter().map(|process| process.cpu()).collect() }
    };
    let mut last = look().await;
    while last.count == 0 {
        last = look().await;
    }
    let first = last;
    let mut last = look().await;
    while last.count < all {
        last = look().await;
    }
    let done = (last.count - first.count) as f64;
    let cpu = last.cpu.iter().zip(&first.cpu).map(|(last, first)| (last - first) / done).collect();
    Course { rate: done / (last.at - first.at).as_secs_f64(), cpu }
}
