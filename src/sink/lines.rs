//! Writes the lines of file and stdout sinks on threads that may block. All queued lines, up to a bound, are one batch.
//!
//! A [`LineOutput`] decides where a batch is written and when it is durable.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::in_flight::InFlightAttempts;
use super::thread_pool::{PoolJob, ThreadPool};
use super::{Attempt, Blame, RenderedDelivery, Verdict};
use crate::tasks::TaskKind;

/// The largest number of queued lines of one sink.
pub(super) const CAPACITY: usize = 100_000;
/// The largest number of lines in a batch.
const MAX_BATCH_LINES: usize = 4096;
/// A batch that has reached this size, in bytes, gets no further line.
const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;
/// How long a line waits for its next attempt if the queue is full.
const FULL_PAUSE: Duration = Duration::from_millis(100);

pub(super) trait LineOutput: Send + 'static {
    /// Writes the batch and ends every line of it. May block.
    fn write(&mut self, batch: Vec<Line>);
}

/// A line to write. Its attempt ends once: by [`end`](Self::end), or as `Retry` when the line is dropped.
pub(super) struct Line {
    pub(super) outgoing: RenderedDelivery,
    number: usize,
    in_flight: Arc<InFlightAttempts>,
}

impl Line {
    pub(super) fn end(self, verdict: Verdict) {
        self.in_flight.end(self.number, verdict);
    }

    /// The line without the newline at its end.
    pub(super) fn body(&self) -> &[u8] {
        &self.outgoing.body
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // Does nothing if the attempt has ended before.
        self.in_flight.end(
            self.number,
            Verdict::Retry {
                after: None,
                cause: "the line was dropped before it was written".to_owned(),
                blame: Blame::Relay,
            },
        );
    }
}

/// The queue of lines of one sink, and the threads that write them.
pub(super) struct LineWriter {
    queue: Arc<LineQueue>,
    pool: Arc<ThreadPool>,
    in_flight: Arc<InFlightAttempts>,
}

/// The queued lines. The queue is a job of the pool while it has any.
struct LineQueue {
    state: Mutex<LineQueueState>,
    /// Used by one thread at a time, as the queue is in the pool only once.
    out: Mutex<Box<dyn LineOutput>>,
}

#[derive(Default)]
struct LineQueueState {
    lines: VecDeque<Line>,
    /// The queue is in the pool, or a thread of the pool runs it.
    is_submitted: bool,
    /// Notified when all lines are written.
    closing: Option<oneshot::Sender<()>>,
}

impl LineWriter {
    pub(super) fn new(out: impl LineOutput, pool: Arc<ThreadPool>) -> Self {
        let queue = LineQueue { state: Mutex::default(), out: Mutex::new(Box::new(out)) };
        Self { queue: Arc::new(queue), pool, in_flight: Arc::default() }
    }

    /// Queues the line of that attempt.
    pub(super) fn push(&self, outgoing: RenderedDelivery, attempt: Attempt) {
        if self.in_flight.len() >= CAPACITY {
            return attempt.end(Verdict::Retry {
                after: Some(FULL_PAUSE),
                cause: format!("the queue of lines is full ({CAPACITY} lines)"),
                blame: Blame::Relay,
            });
        }
        let number = self.in_flight.insert(attempt, ());
        let line = Line { outgoing, number, in_flight: Arc::clone(&self.in_flight) };
        let mut state = self.queue.lock();
        state.lines.push_back(line);
        if std::mem::replace(&mut state.is_submitted, true) {
            return;
        }
        drop(state);
        if let Err(error) = self.pool.submit(Arc::clone(&self.queue) as Arc<dyn PoolJob>) {
            let lines = {
                let mut state = self.queue.lock();
                state.is_submitted = false;
                std::mem::take(&mut state.lines)
            };
            for line in lines {
                line.end(Verdict::Retry {
                    after: Some(FULL_PAUSE),
                    cause: format!("the relay can't start a thread that writes the line: {error}"),
                    blame: Blame::Relay,
                });
            }
        }
    }

    /// Waits at most `grace` until the queued lines are written, and abandons the others.
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
        // Lines that are taken out here are never written. A batch that a thread is writing may still be written.
        let unwritten = std::mem::take(&mut self.queue.lock().lines);
        self.in_flight.abandon_all();
        drop(unwritten);
    }
}

