//! Checks the path of a file, which is the value of a template: it has to be below the data directory.

use std::path::{Component, Path, PathBuf};

use crate::config::is_own;

/// The longest file name on every common file system, in bytes.
const MAX_NAME: usize = 255;
/// A path has to be shorter than this (`PATH_MAX` of Linux), in bytes.
const MAX_PATH: usize = 4096;

/// The absolute path of `relative` below `dir`. It must not be one of `reserved`, nor a path with the same beginning
/// (`spool.db-wal`).
pub(super) fn path_below(dir: &Path, relative: &str, reserved: &[PathBuf]) -> Result<PathBuf, String> {
    if relative.is_empty() {
        return Err("the path is empty".to_owned());
    }
    if let Some(control) = relative.chars().find(|char| char.is_control()) {
        return Err(format!("{relative:?} has the control character {control:?}"));
    }
    if relative.starts_with('/') {
        return Err(format!("{relative:?} is absolute; the path has to be relative to the data directory"));
    }
    if let Some(last @ ("" | ".")) = relative.rsplit('/').next() {
        return Err(format!("{relative:?} ends in {last:?}, which is not a file name"));
    }
    let mut path = dir.to_owned();
    for name in Path::new(relative).components() {
        match name {
            Component::CurDir => {}
            Component::Normal(name) if name.len() > MAX_NAME => {
                return Err(format!(
                    "the path has a name of {} bytes; file systems allow {MAX_NAME} at most",
                    name.len()
                ));
            }
            Component::Normal(name) => path.push(name),
            _ => return Err(format!("{relative:?} has a segment '{}'", name.as_os_str().display())),
        }
    }
    if path.as_os_str().len() >= MAX_PATH {
        return Err(format!("the path has {} bytes, together with the data directory", path.as_os_str().len()));
    }
    if is_own(&path, reserved) {
        return Err(format!("{relative:?} is one of the relay's own files"));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(relative: &str) -> Result<PathBuf, String> {
        path_below(Path::new("/data"), relative, &[PathBuf::from("/data/spool.db"), PathBuf::from("/data/in/own")])
    }

    #[test]
    fn paths_below_the_directory_are_accepted() {
        for relative in ["a.ndjson", "archive/cnes-a/2023.ndjson", "..a/b..", "é/ü", "spool", "in/other", "x/spool.db"]
        {
            assert_eq!(rendered(relative), Ok(Path::new("/data").join(relative)));
        }
        for relative in ["./a/b", "a//b", "a/./b"] {
            assert_eq!(rendered(relative), Ok(PathBuf::from("/data/a/b")));
        }
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
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
    fn the_relays_own_files_are_refused() {
        for relative in ["spool.db", "spool.db-wal", "Spool.DB", "spool.db/x", "in/own", "in/owner", "in/own/x"] {
            assert!(rendered(relative).is_err(), "{relative:?}");
        }
    }
}
