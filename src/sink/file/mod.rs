//! Events as lines in files below the data directory: newline-delimited JSON.
//!
//! A line is delivered when its file was fsynced after it; one fsync serves all lines of a batch. What a template made of an
//! event is data: it names a file below the data directory, and none that the relay keeps there for itself.

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

use super::lines::{self, Line, LineWriter, Out};
use super::pool::Pool;
use super::{Attempt, Destination, OpenError, Outgoing, Unrenderable, Verdict};
use crate::config::{FileConfig, SinkConfig};
use crate::event::{Carrier, Scope};
use appender::Appender;
use open_files::OpenFiles;
pub use open_files::raise_limit;
pub(super) use probe::probe;

/// Threads that write for all file sinks. Each sink has one at most, so that a file system that hangs below one of them stops no other
/// before so many hang.
const THREADS: usize = 16;

static POOL: LazyLock<Arc<Pool>> =
    LazyLock::new(|| Arc::new(Pool::new("lines to files", THREADS, || OpenFiles::shared().close_idle())));

/// Files that lines are appended to.
pub(super) struct FileSink {
    writer: LineWriter,
}

impl FileSink {
    #[allow(clippy::unused_async, clippy::unnecessary_wraps, reason = "all kinds of sinks open alike")]
    pub(super) async fn open(file: &FileConfig) -> Result<Self, OpenError> {
        let out = Files(Appender::new(file.dir.clone(), OpenFiles::shared()));
        Ok(Self { writer: LineWriter::new(out, Arc::clone(&POOL)) })
    }

    #[allow(clippy::unused_self, reason = "all kinds of sinks are asked alike")]
    pub(super) fn capacity(&self) -> usize {
        lines::CAPACITY
    }

    pub(super) fn attempt(&self, outgoing: Outgoing, attempt: Attempt) {
        if matches!(outgoing.destination, Destination::File { .. }) {
            self.writer.push(outgoing, attempt);
        } else {
            super::misdirected(attempt);
        }
    }

    pub(super) async fn close(self, grace: Duration) {
        self.writer.close(grace).await;
    }
}

/// The line of that event. Pure.
pub(super) fn render(config: &SinkConfig, file: &FileConfig, scope: Scope<'_>) -> Result<Outgoing, Unrenderable> {
    let relative = file.path.render_address(scope).map_err(|error| Unrenderable::failed("path", error))?;
    let path =
        path::below(&file.dir, &relative, &file.reserved).map_err(|problem| Unrenderable::failed("path", problem))?;
    let encoded = config.format.encode(scope, Carrier::Line).map_err(|error| Unrenderable::failed("body", error))?;
    let destination = Destination::File { path };
    Ok(Outgoing { id: scope.event.id, destination, headers: Vec::new(), body: encoded.body })
}

/// Writes each file's lines of a batch together.
struct Files(Appender);

impl Out for Files {
    fn write(&mut self, batch: Vec<Line>) {
        let mut files: BTreeMap<PathBuf, Vec<Line>> = BTreeMap::new();
        for line in batch {
            match &line.outgoing.destination {
                Destination::File { path } => files.entry(path.clone()).or_default().push(line),
                // Dropped, which ends it: `attempt` lets no other in.
                _ => drop(line),
            }
        }
        for (path, lines) in files {
            let (durable, failure) = self.0.append(&path, &lines);
            let verdict = match failure {
                None => Verdict::Delivered,
                Some(failure) => Verdict::Retry { after: None, blame: failure.blame(), cause: failure.to_string() },
            };
            for (index, line) in lines.into_iter().enumerate() {
                line.end(if index < durable { Verdict::Delivered } else { verdict.clone() });
            }
        }
    }
}
