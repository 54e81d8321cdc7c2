//! The file system of the spool. SQLite's write-ahead log needs shared memory and reliable locks, which network file systems
//! don't have.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The kernel's names of network file systems.
const NETWORK: &[&str] = &[
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "afs",
    "ceph",
    "lustre",
    "gpfs",
    "beegfs",
    "ocfs2",
    "gfs2",
    "glusterfs",
    "fuse.glusterfs",
    "fuse.sshfs",
    "fuse.s3fs",
    "fuse.ceph",
    "fuse.rclone",
    "fuse.gcsfuse",
    "fuse.blobfuse",
];

/// The kernel's names of file systems that are gone after a reboot.
const IN_MEMORY: &[&str] = &["tmpfs", "ramfs"];

/// The kernel's name of the network file system that `directory` is on; `None` also if it is unknown.
#[must_use]
pub fn network_file_system(directory: &Path) -> Option<String> {
    one_of(NETWORK, directory)
}

/// A warning if the spool at `path` is in memory, with what to do. The file need not exist yet.
#[must_use]
pub fn in_memory_warning(path: &Path) -> Option<String> {
    let directory = std::path::absolute(path).ok()?;
    let kind = one_of(IN_MEMORY, directory.ancestors().skip(1).find(|directory| directory.exists())?)?;
    Some(format!(
        "the spool {} is in memory ({kind}): spooled deliveries and dead letters are lost at a reboot; put it on a disk with \
         `--data-dir` or `spool.path`",
        path.display()
    ))
}

/// The file system that `directory` is on, if it is one of `kinds`.
fn one_of(kinds: &[&str], directory: &Path) -> Option<String> {
    let device = std::fs::metadata(directory).ok()?.dev();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let kind = kind_of(&mounts, device)?;
    kinds.contains(&kind).then(|| kind.to_owned())
}

/// The type of the mounted file system with the device number `device`; see `proc_pid_mountinfo(5)`.
fn kind_of(mounts: &str, device: u64) -> Option<&str> {
    let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        (before.split(' ').nth(2)? == device).then(|| after.split(' ').next())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 0:52 /export /mnt/data\\040x rw,relatime shared:20 master:3 - nfs4 server:/export rw,vers=4.2
41 22 0:53 / /mnt/win rw - cifs //server/share rw
";

    #[test]
    fn the_type_is_found_by_the_device_number() {
        assert_eq!(kind_of(MOUNTS, 0x801), Some("ext4"));
        assert_eq!(kind_of(MOUNTS, 52), Some("nfs4"));
        assert_eq!(kind_of(MOUNTS, 53), Some("cifs"));
        assert_eq!(kind_of(MOUNTS, 54), None);
    }

    #[test]
    fn a_spool_in_memory_is_detected_before_the_file_exists() {
        for path in ["/dev/shm/spool.db", "/dev/shm/not/there/yet/spool.db"] {
            let warning = in_memory_warning(Path::new(path)).unwrap_or_default();
            assert!(warning.starts_with(&format!("the spool {path} is in memory (tmpfs)")), "{warning}");
        }
        assert_eq!(in_memory_warning(Path::new("/proc/spool.db")), None);
    }

    #[test]
    fn a_local_directory_is_no_network_file_system() {
        assert_eq!(network_file_system(&std::env::temp_dir()), None);
    }
}
