//! The log of a running relay: whoever logs a line puts it into a bounded queue, and one thread writes it to standard error.
//!
//! Nobody but that thread ever waits for whoever reads standard error. While the reader stalls, the queue fills; then new lines
//! are dropped and counted, and the log says how many were as soon as it flows again.

use std::cell::Cell;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

use crate::tasks::{self, TaskKind};

/// What may wait to be written, in bytes; the batch that is being written is at most as much again.
const MAX_BYTES: usize = 2 * 1024 * 1024;
/// A reader that isn't ready (standard error can be set not to block by whoever shares it) is tried again after this.
const NOT_READY: Duration = Duration::from_millis(20);

/// Lines that were dropped by this process.
static DROPPED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// This is the thread that writes.
    static IS_WRITER: Cell<bool> = const { Cell::new(false) };
}

/// How many lines of the log were dropped since the start.
#[must_use]
pub fn dropped_lines() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Where lines wait for the thread that writes them.
#[derive(Debug, Clone, Default)]
pub(super) struct LogQueue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Something waits.
    filled: Condvar,
    /// Nothing waits any more.
    emptied: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    is_writing: bool,
}

impl LogQueue {
    /// Starts the thread, which writes to `to` for as long as the process lives.
    pub(super) fn start(to: impl Write + Send + 'static) -> io::Result<Self> {
        let queue = Self::default();
        let read = queue.clone();
        tasks::spawn_thread(TaskKind::Log, "log".to_owned(), move || read.write_all_to(to))?;
        Ok(queue)
    }

    /// Puts a whole line in, or several, and returns at once. What there is no room for is dropped and counted.
    pub(super) fn push(&self, lines: &[u8]) {
        let mut state = self.state();
        // What the writer itself has to say is short, and said once a batch.
        let has_room = state.waiting.len() + lines.len() <= MAX_BYTES || IS_WRITER.get();
        if has_room {
            state.waiting.extend_from_slice(lines);
            self.0.filled.notify_one();
        } else {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything is written, at most for `patience`.
    pub(super) fn flush(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let mut state = self.state();
        while state.is_writing || !state.waiting.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.0.emptied.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn write_all_to(&self, mut to: impl Write) {
        IS_WRITER.set(true);
        let mut said = dropped_lines();
        loop {
            let batch = self.next();
            TaskKind::Log.panic_if_requested();
            write_patiently(&mut to, &batch);
            let dropped = dropped_lines();
            if dropped > said {
                let lines = dropped - said;
                said = dropped;
                tracing::warn!(lines, "log lines were dropped: whoever reads this log was too slow");
            }
        }
    }

    /// All that waits, once something does.
    fn next(&self) -> Vec<u8> {
        let mut state = self.state();
        state.is_writing = false;
        while state.waiting.is_empty() {
            self.0.emptied.notify_all();
            state = self.0.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.is_writing = true;
        std::mem::take(&mut state.waiting)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes all of it, for as long as that takes. What can't be written at all, since nobody reads any more, is lost.
fn write_patiently(to: &mut impl Write, mut bytes: &[u8]) {
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

/// A line is written by one call.
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

    /// Somebody who reads only when the test says so.
    struct Stalled {
        go: Receiver<()>,
        read: Sender<Vec<u8>>,
    }

    impl Write for Stalled {
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
    fn a_stalled_reader_holds_up_nobody_and_what_was_dropped_is_counted_and_said() {
        let ((let_go, go), (read, lines)) = (channel(), channel());
        let queue = LogQueue::start(Stalled { go, read }).unwrap();
        let before = dropped_lines();
        queue.push(b"first\n");
        while !queue.state().is_writing {
            std::thread::yield_now();
        }
        let line = [b'x'; 1023].iter().copied().chain([b'\n']).collect::<Vec<_>>();
        for _ in 0..MAX_BYTES / line.len() {
            queue.push(&line);
        }
        assert_eq!(dropped_lines(), before, "all of these have room");
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
    fn the_writer_says_itself_what_was_dropped_although_there_is_no_room() {
        let queue = LogQueue::default();
        queue.push(&vec![b'x'; MAX_BYTES]);
        let said = queue.clone();
        let subscriber = tracing_subscriber::registry()
            .with(tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || Owned(said.clone())));
        tracing::subscriber::with_default(subscriber, || {
            IS_WRITER.set(true);
            tracing::warn!(lines = 7, "dropped");
            IS_WRITER.set(false);
        });
        let waiting = String::from_utf8(queue.state().waiting.clone()).unwrap();
        assert!(waiting.ends_with("dropped lines=7\n"), "{:?}", waiting.get(MAX_BYTES..));
    }

    struct Owned(LogQueue);

    impl Write for Owned {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            (&self.0).write(line)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
