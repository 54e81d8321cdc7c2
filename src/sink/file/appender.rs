//! Appends to files so that what it says is written survives a crash.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, fsync, mkdirat, statat};
use rustix::io::Errno;

use super::beneath;
use super::open_files::{Open, OpenFiles};
use crate::sink::Blame;
use crate::sink::lines::{Line, piece, whole, write_counted};

/// Others than the relay's user and group have no business with what REGARDS' partners get.
const FILE_MODE: u32 = 0o640;
const DIR_MODE: u32 = 0o750;

/// Why lines could not be made durable.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The file system says so.
    #[error("{path}: {cause}")]
    Io { path: PathBuf, cause: io::Error },
    /// Something is there that lines are not written to.
    #[error("{path}: {problem}")]
    Place { path: PathBuf, problem: &'static str },
}

impl Failure {
    /// A disk that is full or broken speaks of the sink, a name that can't be a file only of itself.
    pub(super) fn blame(&self) -> Blame {
        use io::ErrorKind::{InvalidFilename, IsADirectory, NotADirectory};
        match self {
            Self::Place { .. } => Blame::Delivery,
            Self::Io { cause, .. } if lacks_descriptors(cause) => Blame::Relay,
            Self::Io { cause, .. } if matches!(cause.kind(), InvalidFilename | IsADirectory | NotADirectory) => {
                Blame::Delivery
            }
            Self::Io { .. } => Blame::Sink,
        }
    }
}

/// Appends lines to files below a directory.
pub(super) struct Appender {
    /// What is written stays below this.
    dir: PathBuf,
    files: Arc<OpenFiles>,
}

impl Appender {
    pub(super) fn new(dir: PathBuf, files: Arc<OpenFiles>) -> Self {
        Self { dir, files }
    }

    /// Appends the lines and makes them durable: how many of them are, and why not the others.
    pub(super) fn append(&self, path: &Path, lines: &[Line]) -> (usize, Option<Failure>) {
        let known = self.files.take(path);
        let (durable, open, failure) = match self.current(path, known) {
            Ok(mut open) => match write(&open.file, open.torn, lines) {
                (durable, Ok(())) => {
                    open.torn = false;
                    (durable, Some(open), None)
                }
                // The file is closed. How it ends is looked up when it is opened again; and after a failed fsync nothing more
                // can be known of what this handle wrote.
                (durable, Err(cause)) => (durable, None, Some(Failure::Io { path: path.to_owned(), cause })),
            },
            Err(failure) => (0, None, Some(failure)),
        };
        self.files.give_back(path, open);
        (durable, failure)
    }

    /// The open file of that path, if the path still leads to it; opened otherwise.
    fn current(&self, path: &Path, known: Option<Open>) -> Result<Open, Failure> {
        if let Some(open) = known {
            match fs::symlink_metadata(path) {
                Ok(found) if identity(&found) == open.identity => return Ok(open),
                // Rotated or deleted: what it has is fsynced.
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(cause) => return Err(Failure::Io { path: path.to_owned(), cause }),
            }
        }
        loop {
            match self.open_file(path) {
                Err(Failure::Io { cause, .. }) if lacks_descriptors(&cause) && self.files.close_some() > 0 => {}
                opened => return opened,
            }
        }
    }

