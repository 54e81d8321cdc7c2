//! Appends to files so that what it says is written survives a crash.

use std::collections::HashMap;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::sink::Blame;
use crate::sink::lines::{Line, piece, whole, write_counted};

/// Files that are open at once.
const MAX_OPEN: usize = 256;

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
            Self::Io { cause, .. } if matches!(cause.kind(), InvalidFilename | IsADirectory | NotADirectory) => {
                Blame::Delivery
            }
            Self::Io { .. } => Blame::Sink,
        }
    }
}

/// The files that are open.
pub(super) struct Appender {
    /// What is written stays below this.
    dir: PathBuf,
    open: HashMap<PathBuf, Open>,
    /// Counts uses, to know the least recent one.
    clock: u64,
}

struct Open {
    file: File,
    /// Device and inode: whether the path still leads here.
    identity: (u64, u64),
    /// The file doesn't end with a line's end.
    torn: bool,
    used: u64,
}

impl Appender {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir, open: HashMap::new(), clock: 0 }
    }

    /// Appends the lines and makes them durable: how many of them are, and why not the others.
    pub(super) fn append(&mut self, path: &Path, lines: &[Line]) -> (usize, Option<Failure>) {
        let mut open = match self.take(path) {
            Ok(open) => open,
            Err(failure) => return (0, Some(failure)),
        };
        let (durable, result) = write(&open.file, open.torn, lines);
        match result {
            Ok(()) => {
                open.torn = false;
                self.put(path, open);
                (durable, None)
            }
            // The file is closed. How it ends is looked up when it is opened again; and after a failed fsync nothing more can
            // be known of what this handle wrote.
            Err(cause) => (durable, Some(Failure::Io { path: path.to_owned(), cause })),
        }
    }

    /// The open file of that path, if the path still leads to it; opened otherwise.
    fn take(&mut self, path: &Path) -> Result<Open, Failure> {
        if let Some(open) = self.open.remove(path) {
            match fs::symlink_metadata(path) {
                Ok(found) if identity(&found) == open.identity => return Ok(open),
                // Rotated or deleted: what it has is fsynced.
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(cause) => return Err(Failure::Io { path: path.to_owned(), cause }),
            }
        }
        self.open_file(path)
    }

    fn put(&mut self, path: &Path, mut open: Open) {
        if self.open.len() >= MAX_OPEN {
            let oldest = self.open.iter().min_by_key(|(_, open)| open.used).map(|(path, _)| path.clone());
            if let Some(oldest) = oldest {
                self.open.remove(&oldest);
            }
        }
        self.clock += 1;
        open.used = self.clock;
        self.open.insert(path.to_owned(), open);
    }

    fn open_file(&self, path: &Path) -> Result<Open, Failure> {
        let failed = |cause| Failure::Io { path: path.to_owned(), cause };
        let place = |problem| Failure::Place { path: path.to_owned(), problem };
        let parent = path.parent().ok_or_else(|| place("it has no directory"))?;
        self.make_dirs(parent)?;
        match fs::symlink_metadata(path) {
            Ok(found) if found.is_symlink() => return Err(place("it is a symbolic link, which may lead elsewhere")),
            // Opening another kind of file may block (a pipe) or do something (a device).
            Ok(found) if !found.is_file() => return Err(place("it is there, and not a file")),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(cause) => return Err(failed(cause)),
        }
        let mut options = OpenOptions::new();
        // Read, to see how it ends.
        options.read(true).append(true);
        let (file, new) = match options.clone().create_new(true).open(path) {
            Ok(file) => (file, true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => (options.open(path).map_err(failed)?, false),
            Err(cause) => return Err(failed(cause)),
        };
        if new {
            sync_dir(parent).map_err(failed)?;
        }
        let found = file.metadata().map_err(failed)?;
        let torn = !new && ends_torn(&file, found.len()).map_err(failed)?;
        Ok(Open { file, identity: identity(&found), torn, used: 0 })
    }

    /// Makes the directories that are missing, each durable in the one above it, and none outside of the data directory.
    fn make_dirs(&self, parent: &Path) -> Result<(), Failure> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |cause| Failure::Io { path, cause }
        };
        fs::create_dir_all(&self.dir).map_err(failed(&self.dir))?;
        let root = self.dir.canonicalize().map_err(failed(&self.dir))?;
        let mut path = self.dir.clone();
        for name in parent.strip_prefix(&self.dir).unwrap_or(Path::new("")) {
            let above = path.clone();
            path.push(name);
            match fs::create_dir(&path) {
                Ok(()) => sync_dir(&above).map_err(failed(&above))?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(cause) => return Err(Failure::Io { path, cause }),
            }
            if !path.canonicalize().map_err(failed(&path))?.starts_with(&root) {
                return Err(Failure::Place { path, problem: "it leads out of the data directory" });
            }
        }
        Ok(())
    }
}

fn identity(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
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
        let full = OpenOptions::new().append(true).open("/dev/full").unwrap();
        let (durable, result) = write(&full, true, &[]);
        assert_eq!(durable, 0);
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
