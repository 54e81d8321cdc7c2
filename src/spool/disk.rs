//! How much space the disk has. The spool adds no rows before the disk is full, so that rows can still be changed and deleted.

use std::path::Path;

/// With less free space than this, transactions are small and the log is emptied after each. In bytes.
const LOW: u64 = 64 * 1024 * 1024;
/// With less free space than this, no row is added. In bytes: what the current transaction and the log may still take.
const RESERVE: u64 = 3 * 1024 * 1024;
/// A small transaction starts no further change after this many bytes.
pub(super) const SMALL_BATCH: u64 = 128 * 1024;

/// What a change takes in the log beside its row, about: the pages of indexes that it changes. In bytes.
pub(super) const LOG_OF_CHANGE: u64 = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DiskSpace {
    Plenty,
    /// Free space beside the reserve, in bytes.
    Low(u64),
    None,
}

impl DiskSpace {
    /// Of the disk that `path` is on. Where it is unknown, a transaction that fails will show that the disk is full.
    pub(super) fn of(path: &Path) -> Self {
        let Some(disk) = path.parent().and_then(|directory| rustix::fs::statvfs(directory).ok()) else {
            return Self::Plenty;
        };
        match disk.f_bavail.saturating_mul(disk.f_frsize) {
            free if free < RESERVE => Self::None,
            free if free < LOW => Self::Low(free - RESERVE),
            _ => Self::Plenty,
        }
    }

    /// Whether a transaction may make the file larger by so many bytes, which it also takes in the log.
    pub(super) fn fits(self, bytes: u64) -> bool {
        match self {
            Self::Plenty => true,
            Self::Low(spare) => bytes.saturating_mul(2) <= spare,
            Self::None => false,
        }
    }
}
