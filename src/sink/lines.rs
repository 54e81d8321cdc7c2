//! The thread that writes lines for a sink: it takes all that waits, up to a bound, and writes it as one batch.
//!
//! What is written to, and when it is durable, is the business of its [`Out`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use tokio::sync::oneshot;

use super::pending::Pending;
use super::{Attempt, Blame, Outgoing, Verdict};
use crate::helper::{self, Helper};

/// Lines that may wait, at most.
pub(super) const CAPACITY: usize = 100_000;
/// Lines in a batch, at most.
const MAX_BATCH_LINES: usize = 4096;
/// A batch takes no further line once it is as large as this, in bytes.
const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;
/// Time for another line when too many wait.
const FULL_PAUSE: Duration = Duration::from_millis(100);

/// Where lines go.
pub(super) trait Out: Send + 'static {
    /// Writes the batch, and ends each line of it. May block.
    fn write(&mut self, batch: Vec<Line>);
}

/// A line to write: ends once, as `Retry` if it is dropped.
pub(super) struct Line {
    pub(super) outgoing: Outgoing,
    number: usize,
    pending: Arc<Pending>,
}

impl Line {
    /// It ended so.
    pub(super) fn end(self, verdict: Verdict) {
        self.pending.end(self.number, verdict);
    }

    /// The line as it stands in the file, but for its end.
    pub(super) fn body(&self) -> &[u8] {
        &self.outgoing.body
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // Nothing happens where it ended before.
        self.pending.end(
            self.number,
            Verdict::Retry { after: None, cause: "the line was dropped unwritten".to_owned(), blame: Blame::Relay },
        );
    }
}

/// The thread, and what it is given.
pub(super) struct LineWriter {
    lines: Sender<Line>,
    pending: Arc<Pending>,
    stop: Arc<AtomicBool>,
    done: oneshot::Receiver<()>,
}

impl LineWriter {
    /// Starts the thread.
    pub(super) fn start(name: &str, out: impl Out) -> std::io::Result<Self> {
        let (lines, taken) = channel();
        let (ended, done) = oneshot::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        helper::thread(Helper::LineWriter, format!("lines {name}"), move || {
            run(&taken, out, &stopped);
            // Nobody waits where the sink was dropped.
            let _ = ended.send(());
        })?;
        Ok(Self { lines, pending: Arc::default(), stop, done })
    }

    /// One more line, for that attempt.
    pub(super) fn push(&self, outgoing: Outgoing, attempt: Attempt) {
        if self.pending.len() >= CAPACITY {
            return attempt.end(Verdict::Retry {
                after: Some(FULL_PAUSE),
                cause: format!("{CAPACITY} lines wait to be written"),
                blame: Blame::Relay,
            });
        }
        let number = self.pending.hold(attempt);
        // Where the thread is gone the line comes back and is dropped, which ends its attempt.
        let _ = self.lines.send(Line { outgoing, number, pending: Arc::clone(&self.pending) });
    }

    /// Lets the thread write what waits, at most for `grace`.
    pub(super) async fn close(self, grace: Duration) {
        drop(self.lines);
        let _ = tokio::time::timeout(grace, self.done).await;
        self.stop.store(true, Ordering::Release);
        self.pending.abandon();
    }
}

fn run(lines: &Receiver<Line>, mut out: impl Out, stop: &AtomicBool) {
    while let Ok(first) = lines.recv() {
        if stop.load(Ordering::Acquire) {
            return;
        }
        let mut bytes = first.body().len();
        let mut batch = vec![first];
        while batch.len() < MAX_BATCH_LINES && bytes < MAX_BATCH_BYTES {
            let Ok(line) = lines.try_recv() else { break };
            bytes += line.body().len();
            batch.push(line);
        }
        Helper::LineWriter.die_if_asked();
        out.write(batch);
    }
}

