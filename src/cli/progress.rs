//! The progress of long work, on standard error: on a terminal one line that is rewritten, else a line a second. Short work shows
//! none.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use super::plural;
use crate::spool;

/// Work that ends earlier shows no progress.
const DELAY: Duration = Duration::from_secs(2);
/// The time between two lines, and between two updates of the line on a terminal.
const LINE_PAUSE: Duration = Duration::from_secs(1);
const TERMINAL_PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(super) struct Progress {
    verb: &'static str,
    unit: &'static str,
    total: Option<u64>,
    begun: Instant,
    next: Instant,
    on_terminal: bool,
    has_line: bool,
}

impl Progress {
    /// `verb` is the work in the past tense ("compared"), `unit` the singular of what is counted ("sample").
    pub(super) fn new(verb: &'static str, unit: &'static str, total: Option<u64>) -> Self {
        let begun = Instant::now();
        let on_terminal = std::io::stderr().is_terminal();
        Self { verb, unit, total, begun, next: begun + DELAY, on_terminal, has_line: false }
    }

    pub(super) fn tick(&mut self, done: u64) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        self.next = now + if self.on_terminal { TERMINAL_PAUSE } else { LINE_PAUSE };
        let line = self.line(done, now.duration_since(self.begun));
        let mut err = std::io::stderr().lock();
        // If it can't be written, standard error has no reader.
        let _ = if self.on_terminal { write!(err, "\r\x1b[K{line}") } else { writeln!(err, "{line}") };
        let _ = err.flush();
        self.has_line = true;
    }

    /// Runs `work`, and shows what it counts in `progress`.
    pub(super) async fn watch<T>(&mut self, work: impl Future<Output = T>, progress: &spool::Progress) -> T {
        let mut looks = tokio::time::interval(TERMINAL_PAUSE);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                ended = &mut work => return ended,
                _ = looks.tick() => self.tick(progress.done()),
            }
        }
    }

    fn line(&self, done: u64, time: Duration) -> String {
        let number = match self.total {
            Some(total) => format!("{done} of {}", plural(total, self.unit)),
            None => plural(done, self.unit),
        };
        format!("{number} {} in {} s", self.verb, time.as_secs())
    }
}

impl Drop for Progress {
    /// Clears the line for the output that follows.
    fn drop(&mut self) {
        if self.on_terminal && self.has_line {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_count_and_the_total() {
        let line = |total| Progress::new("compared", "sample", total).line(12, Duration::from_millis(3_900));
        assert_eq!(line(None), "12 samples compared in 3 s");
        assert_eq!(line(Some(100)), "12 of 100 samples compared in 3 s");
    }
}
