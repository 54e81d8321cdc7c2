//! Reads the files of file sinks, and fills disks.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use serde_json::Value;

/// The lines of an NDJSON file; none when there is no file yet. Every line has to be JSON and ended.
pub fn lines_of(path: impl AsRef<Path>) -> Vec<Value> {
    let path = path.as_ref();
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        text => text.unwrap_or_else(|error| panic!("{}: {error}", path.display())),
    };
    // A line that is being written just now is not there yet.
    let complete = text.rfind('\n').map_or("", |end| &text[..=end]);
    complete
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{}: {error}: {line}", path.display())))
        .collect()
}

/// As [`lines_of`], past lines that were torn because their writer was killed.
pub fn whole_lines_of(path: impl AsRef<Path>) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Takes all the room that is left on the disk that this file is on, or is to be.
pub fn fill_disk(filler: &Path) {
    let mut filler = File::options().create(true).append(true).open(filler).expect("a file");
    for step in [1 << 20, 4 << 10, 1] {
        let zeros = vec![0; step];
        while filler.write_all(&zeros).is_ok() {}
    }
}