impl LineQueue {
    fn lock(&self) -> MutexGuard<'_, LineQueueState> {
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

impl PoolJob for LineQueue {
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
            // The receiver is gone if `close` has timed out.
            let _ = closing.send(());
        }
        false
    }
}

/// Where each line begins that is complete, with its newline, in the first `written` bytes, if `before` bytes precede the first
/// line.
pub(super) fn whole_lines(lines: &[Line], before: usize, written: usize) -> Vec<usize> {
    let mut end = before;
    let begins = lines.iter().map_while(|line| {
        let begin = end;
        end += line.body().len() + 1;
        (end <= written).then_some(begin)
    });
    begins.collect()
}

/// The lines, each with a newline at its end. After a torn line they begin with a newline that ends it.
pub(super) fn join_lines(lines: &[Line], after_torn: bool) -> Vec<u8> {
    let size: usize = lines.iter().map(|line| line.body().len() + 1).sum();
    let mut bytes = Vec::with_capacity(size + 1);
    if after_torn {
        bytes.push(b'\n');
    }
    for line in lines {
        bytes.extend_from_slice(line.body());
        bytes.push(b'\n');
    }
    bytes
}

/// Writes all bytes. Returns how many were written, also if there was an error.
pub(super) fn write_counted(out: &mut impl std::io::Write, bytes: &[u8]) -> (usize, std::io::Result<()>) {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
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
    use crate::sink::{AttemptId, Confirmation, Destination};
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// Keeps each batch until the test allows it to end.
    struct GatedOutput {
        seen: Sender<usize>,
        permits: Receiver<()>,
    }

    impl LineOutput for GatedOutput {
        fn write(&mut self, batch: Vec<Line>) {
            self.seen.send(batch.len()).unwrap();
            if self.permits.recv().is_ok() {
                for line in batch {
                    line.end(Verdict::Delivered(Confirmation::Stdout));
                }
            }
        }
    }

    fn gated_writer() -> (LineWriter, Receiver<usize>, Sender<()>) {
        let (seen, batches) = channel();
        let (permit, permits) = channel();
        (LineWriter::new(GatedOutput { seen, permits }, Arc::new(ThreadPool::new("test", 1, || {}))), batches, permit)
    }

    #[tokio::test]
    async fn all_queued_lines_up_to_the_bound_are_one_batch() {
        let (writer, batches, permit) = gated_writer();
        let mut attempts = Attempts::new();
        let push = |attempts: &mut Attempts| writer.push(outgoing(Destination::Stdout, "x"), attempts.start());
        push(&mut attempts);
        assert_eq!(batches.recv().unwrap(), 1);
        for _ in 0..MAX_BATCH_LINES + 2 {
            push(&mut attempts);
        }
        for expected in [MAX_BATCH_LINES, 2] {
            permit.send(()).unwrap();
            assert_eq!(batches.recv().unwrap(), expected);
        }
        permit.send(()).unwrap();
        for id in 0..MAX_BATCH_LINES as u64 + 3 {
            assert_eq!(attempts.ended().await, (AttemptId(id), Verdict::Delivered(Confirmation::Stdout)));
        }
    }

    #[tokio::test]
    async fn closing_writes_the_queued_lines_first() {
        let (writer, _batches, permit) = gated_writer();
        let mut attempts = Attempts::new();
        for _ in 0..2 {
            permit.send(()).unwrap();
            writer.push(outgoing(Destination::Stdout, "x"), attempts.start());
        }
        writer.close(Duration::from_mins(1)).await;
        for _ in 0..2 {
            assert!(attempts.ended_already().unwrap().1.is_delivered());
        }
    }

    #[tokio::test]
    async fn a_blocked_write_does_not_delay_closing() {
        let (writer, batches, permit) = gated_writer();
        let mut attempts = Attempts::new();
        writer.push(outgoing(Destination::Stdout, "x"), attempts.start());
        batches.recv().unwrap();
        writer.push(outgoing(Destination::Stdout, "y"), attempts.start());
        writer.close(Duration::ZERO).await;
        for _ in 0..2 {
            assert!(matches!(attempts.ended_already().unwrap().1, Verdict::Retry { blame: Blame::Relay, .. }));
        }
        drop(permit);
    }
}
