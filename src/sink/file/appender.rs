//! Appends lines to files and makes them durable: a line that is reported as written survives a crash.

use std::fs::{self, File, Metadata};
use std::io::{self, Seek};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, fsync, mkdirat, statat};
use rustix::io::Errno;

use super::beneath;
use super::open_files::{OpenFile, OpenFiles};
use crate::sink::Blame;
use crate::sink::lines::{Line, join_lines, whole_lines, write_counted};

/// Only the relay's user and group may read the files.
const FILE_MODE: u32 = 0o640;
const DIR_MODE: u32 = 0o750;

/// Why lines could not be written durably.
#[derive(Debug, thiserror::Error)]
pub(super) enum AppendError {
    #[error("can't write to {path} ({error})")]
    Io { path: PathBuf, error: io::Error },
    /// Lines are not written to a file of this kind, or outside the data directory.
    #[error("can't write to {path}: {problem}")]
    Path { path: PathBuf, problem: &'static str },
}

impl AppendError {
    /// A full or broken disk is a failure of the sink; a path that can't be a file is one of the delivery only.
    pub(super) fn blame(&self) -> Blame {
        use io::ErrorKind::{InvalidFilename, IsADirectory, NotADirectory};
        match self {
            Self::Path { .. } => Blame::Delivery,
            Self::Io { error, .. } if lacks_descriptors(error) => Blame::Relay,
            Self::Io { error, .. } if matches!(error.kind(), InvalidFilename | IsADirectory | NotADirectory) => {
                Blame::Delivery
            }
            Self::Io { .. } => Blame::Sink,
        }
    }
}

/// Appends lines to files below a directory.
pub(super) struct Appender {
    /// All files are below this directory.
    dir: PathBuf,
    files: Arc<OpenFiles>,
}

impl Appender {
    pub(super) fn new(dir: PathBuf, files: Arc<OpenFiles>) -> Self {
        Self { dir, files }
    }

    /// Appends the lines and makes them durable. Returns where each durable line begins in the file, and the error if not all
    /// lines are durable.
    pub(super) fn append(&self, path: &Path, lines: &[Line]) -> (Vec<u64>, Option<AppendError>) {
        let known = self.files.take(path);
        let (durable, open, failure) = match self.current(path, known) {
            Ok(mut open) => match write(&open.file, open.torn, lines) {
                (durable, Ok(())) => {
                    open.torn = false;
                    (durable, Some(open), None)
                }
                // The file is closed: after a failed fsync it is unknown what this handle has written. Whether the file ends in
                // a torn line is checked when it is opened again.
                (durable, Err(error)) => (durable, None, Some(AppendError::Io { path: path.to_owned(), error })),
            },
            Err(failure) => (Vec::new(), None, Some(failure)),
        };
        self.files.give_back(path, open);
        (durable, failure)
    }

    /// The open file, if the path still leads to it; otherwise opens the file.
    fn current(&self, path: &Path, known: Option<OpenFile>) -> Result<OpenFile, AppendError> {
        if let Some(open) = known {
            match fs::symlink_metadata(path) {
                Ok(found) if identity(&found) == open.identity => return Ok(open),
                // The file was rotated or deleted. Its lines are durable.
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(AppendError::Io { path: path.to_owned(), error }),
            }
        }
        loop {
            match self.open_file(path) {
                Err(AppendError::Io { error, .. }) if lacks_descriptors(&error) && self.files.close_some() > 0 => {}
                opened => return opened,
            }
        }
    }

