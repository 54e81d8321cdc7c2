//! How much room the disk has: the spool stops taking in before there is none, so that what goes can still be written down.

use std::path::Path;

/// With less than this, transactions are small and the log is emptied after each. In bytes.
const LOW: u64 = 64 * 1024 * 1024;
/// With less than this, nothing more is taken in. In bytes: what transactions under way and the log may still take.
const RESERVE: u64 = 3 * 1024 * 1024;
/// A small transaction begins no further change after so many bytes.
pub(super) const SMALL_BATCH: u64 = 128 * 1024;

/// What a change takes of the log beside its row: pages of indexes that it changes. In bytes, about.
pub(super) const LOG_OF_CHANGE: u64 = 1024;

/// What room there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    Plenty,
    /// So many bytes beside the reserve.
    Little(u64),
    None,
}

impl Room {
    /// Of the disk that `path` is on; where that can't be told, a transaction that fails will tell.
    pub(super) fn of(path: &Path) -> Self {
        let Some(disk) = path.parent().and_then(|directory| rustix::fs::statvfs(directory).ok()) else {
            return Self::Plenty;
        };
        match disk.f_bavail.saturating_mul(disk.f_frsize) {
            free if free < RESERVE => Self::None,
            free if free < LOW => Self::Little(free - RESERVE),
            _ => Self::Plenty,
        }
    }

    /// Whether a transaction may make the file larger by so many bytes, which the log takes, too.
    pub(super) fn takes(self, bytes: u64) -> bool {
        match self {
            Self::Plenty => true,
            Self::Little(spare) => bytes.saturating_mul(2) <= spare,
            Self::None => false,
        }
    }
}
