//! The open files of all file sinks. Their number is bounded, so that sources, other sinks and the admin listener always find a
//! free descriptor.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::sink::thread_pool::IDLE_TIMEOUT;

/// The largest number of open files.
pub(super) const MAX_OPEN: usize = 256;
/// File sinks use at most this part of the descriptors that the process may have: one in 4.
const DESCRIPTOR_SHARE: u64 = 4;
/// How often idle files are looked for.
const IDLE_CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// A file that is open for appending.
pub(super) struct OpenFile {
    pub(super) file: File,
    /// Device and inode, by which it is checked whether the path still leads to this file.
    pub(super) identity: (u64, u64),
    /// The file does not end with a newline.
    pub(super) torn: bool,
}

/// The open files that are not being written to.
pub(super) struct OpenFiles {
    max: usize,
    table: Mutex<FileTable>,
}

struct FileTable {
    open: HashMap<PathBuf, (OpenFile, Instant)>,
    /// How many files are being written to or opened.
    in_use: usize,
    idle_checked_at: Instant,
}

impl OpenFiles {
    pub(super) fn shared() -> Arc<Self> {
        static SHARED: LazyLock<Arc<OpenFiles>> = LazyLock::new(|| {
            let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
            Arc::new(OpenFiles::new(usize::try_from(limit / DESCRIPTOR_SHARE).unwrap_or(MAX_OPEN).clamp(1, MAX_OPEN)))
        });
        Arc::clone(&SHARED)
    }

    pub(super) fn new(max: usize) -> Self {
        Self { max, table: Mutex::new(FileTable { open: HashMap::new(), in_use: 0, idle_checked_at: Instant::now() }) }
    }

    /// Takes the file of that path if it is open. If it isn't, makes room for it. Followed by [`give_back`](Self::give_back).
    pub(super) fn take(&self, path: &Path) -> Option<OpenFile> {
        let mut table = self.lock();
        let open = table.open.remove(path).map(|(open, _)| open);
        if open.is_none() && table.open.len() + table.in_use >= self.max {
            table.close_least_used(1);
        }
        table.in_use += 1;
        open
    }

    /// Called after [`take`](Self::take), with the file if it stays open.
    pub(super) fn give_back(&self, path: &Path, open: Option<OpenFile>) {
        let now = Instant::now();
        let mut table = self.lock();
        table.in_use = table.in_use.saturating_sub(1);
        if let Some(open) = open {
            table.open.insert(path.to_owned(), (open, now));
        }
        if now.duration_since(table.idle_checked_at) >= IDLE_CHECK_INTERVAL {
            table.close_idle(now);
        }
    }

    /// Closes the least recently used quarter of the files. Returns how many.
    pub(super) fn close_some(&self) -> usize {
        let mut table = self.lock();
        let count = table.open.len().div_ceil(4);
        table.close_least_used(count);
        count
    }

    /// Closes the files that were unused for [`IDLE_TIMEOUT`].
    pub(super) fn close_idle(&self) {
        self.lock().close_idle(Instant::now());
    }

    fn lock(&self) -> MutexGuard<'_, FileTable> {
        // No code runs under the lock that could leave the table half changed.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FileTable {
    fn close_least_used(&mut self, count: usize) {
        let mut used: Vec<Instant> = self.open.values().map(|(_, used)| *used).collect();
        used.sort_unstable();
        let Some(last) = count.checked_sub(1).and_then(|last| used.get(last)).copied() else { return };
        // Several may have been used at the same instant.
        let mut left = count;
        self.open.retain(|_, (_, used)| {
            let goes = left > 0 && *used <= last;
            left -= usize::from(goes);
            !goes
        });
    }

    fn close_idle(&mut self, now: Instant) {
        self.idle_checked_at = now;
        self.open.retain(|_, (_, used)| now.duration_since(*used) < IDLE_TIMEOUT);
    }
}

/// Raises the limit of open files of the process to its maximum. If that fails, the relay works with fewer open files.
pub fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => tracing::debug!("raised the limit of open files from {current:?} to {maximum:?}"),
        Err(error) => {
            tracing::debug!(%error, "can't raise the limit of open files, {current:?}; the relay keeps fewer files open");
        }
    }
}