    fn open_file(&self, path: &Path) -> Result<OpenFile, AppendError> {
        let failed = |error: Errno| match error {
            Errno::XDEV => {
                AppendError::Path { path: path.to_owned(), problem: "the path leads out of the data directory" }
            }
            error => AppendError::Io { path: path.to_owned(), error: error.into() },
        };
        let not_a_file = |problem| AppendError::Path { path: path.to_owned(), problem };
        let relative =
            path.strip_prefix(&self.dir).map_err(|_| not_a_file("the path is not below the data directory"))?;
        let name = relative.file_name().ok_or_else(|| not_a_file("the path has no file name"))?;
        let parent = self.parent(relative.parent().unwrap_or(Path::new("")))?;
        let is_new = match statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            // Opening another kind of file may block (a pipe) or have an effect (a device).
            Ok(found) => match FileType::from_raw_mode(found.st_mode) {
                FileType::RegularFile => false,
                FileType::Symlink => return Err(not_a_file("it is a symbolic link")),
                _ => return Err(not_a_file("it exists, and is not a file")),
            },
            Err(Errno::NOENT) => true,
            Err(error) => return Err(failed(error)),
        };
        // Readable, to check whether it ends in a torn line.
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = beneath::open(&parent, Path::new(name), flags, Mode::from_raw_mode(FILE_MODE)).map_err(failed)?;
        if is_new {
            fsync(&parent).map_err(failed)?;
        }
        let (file, failed) = (File::from(file), |error| AppendError::Io { path: path.to_owned(), error });
        let found = file.metadata().map_err(failed)?;
        if !found.is_file() {
            return Err(not_a_file("it exists, and is not a file"));
        }
        let torn = ends_torn(&file, found.len()).map_err(failed)?;
        Ok(OpenFile { file, identity: identity(&found), torn })
    }

    /// Opens the directory of a file. Creates missing directories, and makes each durable in its parent.
    fn parent(&self, relative: &Path) -> Result<OwnedFd, AppendError> {
        let failed = |path: &Path| {
            let path = self.dir.join(path);
            move |error: Errno| match error {
                Errno::XDEV | Errno::LOOP => {
                    AppendError::Path { path, problem: "the path leads out of the data directory" }
                }
                error => AppendError::Io { path, error: error.into() },
            }
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let open = |dir: &OwnedFd, path: &Path| beneath::open(dir, path, flags, Mode::empty());
        let here = Path::new("");
        fs::create_dir_all(&self.dir).map_err(|error| AppendError::Io { path: self.dir.clone(), error })?;
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
                Err(error) => return Err(failed(&path)(error)),
            }
            above = Some(open(&root, &path).map_err(failed(&path))?);
        }
        Ok(above.unwrap_or(root))
    }
}

/// Whether the process or the system has no file descriptor left.
fn lacks_descriptors(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

fn identity(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

/// Whether the file ends in a torn line, which is one without a newline.
fn ends_torn(file: &File, size: u64) -> io::Result<bool> {
    let Some(last) = size.checked_sub(1) else { return Ok(false) };
    let mut byte = [0];
    file.read_exact_at(&mut byte, last)?;
    Ok(byte != *b"\n")
}

/// Writes the lines and fsyncs. Returns where each durable line begins, also if there was an error.
fn write(mut file: &File, torn: bool, lines: &[Line]) -> (Vec<u64>, io::Result<()>) {
    let (written, result) = write_counted(&mut file, &join_lines(lines, torn));
    let check = || {
        file.sync_data()?;
        // The file was deleted after its path was checked, so the lines are lost.
        if file.metadata()?.nlink() == 0 {
            return Err(io::Error::other("the file was deleted during the write"));
        }
        // A file that is opened to append is at the end of what was written last.
        (&*file).stream_position()
    };
    match check() {
        Ok(end) => {
            let begin = end.saturating_sub(written as u64);
            let lines = whole_lines(lines, usize::from(torn), written);
            (lines.into_iter().map(|offset| begin + offset as u64).collect(), result)
        }
        Err(error) => (Vec::new(), result.and(Err(error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_a_failure_of_the_sink_and_a_bad_name_is_not() {
        let io = |kind: io::ErrorKind| AppendError::Io { path: PathBuf::new(), error: kind.into() };
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::PermissionDenied, io::ErrorKind::Other] {
            assert_eq!(io(kind).blame(), Blame::Sink);
        }
        for kind in [io::ErrorKind::NotADirectory, io::ErrorKind::IsADirectory, io::ErrorKind::InvalidFilename] {
            assert_eq!(io(kind).blame(), Blame::Delivery);
        }
    }

    #[test]
    fn nothing_is_durable_on_a_device_that_is_full() {
        let full = File::options().append(true).open("/dev/full").unwrap();
        let (durable, result) = write(&full, true, &[]);
        assert!(durable.is_empty());
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
