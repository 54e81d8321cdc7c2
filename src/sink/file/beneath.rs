//! Opens files and directories that lie below another, wherever links on the way lead.
//!
//! Linux has `openat2` with `RESOLVE_BENEATH` for it, since 5.6: the kernel refuses a path that leads outside, whoever changes
//! links meanwhile. Elsewhere, and where a sandbox forbids that call, each directory on the way is opened by itself and none may be
//! a link.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::{Errno, Result};

/// A path that others change while it is looked up is looked up again so often.
const TRIES: usize = 16;

/// Opens `path`, which is relative, below `dir`. `EXDEV` or `ELOOP`: it leads, or may lead, elsewhere.
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

/// The same without `openat2`.
fn step_by_step(dir: impl AsFd, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let on_the_way = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return openat(dir, path, flags, mode);
    };
    let mut above = None;
    for name in parent {
        let opened = match &above {
            None => openat(&dir, name, on_the_way, Mode::empty()),
            Some(above) => openat(above, name, on_the_way, Mode::empty()),
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
    fn nothing_outside_is_opened() {
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
        let ways: [Open; 2] = [
            |dir, path| open(dir, path, OFlags::RDONLY | OFlags::NOFOLLOW, Mode::empty()),
            |dir, path| step_by_step(dir, path, OFlags::RDONLY, Mode::empty()),
        ];
        for way in ways {
            assert!(way(&dir, Path::new("real/x")).is_ok());
            for path in ["absolute/x", "relative/x", "magic/0", "real/link"] {
                let error = way(&dir, Path::new(path)).unwrap_err();
                assert!(matches!(error, Errno::XDEV | Errno::LOOP), "{path}: {error}");
            }
            assert_eq!(way(&dir, Path::new("real/none")).unwrap_err(), Errno::NOENT);
        }
        // A link that stays below is followed where the kernel can tell.
        symlink("real", inside.join("stays")).unwrap();
        assert!(open(&dir, Path::new("stays/x"), flags, Mode::empty()).is_ok());
    }
}
