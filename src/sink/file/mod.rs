//! Appends events as lines (newline-delimited JSON) to files below the data directory.
//!
//! A line is delivered once its file was fsynced after the write; one fsync serves all lines of a batch. The path, which is the
//! value of a template, has to be below the data directory, and must not be that of one of the relay's own files.

mod appender;
mod beneath;
mod open_files;
mod path;
mod probe;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use super::lines::{self, Line, LineOutput, LineWriter};
use super::thread_pool::ThreadPool;
use super::{Attempt, Confirmation, Destination, OpenError, RenderError, RenderedDelivery, Verdict};
use crate::config::{FileConfig, SinkConfig};
use crate::event::{Carrier, EventView};
use appender::Appender;
use open_files::OpenFiles;
pub use open_files::raise_limit;
pub(super) use probe::probe;

/// The threads of all file sinks. Each sink uses one at most, so that a file system that hangs blocks only the sinks that write
/// to it, as long as fewer sinks than this hang.
const THREADS: usize = 16;

static POOL: LazyLock<Arc<ThreadPool>> =
    LazyLock::new(|| Arc::new(ThreadPool::new("lines to files", THREADS, || OpenFiles::shared().close_idle())));

pub(super) struct FileSink {
    writer: LineWriter,
}

impl FileSink {
    #[allow(clippy::unused_async, clippy::unnecessary_wraps, reason = "all kinds of sinks have the same functions")]
    pub(super) async fn open(file: &FileConfig) -> Result<Self, OpenError> {
        let out = FileOutput(Appender::new(file.dir.clone(), OpenFiles::shared()));
        Ok(Self { writer: LineWriter::new(out, Arc::clone(&POOL)) })
    }

    #[allow(clippy::unused_self, reason = "all kinds of sinks have the same functions")]
    pub(super) fn capacity(&self) -> usize {
        lines::CAPACITY
    }

    pub(super) fn attempt(&self, outgoing: RenderedDelivery, attempt: Attempt) {
        if matches!(outgoing.destination, Destination::File { .. }) {
            self.writer.push(outgoing, attempt);
        } else {
            super::reject_other_kind(attempt);
        }
    }

    pub(super) async fn close(self, grace: Duration) {
        self.writer.close(grace).await;
    }
}

pub(super) fn render(
    config: &SinkConfig,
    file: &FileConfig,
    view: EventView<'_>,
) -> Result<RenderedDelivery, RenderError> {
    let relative = file.path.render_address(view).map_err(|error| RenderError::failed("path", error))?;
    let path = path::path_below(&file.dir, &relative, &file.reserved)
        .map_err(|problem| RenderError::failed("path", problem))?;
    let encoded = config.format.encode(view, Carrier::Line).map_err(RenderError::of_body)?;
    let destination = Destination::File { path };
    Ok(RenderedDelivery { id: view.event.id, destination, headers: Vec::new(), body: encoded.body })
}

/// Groups the lines of a batch by file, and appends each group.
struct FileOutput(Appender);

impl LineOutput for FileOutput {
    fn write(&mut self, batch: Vec<Line>) {
        let mut files: BTreeMap<PathBuf, Vec<Line>> = BTreeMap::new();
        for line in batch {
            match &line.outgoing.destination {
                Destination::File { path } => files.entry(path.clone()).or_default().push(line),
                // `attempt` queues no other kind. Dropping the line ends its attempt.
                _ => drop(line),
            }
        }
        for (path, lines) in files {
            let (durable, error) = self.0.append(&path, &lines);
            let mut lines = lines.into_iter();
            // In this order: `zip` takes no line after the last offset.
            for (offset, line) in durable.into_iter().zip(lines.by_ref()) {
                line.end(Verdict::Delivered(Confirmation::File { path: path.clone(), offset }));
            }
            let Some(error) = error else { continue };
            for line in lines {
                line.end(Verdict::Retry { after: None, blame: error.blame(), cause: error.to_string() });
            }
        }
    }
}
