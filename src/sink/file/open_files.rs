//! The files that are open, of all file sinks together: there are never so many that sources, other sinks and the admin listener find
//! no descriptor.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::sink::pool::IDLE;

/// Files that are open at once, at most.
pub(super) const MAX_OPEN: usize = 256;
/// Of the descriptors that the process may have, file sinks take at most this part: one in so many.
const SHARE: u64 = 4;
/// How often it is looked for idle ones.
const LOOK: Duration = Duration::from_secs(10);

/// A file that is open for lines.
pub(super) struct Open {
    pub(super) file: File,
    /// Device and inode: whether the path still leads here.
    pub(super) identity: (u64, u64),
    /// The file doesn't end with a line's end.
    pub(super) torn: bool,
}

/// The table of all that are open and not just being written to.
pub(super) struct OpenFiles {
    max: usize,
    table: Mutex<Table>,
}

struct Table {
    open: HashMap<PathBuf, (Open, Instant)>,
    /// Taken out of the table, or just being opened.
    taken: usize,
    looked: Instant,
}

impl OpenFiles {
    /// That of the process.
    pub(super) fn shared() -> Arc<Self> {
        static SHARED: LazyLock<Arc<OpenFiles>> = LazyLock::new(|| {
            let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
            Arc::new(OpenFiles::new(usize::try_from(limit / SHARE).unwrap_or(MAX_OPEN).clamp(1, MAX_OPEN)))
        });
        Arc::clone(&SHARED)
    }

    pub(super) fn new(max: usize) -> Self {
        Self { max, table: Mutex::new(Table { open: HashMap::new(), taken: 0, looked: Instant::now() }) }
    }

    /// The file of that path, where it is open. Either way there is room for one now, until [`give_back`](Self::give_back).
    pub(super) fn take(&self, path: &Path) -> Option<Open> {
        let mut table = self.lock();
        let taken = table.open.remove(path).map(|(open, _)| open);
        if taken.is_none() && table.open.len() + table.taken >= self.max {
            table.close_least_used(1);
        }
        table.taken += 1;
        taken
    }

    /// The end of what began with [`take`](Self::take), with the file if it stays open.
    pub(super) fn give_back(&self, path: &Path, open: Option<Open>) {
        let now = Instant::now();
        let mut table = self.lock();
        table.taken = table.taken.saturating_sub(1);
        if let Some(open) = open {
            table.open.insert(path.to_owned(), (open, now));
        }
        if now.duration_since(table.looked) >= LOOK {
            table.close_idle(now);
        }
    }

    /// Closes a quarter of them, those that were used least recently: how many.
    pub(super) fn close_some(&self) -> usize {
        let mut table = self.lock();
        let count = table.open.len().div_ceil(4);
        table.close_least_used(count);
        count
    }

    /// Closes those that were not used for long.
    pub(super) fn close_idle(&self) {
        self.lock().close_idle(Instant::now());
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // No code runs under the lock that could leave the table half changed.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn close_least_used(&mut self, count: usize) {
        let mut used: Vec<Instant> = self.open.values().map(|(_, used)| *used).collect();
        used.sort_unstable();
        let Some(last) = count.checked_sub(1).and_then(|last| used.get(last)).copied() else { return };
        // Two may have been used at the same instant.
        let mut left = count;
        self.open.retain(|_, (_, used)| {
            let goes = left > 0 && *used <= last;
            left -= usize::from(goes);
            !goes
        });
    }

    fn close_idle(&mut self, now: Instant) {
        self.looked = now;
        self.open.retain(|_, (_, used)| now.duration_since(*used) < IDLE);
    }
}

/// Lets the process have as many descriptors as it may. What it has is enough for less where the system says no.
pub fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => tracing::debug!(?current, ?maximum, "raised the limit of open files"),
        Err(error) => tracing::debug!(?current, ?maximum, %error, "the limit of open files stays as it is"),
    }
}
