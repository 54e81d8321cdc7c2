//! Signs of life of what takes longer than a person waits: on a terminal one line that is rewritten, else a line a second, both to
//! standard error. Nothing is said of what is done soon.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use super::counted;
use crate::spool;

/// What is done by then needs no line.
const QUIET: Duration = Duration::from_secs(2);
/// Between two lines of a log, and between two changes of a terminal's line.
const LINE_PAUSE: Duration = Duration::from_secs(1);
const TERMINAL_PAUSE: Duration = Duration::from_millis(200);

/// How far something is.
#[derive(Debug)]
pub(super) struct Progress {
    doing: &'static str,
    what: &'static str,
    total: Option<u64>,
    begun: Instant,
    next: Instant,
    on_terminal: bool,
    has_line: bool,
}

impl Progress {
    /// `doing` is what happens ("compared"), `what` is one of the things that it happens to ("sample").
    pub(super) fn new(doing: &'static str, what: &'static str, total: Option<u64>) -> Self {
        let begun = Instant::now();
        let on_terminal = std::io::stderr().is_terminal();
        Self { doing, what, total, begun, next: begun + QUIET, on_terminal, has_line: false }
    }

    /// So many are done.
    pub(super) fn tick(&mut self, done: u64) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        self.next = now + if self.on_terminal { TERMINAL_PAUSE } else { LINE_PAUSE };
        let line = self.line(done, now.duration_since(self.begun));
        let mut err = std::io::stderr().lock();
        // Nobody is there to read it.
        let _ = if self.on_terminal { write!(err, "\r\x1b[K{line}") } else { writeln!(err, "{line}") };
        let _ = err.flush();
        self.has_line = true;
    }

    /// Does `work`, which counts in `progress`.
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
            Some(total) => format!("{done} of {}", counted(total, self.what)),
            None => counted(done, self.what),
        };
        format!("{number} {} in {} s", self.doing, time.as_secs())
    }
}

impl Drop for Progress {
    /// What is printed next begins at the beginning of a line.
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
    fn a_line_says_how_much_is_done_of_how_much() {
        let line = |total| Progress::new("compared", "sample", total).line(12, Duration::from_millis(3_900));
        assert_eq!(line(None), "12 samples compared in 3 s");
        assert_eq!(line(Some(100)), "12 of 100 samples compared in 3 s");
    }
}
