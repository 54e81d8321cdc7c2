//! A small disk for the relay's data directory, which can be filled without harm to anything else: a tmpfs, which only
//! root can mount.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::fill_disk;

/// Bytes for the relay's files other than events.
const BASE: u64 = 24 << 20;
/// Bytes per event. The file sink receives half of the events, and each takes less than this.
const AN_EVENT: u64 = 400;
/// Upper bound for the bytes of dead letters that one round of faults creates.
const A_ROUND: u64 = 12 << 20;

/// The disk is unmounted on drop.
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts a tmpfs at `path`. Its size fits `events` events and `rounds` rounds of faults. The error says why the
    /// mount failed.
    pub fn mount(path: &Path, events: u64, rounds: u32) -> Result<Self, String> {
        fs::create_dir_all(path).expect("the data directory");
        let size = format!("size={},mode=700", BASE + events * AN_EVENT + u64::from(rounds) * A_ROUND);
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(path).output();
        let mounted = mounted.map_err(|error| format!("mount: {error}"))?;
        if !mounted.status.success() {
            return Err(String::from_utf8_lossy(&mounted.stderr).trim().to_owned());
        }
        Ok(Self { path: path.to_owned() })
    }

    pub fn fill(&self) {
        fill_disk(&self.filler());
    }

    pub fn free(&self) {
        fs::remove_file(self.filler()).expect("the filler");
    }

    fn filler(&self) -> PathBuf {
        self.path.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A lazy unmount: a process that is being killed may still have a file open.
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).output();
    }
}
