//! What a template made, as a path below the data directory.

use std::path::{Component, Path, PathBuf};

use crate::config::is_own;

/// A name in a directory is at most this long on every common file system, in bytes.
const MAX_NAME: usize = 255;
/// A path that the system takes is shorter than this (`PATH_MAX` of Linux), in bytes.
const MAX_PATH: usize = 4096;

/// The absolute path of `relative` below `dir`, if it is one, and neither one of `reserved` nor beside it with the same
/// beginning of its name (`spool.db-wal`).
pub(super) fn below(dir: &Path, relative: &str, reserved: &[PathBuf]) -> Result<PathBuf, String> {
    if relative.is_empty() {
        return Err("it is empty".to_owned());
    }
    if let Some(control) = relative.chars().find(|char| char.is_control()) {
        return Err(format!("{relative:?} has the control character {control:?} in it"));
    }
    if relative.starts_with('/') {
        return Err(format!("{relative:?} is absolute; it has to be relative to the data directory"));
    }
    if let Some(last @ ("" | ".")) = relative.rsplit('/').next() {
        return Err(format!("{relative:?} ends in {last:?}, which is no file's name"));
    }
    let mut path = dir.to_owned();
    for name in Path::new(relative).components() {
        match name {
            Component::CurDir => {}
            Component::Normal(name) if name.len() > MAX_NAME => {
                return Err(format!("it has a name of {} bytes in it; a file system takes {MAX_NAME}", name.len()));
            }
            Component::Normal(name) => path.push(name),
            _ => return Err(format!("{relative:?} has '{}' in it", name.as_os_str().display())),
        }
    }
    if path.as_os_str().len() >= MAX_PATH {
        return Err(format!("with the data directory it is {} bytes long", path.as_os_str().len()));
    }
    if is_own(&path, reserved) {
        return Err(format!("{relative:?} is where the relay keeps its own files"));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(relative: &str) -> Result<PathBuf, String> {
        below(Path::new("/data"), relative, &[PathBuf::from("/data/spool.db"), PathBuf::from("/data/in/own")])
    }

    #[test]
    fn what_stays_below_is_taken() {
        for relative in ["a.ndjson", "archive/cnes-a/2023.ndjson", "..a/b..", "é/ü", "spool", "in/other", "x/spool.db"]
        {
            assert_eq!(rendered(relative), Ok(Path::new("/data").join(relative)));
        }
        for relative in ["./a/b", "a//b", "a/./b"] {
            assert_eq!(rendered(relative), Ok(PathBuf::from("/data/a/b")));
        }
    }

    #[test]
    fn what_leads_elsewhere_is_not() {
        let long = "x".repeat(256);
        let deep = "0123456789/".repeat(400) + "x";
        for relative in [
            "",
            "/etc/passwd",
            "..",
            ".",
            "../x",
            "a/../../x",
            "a/.",
            "./",
            "/",
            "a/",
            "a\nb",
            "a\0b",
            "a/\u{7f}",
            &long,
            &deep,
        ] {
            assert!(rendered(relative).is_err(), "{relative:?}");
        }
    }

    #[test]
    fn the_relays_own_files_are_not() {
        for relative in ["spool.db", "spool.db-wal", "Spool.DB", "spool.db/x", "in/own", "in/owner", "in/own/x"] {
            assert!(rendered(relative).is_err(), "{relative:?}");
        }
    }
}
