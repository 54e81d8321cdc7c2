//! Lines for a sink, written by threads that may block: whatever waits, up to a bound, is written as one batch.
//!
//! What is written to, and when it is durable, is the business of its [`Out`].

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::pending::Pending;
use super::pool::{Job, Pool};
use super::{Attempt, Blame, Outgoing, Verdict};
use crate::tasks::TaskKind;

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

/// What writes a sink's lines.
pub(super) struct LineWriter {
    queue: Arc<Queue>,
    pool: Arc<Pool>,
    pending: Arc<Pending>,
}

/// The lines that wait. It is a job of the pool while there are any.
struct Queue {
    state: Mutex<State>,
    /// Used by one thread at a time: the queue is never twice in the pool.
    out: Mutex<Box<dyn Out>>,
}

#[derive(Default)]
struct State {
    lines: VecDeque<Line>,
    /// The pool has it, or a thread of the pool runs it.
    is_submitted: bool,
    /// Told once all lines are written.
    closing: Option<oneshot::Sender<()>>,
}

impl LineWriter {
    pub(super) fn new(out: impl Out, pool: Arc<Pool>) -> Self {
        let queue = Queue { state: Mutex::default(), out: Mutex::new(Box::new(out)) };
        Self { queue: Arc::new(queue), pool, pending: Arc::default() }
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
        let number = self.pending.hold(attempt, ());
        let line = Line { outgoing, number, pending: Arc::clone(&self.pending) };
        let mut state = self.queue.lock();
        state.lines.push_back(line);
        if std::mem::replace(&mut state.is_submitted, true) {
            return;
        }
        drop(state);
        if let Err(error) = self.pool.submit(Arc::clone(&self.queue) as Arc<dyn Job>) {
            let lines = {
                let mut state = self.queue.lock();
                state.is_submitted = false;
                std::mem::take(&mut state.lines)
            };
            for line in lines {
                line.end(Verdict::Retry {
                    after: Some(FULL_PAUSE),
                    cause: format!("the relay can't start a thread to write it: {error}"),
                    blame: Blame::Relay,
                });
            }
        }
    }

    /// Lets what waits be written, at most for `grace`.
    pub(super) async fn close(self, grace: Duration) {
        let (written, is_written) = oneshot::channel();
        {
            let mut state = self.queue.lock();
            if state.is_submitted {
                state.closing = Some(written);
            } else {
                let _ = written.send(());
            }
        }
        let _ = tokio::time::timeout(grace, is_written).await;
        // What is taken out here is never written; the batch that a thread has may be.
        let unwritten = std::mem::take(&mut self.queue.lock().lines);
        self.pending.abandon();
        drop(unwritten);
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code runs under the lock that could leave the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lines of the next batch.
    fn take(&self) -> Vec<Line> {
        let mut state = self.lock();
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < MAX_BATCH_LINES && bytes < MAX_BATCH_BYTES {
            let Some(line) = state.lines.pop_front() else { break };
            bytes += line.body().len();
            batch.push(line);
        }
        batch
    }
}

impl Job for Queue {
    fn run(&self) -> bool {
        let batch = self.take();
        if !batch.is_empty() {
            TaskKind::LineWriter.panic_if_requested();
            self.out.lock().unwrap_or_else(PoisonError::into_inner).write(batch);
        }
        let mut state = self.lock();
        if !state.lines.is_empty() {
            return true;
        }
        state.is_submitted = false;
        if let Some(closing) = state.closing.take() {
            // Nobody waits any more when `close` has lost its patience.
            let _ = closing.send(());
        }
        false
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
    use std::sync::mpsc::{Receiver, Sender, channel};

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
        (LineWriter::new(Gate { seen, go }, Arc::new(Pool::new("test", 1, || {}))), batches, let_go)
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
