//! The files that a source or a sink names and reads again while it runs: `${file:…}`, certificates, keys.
//!
//! Their content belongs to the configuration: when it changes, a reload reopens the source or sink. Only hashes are kept.

use std::hash::Hasher as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

/// The part of a file that is hashed, in bytes. Neither a secret nor a chain of certificates is longer.
const MAX_FILE: u64 = 4 << 20;

/// Named files, with hashes of their content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamedFiles(Vec<(PathBuf, Content)>);

/// The hash of a file's content. None if it can't be read.
type Content = Option<u128>;

impl NamedFiles {
    /// These files with their present content. Blocks.
    #[must_use]
    pub fn read<'p>(paths: impl IntoIterator<Item = &'p Path>) -> Self {
        let mut paths: Vec<_> = paths.into_iter().collect();
        paths.sort_unstable();
        paths.dedup();
        Self(paths.into_iter().map(|path| (path.to_owned(), content(path))).collect())
    }

    /// This file, as if it could not be read.
    #[must_use]
    pub fn unread(path: &Path) -> Self {
        Self(vec![(path.to_owned(), None)])
    }

    /// The same files with their present content. Blocks.
    #[must_use]
    pub fn read_again(&self) -> Self {
        Self::read(self.paths())
    }

    /// The sorted paths, each once.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(|(path, _)| path.as_path())
    }
}

fn content(path: &Path) -> Content {
    // Reading a pipe could block forever.
    if !std::fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(MAX_FILE).read_to_end(&mut bytes).ok()?;
    let mut hash = Xxh3::new();
    hash.write(&bytes);
    Some(hash.digest128())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_compared_by_their_content() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        std::fs::write(&one, "1").unwrap();
        let before = NamedFiles::read([two.as_path(), &one, &one]);
        assert_eq!(before.paths().collect::<Vec<_>>(), [one.as_path(), &two]);
        std::fs::write(&one, "1").unwrap();
        assert_eq!(before.read_again(), before);
        std::fs::write(&one, "2").unwrap();
        assert_ne!(before.read_again(), before);
        std::fs::write(&one, "1").unwrap();
        std::fs::write(&two, "").unwrap();
        assert_ne!(before.read_again(), before);
    }
}
