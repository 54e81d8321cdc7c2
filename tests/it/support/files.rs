//! Reads the files of file sinks, and fills disks.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use serde_json::Value;

/// The lines of an NDJSON file, or none if there is no file yet. Every line must be complete JSON.
pub fn lines_of(path: impl AsRef<Path>) -> Vec<Value> {
    let path = path.as_ref();
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        text => text.unwrap_or_else(|error| panic!("{}: {error}", path.display())),
    };
    // An unfinished line does not count yet.
    let complete = text.rfind('\n').map_or("", |end| &text[..=end]);
    complete
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{}: {error}: {line}", path.display())))
        .collect()
}

/// Like [`lines_of`], but skips lines that are incomplete because the relay was killed.
pub fn whole_lines_of(path: impl AsRef<Path>) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Fills the disk on which this file is, or will be.
pub fn fill_disk(filler: &Path) {
    let mut filler = File::options().create(true).append(true).open(filler).expect("a file");
    for step in [1 << 20, 4 << 10, 1] {
        let zeros = vec![0; step];
        while filler.write_all(&zeros).is_ok() {}
    }
}
