//! The log of a running relay: a bounded queue of lines, which one thread writes to standard error.
//!
//! Only that thread waits for the reader of standard error. If the reader stalls, the queue fills up; then new lines are dropped
//! and counted, and the log states their number once the reader continues.

use std::cell::Cell;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

use crate::tasks::{self, TaskKind};

/// The bound of the queue, in bytes; the batch that is being written can be as large again.
const MAX_BYTES: usize = 2 * 1024 * 1024;
/// The pause after a write that would block: another process that shares standard error can make it non-blocking.
const NOT_READY: Duration = Duration::from_millis(20);

static DROPPED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static IS_WRITER: Cell<bool> = const { Cell::new(false) };
}

/// The lines dropped since the start of the process.
#[must_use]
pub fn dropped_lines() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

#[derive(Debug, Clone, Default)]
pub(super) struct LogQueue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    filled: Condvar,
    emptied: Condvar,
}

#[derive(Debug, Default)]
struct State {
    queued: Vec<u8>,
    is_writing: bool,
}

impl LogQueue {
    /// Starts the thread, which writes to `to` until the process ends.
    pub(super) fn start(to: impl Write + Send + 'static) -> io::Result<Self> {
        let queue = Self::default();
        let read = queue.clone();
        tasks::spawn_thread(TaskKind::Log, "log".to_owned(), move || read.write_all_to(to))?;
        Ok(queue)
    }

    /// Queues one or more whole lines without waiting. If there is no room, they are dropped and counted.
    pub(super) fn push(&self, lines: &[u8]) {
        let mut state = self.state();
        // The writer's own line is short, and there is one per batch.
        let has_room = state.queued.len() + lines.len() <= MAX_BYTES || IS_WRITER.get();
        if has_room {
            state.queued.extend_from_slice(lines);
            self.0.filled.notify_one();
        } else {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything is written, at most for `timeout`.
    pub(super) fn flush(&self, timeout: Duration) {
        let until = Instant::now() + timeout;
        let mut state = self.state();
        while state.is_writing || !state.queued.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.0.emptied.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn write_all_to(&self, mut to: impl Write) {
        IS_WRITER.set(true);
        let mut reported = dropped_lines();
        loop {
            let batch = self.next();
            TaskKind::Log.panic_if_requested();
            write_all_blocking(&mut to, &batch);
            let dropped = dropped_lines();
            if dropped > reported {
                let suppressed = dropped - reported;
                reported = dropped;
                tracing::warn!(suppressed, "log lines were dropped because the reader of standard error was too slow");
            }
        }
    }

    /// Waits for lines, and takes all of them.
    fn next(&self) -> Vec<u8> {
        let mut state = self.state();
        state.is_writing = false;
        while state.queued.is_empty() {
            self.0.emptied.notify_all();
            state = self.0.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.is_writing = true;
        std::mem::take(&mut state.queued)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes all bytes, without a time limit. If standard error has no reader any more, they are lost.
fn write_all_blocking(to: &mut impl Write, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(0) => return,
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(NOT_READY),
            Err(_) => return,
        }
    }
}

impl<'a> MakeWriter<'a> for LogQueue {
    type Writer = &'a LogQueue;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

/// Each call writes one line.
impl Write for &LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    const PATIENCE: Duration = Duration::from_mins(1);

    /// A reader that reads only when the test allows it.
    struct StalledOutput {
        go: Receiver<()>,
        read: Sender<Vec<u8>>,
    }

    impl Write for StalledOutput {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // The test is over.
            self.go.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            let _ = self.read.send(bytes.to_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stalled_reader_blocks_no_writer_and_dropped_lines_are_counted() {
        let ((let_go, go), (read, lines)) = (channel(), channel());
        let queue = LogQueue::start(StalledOutput { go, read }).unwrap();
        let before = dropped_lines();
        queue.push(b"first\n");
        while !queue.state().is_writing {
            std::thread::yield_now();
        }
        let line = [b'x'; 1023].iter().copied().chain([b'\n']).collect::<Vec<_>>();
        for _ in 0..MAX_BYTES / line.len() {
            queue.push(&line);
        }
        assert_eq!(dropped_lines(), before, "all of these fit");
        for _ in 0..3 {
            queue.push(&line);
        }
        assert_eq!(dropped_lines(), before + 3);
        queue.flush(Duration::from_millis(1));

        for _ in 0..2 {
            let_go.send(()).unwrap();
        }
        assert_eq!(lines.recv_timeout(PATIENCE).unwrap(), b"first\n");
        assert_eq!(lines.recv_timeout(PATIENCE).unwrap().len(), MAX_BYTES);
        queue.push(b"last\n");
        let_go.send(()).unwrap();
        queue.flush(PATIENCE);
        assert_eq!(lines.recv_timeout(PATIENCE).unwrap(), b"last\n");
    }

    #[test]
    fn the_writer_reports_dropped_lines_although_the_queue_is_full() {
        let queue = LogQueue::default();
        queue.push(&vec![b'x'; MAX_BYTES]);
        let said = queue.clone();
        let subscriber = tracing_subscriber::registry()
            .with(tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || OwnedWriter(said.clone())));
        tracing::subscriber::with_default(subscriber, || {
            IS_WRITER.set(true);
            tracing::warn!(suppressed = 7, "dropped");
            IS_WRITER.set(false);
        });
        let queued = String::from_utf8(queue.state().queued.clone()).unwrap();
        assert!(queued.ends_with("dropped suppressed=7\n"), "{:?}", queued.get(MAX_BYTES..));
    }

    struct OwnedWriter(LogQueue);

    impl Write for OwnedWriter {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            (&self.0).write(line)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
