//! Writes events as lines to standard output.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use super::lines::{self, Line, LineOutput, LineWriter, join_lines, whole_lines, write_counted};
use super::thread_pool::ThreadPool;
use super::{Attempt, Blame, Confirmation, Destination, OpenError, RenderError, RenderedDelivery, Verdict};
use crate::config::SinkConfig;
use crate::event::{Carrier, EventView};

/// A thread of its own, as a write blocks for ever if no process reads standard output.
static THREAD: LazyLock<Arc<ThreadPool>> = LazyLock::new(|| Arc::new(ThreadPool::new("lines to stdout", 1, || {})));

pub(super) struct StdoutSink {
    writer: LineWriter,
}

impl StdoutSink {
    #[allow(clippy::unused_async, reason = "all kinds of sinks have the same functions")]
    pub(super) async fn open(config: &SinkConfig) -> Result<Self, OpenError> {
        let failed = |error: std::io::Error| OpenError {
            sink: config.name.to_string(),
            detail: format!("standard output can't be opened: {error}"),
        };
        // Not `std::io::stdout`: it buffers what it couldn't write, and writes it later.
        let out = std::io::stdout().as_fd().try_clone_to_owned().map_err(failed)?;
        let out = StdoutOutput { out: File::from(out), torn: false };
        Ok(Self { writer: LineWriter::new(out, Arc::clone(&THREAD)) })
    }

    #[allow(clippy::unused_self, reason = "all kinds of sinks have the same functions")]
    pub(super) fn capacity(&self) -> usize {
        lines::CAPACITY
    }

    pub(super) fn attempt(&self, outgoing: RenderedDelivery, attempt: Attempt) {
        if outgoing.destination == Destination::Stdout {
            self.writer.push(outgoing, attempt);
        } else {
            super::reject_other_kind(attempt);
        }
    }

    pub(super) async fn close(self, grace: Duration) {
        self.writer.close(grace).await;
    }
}

pub(super) fn render(config: &SinkConfig, view: EventView<'_>) -> Result<RenderedDelivery, RenderError> {
    let encoded = config.format.encode(view, Carrier::Line).map_err(RenderError::of_body)?;
    Ok(RenderedDelivery {
        id: view.event.id,
        destination: Destination::Stdout,
        headers: Vec::new(),
        body: encoded.body,
    })
}

/// Writes lines without a buffer.
struct StdoutOutput<W> {
    out: W,
    /// The last write ended in the middle of a line.
    torn: bool,
}

impl<W: Write + Send + 'static> LineOutput for StdoutOutput<W> {
    fn write(&mut self, batch: Vec<Line>) {
        let bytes = join_lines(&batch, self.torn);
        let (written, result) = write_counted(&mut self.out, &bytes);
        let delivered = whole_lines(&batch, usize::from(self.torn), written).len();
        if written > 0 {
            self.torn = bytes.get(written - 1) != Some(&b'\n');
        }
        let cause = result.err().map(|error| format!("can't write to standard output: {error}")).unwrap_or_default();
        for (index, line) in batch.into_iter().enumerate() {
            line.end(if index < delivered {
                Verdict::Delivered(Confirmation::Stdout)
            } else {
                Verdict::Retry { after: None, cause: cause.clone(), blame: Blame::Sink }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::fixtures::{Attempts, outgoing};
    use std::io;
    use std::sync::Mutex;

    /// Takes this many bytes, then fails once.
    #[derive(Clone)]
    struct ShortWriter(Arc<Mutex<(usize, Vec<u8>)>>);

    impl Write for ShortWriter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let (room, taken) = &mut *self.0.lock().unwrap();
            if *room == 0 {
                *room = usize::MAX;
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let more = bytes.len().min(*room);
            *room -= more;
            taken.extend_from_slice(&bytes[..more]);
            Ok(more)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_broken_pipe_is_a_failure_of_the_sink_and_the_next_line_starts_on_a_new_line() {
        let out = ShortWriter(Arc::new(Mutex::new((6, Vec::new()))));
        let writer = LineWriter::new(StdoutOutput { out: out.clone(), torn: false }, Arc::clone(&THREAD));
        let mut attempts = Attempts::new();
        let mut verdicts = Vec::new();
        for body in ["one", "two", "three"] {
            writer.push(outgoing(Destination::Stdout, body), attempts.start());
            verdicts.push(attempts.ended().await.1);
        }
        assert_eq!(verdicts[0], Verdict::Delivered(Confirmation::Stdout));
        assert!(
            matches!(&verdicts[1], Verdict::Retry { blame: Blame::Sink, cause, .. } if cause.contains("broken pipe")),
            "{verdicts:?}"
        );
        assert_eq!(verdicts[2], Verdict::Delivered(Confirmation::Stdout));
        assert_eq!(String::from_utf8_lossy(&out.0.lock().unwrap().1), "one\ntw\nthree\n");
    }
}
