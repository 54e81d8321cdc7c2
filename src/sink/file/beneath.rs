//! Opens files and directories below a given directory, and no others, wherever symbolic links in the path lead.
//!
//! Linux 5.6 and later has `openat2` with `RESOLVE_BENEATH`: the kernel refuses a path that leads outside, even if links are
//! changed at the same time. On other systems, and if a sandbox forbids that call, each directory of the path is opened in turn
//! and none may be a symbolic link.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::{Errno, Result};

/// How often a path is looked up again if it is changed during the lookup.
const TRIES: usize = 16;

/// Opens the relative `path` below `dir`. The errors `EXDEV` and `ELOOP` mean that it leads, or may lead, outside.
pub(super) fn open(dir: impl AsFd, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    #[cfg(target_os = "linux")]
    for _ in 0..TRIES {
        use rustix::fs::{ResolveFlags, openat2};
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        match openat2(&dir, path, flags | OFlags::CLOEXEC, mode, resolve) {
            Err(Errno::AGAIN) => {}
            Err(Errno::NOSYS | Errno::PERM) => break,
            opened => return opened,
        }
    }
    step_by_step(dir, path, flags, mode)
}

fn step_by_step(dir: impl AsFd, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory_flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return openat(dir, path, flags, mode);
    };
    let mut above = None;
    for name in parent {
        let opened = match &above {
            None => openat(&dir, name, directory_flags, Mode::empty()),
            Some(above) => openat(above, name, directory_flags, Mode::empty()),
        };
        above = Some(opened.map_err(|error| if error == Errno::NOTDIR { Errno::LOOP } else { error })?);
    }
    match above {
        None => openat(dir, name, flags, mode),
        Some(above) => openat(above, name, flags, mode),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    type Open = fn(&File, &Path) -> Result<OwnedFd>;

    #[test]
    fn no_path_that_leads_outside_is_opened() {
        let home = tempfile::tempdir().unwrap();
        let (inside, outside) = (home.path().join("in"), home.path().join("out"));
        for dir in [inside.join("real"), outside.clone()] {
            fs::create_dir_all(dir).unwrap();
        }
        fs::write(outside.join("x"), "").unwrap();
        fs::write(inside.join("real/x"), "").unwrap();
        symlink(&outside, inside.join("absolute")).unwrap();
        symlink("../out", inside.join("relative")).unwrap();
        symlink("/proc/self/fd", inside.join("magic")).unwrap();
        symlink("../real/x", inside.join("real/link")).unwrap();
        let dir = File::open(&inside).unwrap();
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW;
        let implementations: [Open; 2] = [
            |dir, path| open(dir, path, OFlags::RDONLY | OFlags::NOFOLLOW, Mode::empty()),
            |dir, path| step_by_step(dir, path, OFlags::RDONLY, Mode::empty()),
        ];
        for open in implementations {
            assert!(open(&dir, Path::new("real/x")).is_ok());
            for path in ["absolute/x", "relative/x", "magic/0", "real/link"] {
                let error = open(&dir, Path::new(path)).unwrap_err();
                assert!(matches!(error, Errno::XDEV | Errno::LOOP), "{path}: {error}");
            }
            assert_eq!(open(&dir, Path::new("real/none")).unwrap_err(), Errno::NOENT);
        }
        // With `openat2`, a link that stays below the directory is followed.
        symlink("real", inside.join("stays")).unwrap();
        assert!(open(&dir, Path::new("stays/x"), flags, Mode::empty()).is_ok());
    }
}
