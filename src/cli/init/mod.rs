//! `init`: writes a commented configuration to begin with.
//!
//! The file appears whole and on disk, or not at all, and never in place of another one.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow};

use super::{DEFAULT_CONFIG, Global, note};

/// Passes `check` as it is: all its variables have defaults.
const ROUTES: &str = include_str!("routes.yaml");

pub fn run(global: &Global) -> anyhow::Result<ExitCode> {
    let path = &global.config;
    match write_new(path, ROUTES) {
        Ok(()) => {
            for line in next_steps(path) {
                note(&line);
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(anyhow!(
            "{} exists already and was left as it is; `--config` names another file to write",
            path.display()
        )),
        Err(error) => Err(error).with_context(|| format!("can't write {}", path.display())),
    }
}

/// What to do with the file, line by line.
fn next_steps(path: &Path) -> Vec<String> {
    let relay = if path == Path::new(DEFAULT_CONFIG) {
        "regards-relay".to_owned()
    } else {
        format!("regards-relay --config {}", path.display())
    };
    vec![
        format!(
            "{} is written; it is valid as it is. Put your brokers, queue and routes in, and remove what you do not need.",
            path.display()
        ),
        "Then, first without any broker:".to_owned(),
        format!("  {relay} check"),
        format!(r#"  echo '{{"correlationId": "c-1", "responseStatus": "ERROR"}}' | {relay} explain - --tenant esa"#),
        "With the brokers:".to_owned(),
        format!("  {relay} check --connect"),
        format!("  {relay} send-test --sink pipeline --tenant esa"),
        format!("  {relay} run"),
    ]
}

/// Writes a file that does not exist yet. The error is `AlreadyExists` if anything has that name, also a dangling link.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let name = path.file_name().ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "it does not name a file"))?;
    if fs::symlink_metadata(path).is_ok() {
        return Err(ErrorKind::AlreadyExists.into());
    }
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{:016x}", fastrand::u64(..)));
    let temporary = directory.join(temporary);
    write_durably(&temporary, text)?;
    let written = Removed(temporary);
    // A link is atomic and never replaces a file, as a rename would.
    match fs::hard_link(&written.0, path) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(error),
        // The file system has no links. A crash could leave a part of the file now, but no other file is replaced.
        Err(_) => write_durably(path, text)?,
    }
    // Some file systems can't sync a directory. The file itself is synced.
    let _ = File::open(directory).and_then(|directory| directory.sync_all());
    Ok(())
}

fn write_durably(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).inspect_err(|_| {
        // If it can't be removed, the user sees it beside the error.
        let _ = fs::remove_file(path);
    })
}

/// A file that is removed when this is dropped.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        // At worst it stays, with a name of its own.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Options, Strictness};

    #[test]
    fn what_is_written_has_neither_errors_nor_warnings() {
        let options = Options {
            strictness: Strictness::Offline,
            variables: std::collections::BTreeMap::new(),
            data_dir: "data".into(),
            host: "host".to_owned(),
        };
        let (config, found) = Config::parse(ROUTES, Path::new("/routes.yaml"), &options)
            .unwrap_or_else(|found| panic!("{}", found.render(false)));
        assert_eq!(found.render(false), "");
        assert_eq!(config.rules.routes().len(), 3, "one for each use");
        let strict = Options { strictness: Strictness::Run, ..options };
        assert!(
            Config::parse(ROUTES, Path::new("/routes.yaml"), &strict).is_ok(),
            "it can be run without any variable"
        );
    }

    #[test]
    fn a_file_is_written_once_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("routes.yaml");
        write_new(&path, "one").unwrap();
        assert_eq!(write_new(&path, "two").unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("routes.yaml");
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), &path).unwrap();
        assert_eq!(write_new(&path, "one").unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert!(!folder.path().join("elsewhere").exists());
    }

    #[test]
    fn of_several_at_once_one_writes_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("routes.yaml");
        let texts = ["one", "two", "three", "four"].map(|text| text.repeat(10_000));
        let written: Vec<bool> = std::thread::scope(|scope| {
            let writers = texts.each_ref().map(|text| scope.spawn(|| write_new(&path, text).is_ok()));
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        let written: Vec<_> = texts.iter().zip(written).filter(|(_, written)| *written).map(|(text, _)| text).collect();
        assert_eq!(written, [&fs::read_to_string(&path).unwrap()]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