    fn open_file(&self, path: &Path) -> Result<Open, Failure> {
        let failed = |cause: Errno| match cause {
            Errno::XDEV => Failure::Place { path: path.to_owned(), problem: "it leads out of the data directory" },
            cause => Failure::Io { path: path.to_owned(), cause: cause.into() },
        };
        let place = |problem| Failure::Place { path: path.to_owned(), problem };
        let relative = path.strip_prefix(&self.dir).map_err(|_| place("it is not in the data directory"))?;
        let name = relative.file_name().ok_or_else(|| place("it has no name"))?;
        let parent = self.parent(relative.parent().unwrap_or(Path::new("")))?;
        let is_new = match statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            // Opening another kind of file may block (a pipe) or do something (a device).
            Ok(found) => match FileType::from_raw_mode(found.st_mode) {
                FileType::RegularFile => false,
                FileType::Symlink => return Err(place("it is a symbolic link, which may lead elsewhere")),
                _ => return Err(place("it is there, and not a file")),
            },
            Err(Errno::NOENT) => true,
            Err(cause) => return Err(failed(cause)),
        };
        // Read, to see how it ends.
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = beneath::open(&parent, Path::new(name), flags, Mode::from_raw_mode(FILE_MODE)).map_err(failed)?;
        if is_new {
            fsync(&parent).map_err(failed)?;
        }
        let (file, failed) = (File::from(file), |cause| Failure::Io { path: path.to_owned(), cause });
        let found = file.metadata().map_err(failed)?;
        if !found.is_file() {
            return Err(place("it is there, and not a file"));
        }
        let torn = ends_torn(&file, found.len()).map_err(failed)?;
        Ok(Open { file, identity: identity(&found), torn })
    }

    /// The directory that a file lies in. Makes those that are missing, each durable in the one above it.
    fn parent(&self, relative: &Path) -> Result<OwnedFd, Failure> {
        let failed = |path: &Path| {
            let path = self.dir.join(path);
            move |cause: Errno| match cause {
                Errno::XDEV | Errno::LOOP => Failure::Place { path, problem: "it leads out of the data directory" },
                cause => Failure::Io { path, cause: cause.into() },
            }
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let open = |dir: &OwnedFd, path: &Path| beneath::open(dir, path, flags, Mode::empty());
        let here = Path::new("");
        fs::create_dir_all(&self.dir).map_err(|cause| Failure::Io { path: self.dir.clone(), cause })?;
        let root = rustix::fs::open(&self.dir, flags | OFlags::CLOEXEC, Mode::empty()).map_err(failed(here))?;
        if relative == here {
            return Ok(root);
        }
        match open(&root, relative) {
            Err(Errno::NOENT) => {}
            opened => return opened.map_err(failed(relative)),
        }
        let mut path = PathBuf::new();
        let mut above: Option<OwnedFd> = None;
        for name in relative {
            path.push(name);
            let parent = above.as_ref().unwrap_or(&root);
            match mkdirat(parent, name, Mode::from_raw_mode(DIR_MODE)) {
                Ok(()) => fsync(parent).map_err(failed(&path))?,
                Err(Errno::EXIST) => {}
                Err(cause) => return Err(failed(&path)(cause)),
            }
            above = Some(open(&root, &path).map_err(failed(&path))?);
        }
        Ok(above.unwrap_or(root))
    }
}

/// The process, or the machine, has no descriptor left.
fn lacks_descriptors(cause: &io::Error) -> bool {
    matches!(Errno::from_io_error(cause), Some(Errno::MFILE | Errno::NFILE))
}

fn identity(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

/// Whether the file's last line has no end.
fn ends_torn(file: &File, size: u64) -> io::Result<bool> {
    let Some(last) = size.checked_sub(1) else { return Ok(false) };
    let mut byte = [0];
    file.read_exact_at(&mut byte, last)?;
    Ok(byte != *b"\n")
}

/// Writes and fsyncs. How many lines are durable, also where something went wrong.
fn write(mut file: &File, torn: bool, lines: &[Line]) -> (usize, io::Result<()>) {
    let (written, result) = write_counted(&mut file, &piece(lines, torn));
    if let Err(error) = file.sync_data() {
        return (0, result.and(Err(error)));
    }
    match file.metadata() {
        // Deleted since the path was looked at: nobody would ever find these lines.
        Ok(found) if found.nlink() == 0 => (0, Err(io::Error::other("it was deleted while it was written"))),
        Ok(_) => (whole(lines, usize::from(torn), written), result),
        Err(error) => (0, Err(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_the_sinks_and_a_bad_name_is_not() {
        let io = |kind: io::ErrorKind| Failure::Io { path: PathBuf::new(), cause: kind.into() };
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::PermissionDenied, io::ErrorKind::Other] {
            assert_eq!(io(kind).blame(), Blame::Sink);
        }
        for kind in [io::ErrorKind::NotADirectory, io::ErrorKind::IsADirectory, io::ErrorKind::InvalidFilename] {
            assert_eq!(io(kind).blame(), Blame::Delivery);
        }
    }

    #[test]
    fn the_device_that_is_always_full_makes_nothing_durable() {
        let full = File::options().append(true).open("/dev/full").unwrap();
        let (durable, result) = write(&full, true, &[]);
        assert_eq!(durable, 0);
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
