//! Loads a file: reads, parses and checks it, and lists all mistakes.

use std::path::Path;

use super::model::Config;
use super::text::diagnostic::{Diagnostic, Diagnostics};
use super::text::environment::Options;
use super::text::mask::Mask;
use super::text::reader::Reader;
use super::text::tree::Node;
use super::text::{FileKeys, lookalike, yaml};
use super::{check, examples};
use crate::event::EventSchema;

/// What the modules of `text` need to know about the keys of the configuration.
pub(super) const KEYS: FileKeys = FileKeys {
    start: "start with `version: 1`, then `sources:`, `sinks:`, `routes:` and `unrouted:`",
    example: examples::of,
    named: &["sources", "sinks"],
    // Their values help to understand a mistake.
    shown: &["mechanism", "sasl.mechanism", "token_url", "scope", "audience", "principal", "keytab", "service"],
};

impl Config {
    /// Reads and checks a file. Gives the configuration with its warnings, or all mistakes.
    pub fn load(path: &Path, options: &Options) -> Result<(Self, Diagnostics), Diagnostics> {
        let help = "name another file with `--config FILE`, or in `REGARDS_RELAY_CONFIG`";
        load(path, ("configuration", help), options, check::config)
    }

    /// The same for a text. Relative paths begin at the directory of `path`, which messages show as the file.
    pub fn parse(text: &str, path: &Path, options: &Options) -> Result<(Self, Diagnostics), Diagnostics> {
        parse(text, path, options, check::config)
    }
}

/// Loads a file; `make` builds the result from its tree. `what` names the file and `help` tells what to do if it can't be read.
pub(super) fn load<T>(
    path: &Path,
    (what, help): (&str, &str),
    options: &Options,
    make: impl FnOnce(&Node, &mut Reader<'_>) -> Option<T>,
) -> Result<(T, Diagnostics), Diagnostics> {
    let fail = |diagnostic| Err(Diagnostics::new(path, "", &Mask::default(), vec![diagnostic]));
    let bytes = match read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            let message = format!("the {what} can't be read: {error}");
            return fail(Diagnostic::of_file("unreadable", message).help(help));
        }
    };
    if bytes.len() > yaml::MAX_FILE {
        return fail(too_large());
    }
    match String::from_utf8(bytes) {
        Ok(text) => parse(&text, path, options, make),
        Err(error) => {
            let valid = error.as_bytes().iter().take(error.utf8_error().valid_up_to());
            let line = valid.filter(|&&byte| byte == b'\n').count() + 1;
            let message = format!("the file is not UTF-8: line {line} is the first that isn't");
            fail(Diagnostic::of_file("not-utf8", message).help("save it as UTF-8"))
        }
    }
}

fn too_large() -> Diagnostic {
    let message = format!("the file is longer than {} MiB, and is not read", yaml::MAX_FILE_MIB);
    let help = "check that this is the configuration; write patterns instead of one route for each name";
    Diagnostic::of_file("too-large", message).help(help)
}

fn parse<T>(
    text: &str,
    path: &Path,
    options: &Options,
    make: impl FnOnce(&Node, &mut Reader<'_>) -> Option<T>,
) -> Result<(T, Diagnostics), Diagnostics> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.len() > yaml::MAX_FILE {
        return Err(Diagnostics::new(path, "", &Mask::default(), vec![too_large()]));
    }
    let tree = yaml::read(text, KEYS.start)
        .map_err(|diagnostic| Diagnostics::new(path, text, &Mask::of_lines(text), vec![*diagnostic]))?;
    let mask = Mask::of_tree(text, &tree, &KEYS);
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    let folder =
        std::path::absolute(if folder.as_os_str().is_empty() { Path::new(".") } else { &folder }).unwrap_or(folder);
    let mut reader = Reader {
        text,
        folder,
        options,
        file_keys: &KEYS,
        mask: &mask,
        schema: EventSchema::Event,
        keys: Vec::new(),
        found: Vec::new(),
        files: Vec::new(),
    };
    lookalike::in_tree(text, &tree, &mut |diagnostic| reader.report(diagnostic));
    let made = make(&tree, &mut reader);
    let failed = reader.failed();
    let diagnostics = Diagnostics::new(path, text, &mask, reader.found);
    match made {
        Some(made) if !failed => Ok((made, diagnostics)),
        _ => Err(diagnostics),
    }
}

/// The bytes of a file, up to the longest that is accepted and one more.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let most = u64::try_from(yaml::MAX_FILE).unwrap_or(u64::MAX);
    std::fs::File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
