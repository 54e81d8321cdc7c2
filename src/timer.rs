//! A timer for `select!` loops, and long waits that a test can shorten.

use std::pin::Pin;
use std::sync::LazyLock;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// The environment variable by which a test divides each [`scaled`] wait. Builds with debug assertions only.
pub const DIVISOR: &str = "REGARDS_RELAY_TIME_DIVISOR";

static DIVIDE_BY: LazyLock<u32> = LazyLock::new(|| {
    let divisor = std::env::var(DIVISOR).ok().filter(|_| cfg!(debug_assertions));
    divisor.and_then(|divisor| divisor.parse().ok()).unwrap_or(1).max(1)
});

/// A wait of minutes, divided by [`DIVISOR`] in tests.
#[must_use]
pub fn scaled(wait: Duration) -> Duration {
    wait / *DIVIDE_BY
}

/// One timer for all rounds of a loop. Creating a `Sleep` in each round would register it with the runtime, and remove it, as
/// often as a message comes in; this one is only registered again when the deadline changes.
#[derive(Debug)]
pub struct Timer(Pin<Box<Sleep>>);

impl Default for Timer {
    fn default() -> Self {
        Self(Box::pin(tokio::time::sleep_until(Instant::now())))
    }
}

impl Timer {
    /// Without a deadline it waits for ever.
    pub async fn sleep_until(&mut self, deadline: Option<impl Into<Instant>>) {
        let Some(deadline) = deadline.map(Into::into) else { return std::future::pending().await };
        if self.0.deadline() != deadline {
            self.0.as_mut().reset(deadline);
        }
        self.0.as_mut().await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_timer_ends_at_its_latest_deadline() {
        let mut timer = Timer::default();
        let after = |millis| Some(Instant::now() + Duration::from_millis(millis));
        let (soon, late, never) = (after(5), after(10), after(1_000_000));
        assert_eq!(timer.sleep_until(None::<Instant>).now_or_never(), None);
        assert_eq!(timer.sleep_until(never).now_or_never(), None);
        assert_eq!(timer.sleep_until(never).now_or_never(), None);
        timer.sleep_until(soon).await;
        assert!(Some(Instant::now()) >= soon);
        assert_eq!(timer.sleep_until(soon).now_or_never(), Some(()), "the deadline has passed");
        timer.sleep_until(late).await;
        assert!(Some(Instant::now()) >= late);
    }
}
