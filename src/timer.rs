//! A timer for loops that wait for much else, and long waits that a test can shorten.

use std::pin::Pin;
use std::sync::LazyLock;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// Divides each [`long`] wait by its number, so that a test sees in seconds what takes minutes: in builds with debug assertions only.
pub const HURRY: &str = "REGARDS_RELAY_HURRY";

static DIVISOR: LazyLock<u32> = LazyLock::new(|| {
    let divisor = std::env::var(HURRY).ok().filter(|_| cfg!(debug_assertions));
    divisor.and_then(|divisor| divisor.parse().ok()).unwrap_or(1).max(1)
});

/// A wait of minutes, as long as it is, unless a test is in a hurry.
#[must_use]
pub fn long(wait: Duration) -> Duration {
    wait / *DIVISOR
}

/// One timer for all rounds of a loop. A new one in each would be entered with the runtime, and taken out, as often as anything
/// comes in; this one stays where it is as long as the time is the same.
#[derive(Debug)]
pub struct Alarm(Pin<Box<Sleep>>);

impl Default for Alarm {
    fn default() -> Self {
        Self(Box::pin(tokio::time::sleep_until(Instant::now())))
    }
}

impl Alarm {
    /// Waits until then; without a time for ever.
    pub async fn at(&mut self, time: Option<impl Into<Instant>>) {
        let Some(time) = time.map(Into::into) else { return std::future::pending().await };
        if self.0.deadline() != time {
            self.0.as_mut().reset(time);
        }
        self.0.as_mut().await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn it_goes_off_at_the_time_it_was_last_asked_for() {
        let mut alarm = Alarm::default();
        let after = |millis| Some(Instant::now() + Duration::from_millis(millis));
        let (soon, late, never) = (after(5), after(10), after(1_000_000));
        assert_eq!(alarm.at(None::<Instant>).now_or_never(), None);
        assert_eq!(alarm.at(never).now_or_never(), None);
        assert_eq!(alarm.at(never).now_or_never(), None);
        alarm.at(soon).await;
        assert!(Some(Instant::now()) >= soon);
        assert_eq!(alarm.at(soon).now_or_never(), Some(()), "it is past");
        alarm.at(late).await;
        assert!(Some(Instant::now()) >= late);
    }
}
