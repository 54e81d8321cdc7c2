//! Tests whether the files can be written, without creating any.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use rustix::fs::{Access, access};

use super::path;
use crate::config::FileConfig;
use crate::probe::{ProbeOutcome, ProbeResult};
use crate::tasks;

/// Checks the file if its path is the same for every event, otherwise the directory that all files are below.
pub(in crate::sink) async fn probe(file: &FileConfig) -> ProbeResult {
    let file = file.clone();
    let checked = tokio::task::spawn_blocking(move || match file.path.fixed() {
        Some(fixed) => is_writable(&path::path_below(&file.dir, fixed, &file.reserved)?),
        None => is_writable(&file.dir),
    });
    checked.await.unwrap_or_else(|error| Err(tasks::blocking_error("checking the permissions", &error)))
}

/// Checks the permissions of the file, or of the nearest existing directory in which it would be created.
fn is_writable(path: &Path) -> ProbeResult {
    let nearest = path.ancestors().find_map(|nearest| match fs::metadata(nearest) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => None,
        found => Some((nearest, found)),
    });
    let Some((nearest, found)) = nearest else { return Err(format!("no directory of {} exists", path.display())) };
    let shown = nearest.display();
    let found = found.map_err(|error| format!("can't read the permissions of {shown} ({error})"))?;
    if nearest != path && !found.is_dir() {
        return Err(format!("{shown} is not a directory"));
    }
    let asked = if found.is_dir() { Access::WRITE_OK | Access::EXEC_OK } else { Access::WRITE_OK };
    access(nearest, asked).map_err(|error| format!("the relay may not write to {shown} ({error})"))?;
    Ok(ProbeOutcome::Reachable(format!("{shown} is writable")))
}