/// How many of the lines are whole within the first `written` bytes, where each takes one more for its end, and `before` bytes
/// go before the first.
pub(super) fn whole(lines: &[Line], before: usize, written: usize) -> usize {
    let mut end = before;
    lines
        .iter()
        .take_while(|line| {
            end += line.body().len() + 1;
            end <= written
        })
        .count()
}

/// The lines as one piece, each with its end; after a line that was torn the piece begins with the end of that.
pub(super) fn piece(lines: &[Line], after_torn: bool) -> Vec<u8> {
    let size: usize = lines.iter().map(|line| line.body().len() + 1).sum();
    let mut piece = Vec::with_capacity(size + 1);
    if after_torn {
        piece.push(b'\n');
    }
    for line in lines {
        piece.extend_from_slice(line.body());
        piece.push(b'\n');
    }
    piece
}

/// Writes all of it, or says how much was written before what went wrong.
pub(super) fn write_counted(out: &mut impl std::io::Write, piece: &[u8]) -> (usize, std::io::Result<()>) {
    let mut written = 0;
    while let Some(rest) = piece.get(written..).filter(|rest| !rest.is_empty()) {
        match out.write(rest) {
            Ok(0) => return (written, Err(std::io::ErrorKind::WriteZero.into())),
            Ok(more) => written += more,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::fixtures::{Attempts, outgoing};
    use crate::sink::{AttemptId, Destination};
    use std::sync::mpsc::Receiver;

    /// Holds each batch until the test lets it go.
    struct Gate {
        seen: Sender<usize>,
        go: Receiver<()>,
    }

    impl Out for Gate {
        fn write(&mut self, batch: Vec<Line>) {
            self.seen.send(batch.len()).unwrap();
            if self.go.recv().is_ok() {
                for line in batch {
                    line.end(Verdict::Delivered);
                }
            }
        }
    }

    fn gated() -> (LineWriter, Receiver<usize>, Sender<()>) {
        let (seen, batches) = channel();
        let (let_go, go) = channel();
        (LineWriter::start("test", Gate { seen, go }).unwrap(), batches, let_go)
    }

    #[tokio::test]
    async fn what_waits_is_one_batch_within_its_bound() {
        let (writer, batches, let_go) = gated();
        let mut attempts = Attempts::new();
        let push = |attempts: &mut Attempts| writer.push(outgoing(Destination::Stdout, "x"), attempts.start());
        push(&mut attempts);
        assert_eq!(batches.recv().unwrap(), 1);
        for _ in 0..MAX_BATCH_LINES + 2 {
            push(&mut attempts);
        }
        for expected in [MAX_BATCH_LINES, 2] {
            let_go.send(()).unwrap();
            assert_eq!(batches.recv().unwrap(), expected);
        }
        let_go.send(()).unwrap();
        for id in 0..MAX_BATCH_LINES as u64 + 3 {
            assert_eq!(attempts.ended().await, (AttemptId(id), Verdict::Delivered));
        }
    }

    #[tokio::test]
    async fn a_closed_writer_writes_what_waits_first() {
        let (writer, _batches, let_go) = gated();
        let mut attempts = Attempts::new();
        for _ in 0..2 {
            let_go.send(()).unwrap();
            writer.push(outgoing(Destination::Stdout, "x"), attempts.start());
        }
        writer.close(Duration::from_mins(1)).await;
        for _ in 0..2 {
            assert_eq!(attempts.ended_already().unwrap().1, Verdict::Delivered);
        }
    }

    #[tokio::test]
    async fn a_writer_that_hangs_does_not_hold_up_the_stop() {
        let (writer, batches, let_go) = gated();
        let mut attempts = Attempts::new();
        writer.push(outgoing(Destination::Stdout, "x"), attempts.start());
        batches.recv().unwrap();
        writer.push(outgoing(Destination::Stdout, "y"), attempts.start());
        writer.close(Duration::ZERO).await;
        for _ in 0..2 {
            assert!(matches!(attempts.ended_already().unwrap().1, Verdict::Retry { blame: Blame::Relay, .. }));
        }
        drop(let_go);
    }
}
