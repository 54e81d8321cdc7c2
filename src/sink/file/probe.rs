//! Whether the files can be written, with nothing created.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use rustix::fs::{Access, access};

use super::path;
use crate::config::FileConfig;
use crate::probe::{ProbeOutcome, ProbeResult};

/// Looks at the file, where its path is the same for every event, or else at the directory that all lie below.
pub(in crate::sink) async fn probe(file: &FileConfig) -> ProbeResult {
    let file = file.clone();
    let looked = tokio::task::spawn_blocking(move || match file.path.fixed() {
        Some(fixed) => is_writable(&path::below(&file.dir, fixed, &file.reserved)?),
        None => is_writable(&file.dir),
    });
    looked.await.unwrap_or_else(|error| Err(error.to_string()))
}

/// What isn't there yet is created where the nearest directory that is lets it.
fn is_writable(path: &Path) -> ProbeResult {
    let nearest = path.ancestors().find_map(|nearest| match fs::metadata(nearest) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => None,
        found => Some((nearest, found)),
    });
    let Some((nearest, found)) = nearest else { return Err(format!("{} leads nowhere", path.display())) };
    let shown = nearest.display();
    let found = found.map_err(|error| format!("{shown}: {error}"))?;
    if nearest != path && !found.is_dir() {
        return Err(format!("{shown} is not a directory"));
    }
    let asked = if found.is_dir() { Access::WRITE_OK | Access::EXEC_OK } else { Access::WRITE_OK };
    access(nearest, asked).map_err(|error| format!("the relay may not write to {shown}: {error}"))?;
    Ok(ProbeOutcome::Reachable(format!("{shown} can be written to")))
}
