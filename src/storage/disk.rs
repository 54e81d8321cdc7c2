//! How much space the disk has. The spool adds no rows before the disk is full, so that rows can still be changed and deleted.

use std::path::Path;

/// With less free space than this, transactions are small and the log is emptied after each. In bytes.
const LOW: u64 = 64 * 1024 * 1024;
/// With less free space than this, no row is added. In bytes: what the current transaction and the log may still take.
const RESERVE: u64 = 3 * 1024 * 1024;
/// A small transaction starts no further change after this many bytes.
pub const SMALL_BATCH: u64 = 128 * 1024;

/// About how much a change takes in the log in addition to its row, in bytes: the pages of indexes that it changes.
pub const LOG_OF_CHANGE: u64 = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskSpace {
    Plenty,
    /// The free space in addition to the reserve, in bytes.
    Low(u64),
    None,
}

impl DiskSpace {
    /// The space of the disk that `path` is on. If it is unknown, a failed transaction will show that the disk is full.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        let Some(disk) = path.parent().and_then(|directory| rustix::fs::statvfs(directory).ok()) else {
            return Self::Plenty;
        };
        match disk.f_bavail.saturating_mul(disk.f_frsize) {
            free if free < RESERVE => Self::None,
            free if free < LOW => Self::Low(free - RESERVE),
            _ => Self::Plenty,
        }
    }

    /// Whether a transaction may make the file larger by `bytes`. It needs the same space in the log.
    #[must_use]
    pub fn fits(self, bytes: u64) -> bool {
        match self {
            Self::Plenty => true,
            Self::Low(spare) => bytes.saturating_mul(2) <= spare,
            Self::None => false,
        }
    }
}
