//! Waits for a condition with a deadline; the error shows the last state.

use std::time::{Duration, Instant};

/// The time limit for every wait in the tests. It is long because only failing tests use all of it.
pub const PATIENCE: Duration = Duration::from_mins(2);

const BETWEEN_PROBES: Duration = Duration::from_millis(50);

/// Repeats the check until it returns `Ok`. After [`PATIENCE`], fails with `what` and the last `Err`.
#[track_caller]
pub fn until<T, P>(what: &str, probe: P) -> impl Future<Output = T>
where
    P: AsyncFnMut() -> Result<T, String>,
{
    until_within(PATIENCE, what, probe)
}

/// Like [`until`], with its own time limit.
#[track_caller]
pub fn until_within<T, P>(patience: Duration, what: &str, mut probe: P) -> impl Future<Output = T>
where
    P: AsyncFnMut() -> Result<T, String>,
{
    let caller = std::panic::Location::caller();
    async move {
        let deadline = Instant::now() + patience;
        loop {
            match probe().await {
                Ok(value) => return value,
                Err(seen) if Instant::now() > deadline => {
                    panic!("{caller}: waited {patience:?} for: {what}; last seen: {seen}")
                }
                Err(_) => tokio::time::sleep(BETWEEN_PROBES).await,
            }
        }
    }
}
