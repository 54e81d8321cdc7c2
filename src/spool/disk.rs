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

/// File systems that are memory: `TMPFS_MAGIC`, `RAMFS_MAGIC` of Linux' `statfs(2)`.
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// Whether what is written at that path, which need not be there yet, is gone once the machine or container ends.
#[must_use]
pub fn is_in_memory(path: &Path) -> bool {
    let found = path.ancestors().find_map(|path| rustix::fs::statfs(path).ok());
    // The type's width differs between platforms.
    found.is_some_and(|found| u64::try_from(found.f_type).is_ok_and(|kind| IN_MEMORY.contains(&kind)))
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_memory_is_told_from_disks() {
        assert!(is_in_memory(Path::new("/dev/shm/not/there/spool.db")), "/dev/shm is memory on Linux");
        assert!(!is_in_memory(Path::new("/proc/self/spool.db")));
    }
}
