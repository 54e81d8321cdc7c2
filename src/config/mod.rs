//! `routes.yaml` becomes a [`Config`], or a list of mistakes, each at its line with what to write instead.
//!
//! What is read from the file is raw and spanned; here it becomes checked, once: whoever holds a `Config` needs no further
//! validation. On the way:
//!
//! - `yaml`, `braces`: text to a bounded tree with places;
//! - `reader`, `decode`, `scalar`, `interpolate`: the tree to the types of `raw`, `${…}` replaced;
//! - `check`: raw to [`Config`]; `cases`: the cases that such a file is tested with;
//! - `syntax`, `odd`, `examples`: what was likely meant by what is not YAML, or of another type;
//! - `diagnostic`, `words`, `mask`: what was wrong, shown without secrets.

pub mod address;
mod braces;
mod cases;
mod check;
mod decode;
mod diagnostic;
mod environment;
mod examples;
mod files;
mod interpolate;
mod kafka_settings;
mod literal;
mod mask;
mod model;
mod odd;
mod own;
mod raw;
mod reader;
mod scalar;
mod secret;
mod sink_masks;
mod syntax;
mod tls;
mod topic;
mod words;
mod yaml;

#[cfg(test)]
mod tests;

pub use cases::{Case, CaseMessage, Expected};
pub use check::RESERVED_WEBHOOK_HEADERS;
pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use environment::{Options, Strictness};
pub use files::NamedFiles;
pub use kafka_settings::producer_settings;
pub use mask::STARS;
pub use model::*;
pub use own::{DEFAULT_SPOOL, control_socket, is_own, spool_lock};
pub use secret::{Masks, Part, Secret, SecretError};
pub use tls::TlsError;
pub use topic::check_topic;
pub use words::{similar, unknown_name};

use std::path::Path;

use self::mask::Mask;
use self::reader::Reader;
use self::yaml::Node;
use crate::event::EventSchema;

impl Config {
    /// Reads and checks a file. With the configuration come the warnings; without it, all that is wrong.
    pub fn load(path: &Path, options: &Options) -> Result<(Self, Diagnostics), Diagnostics> {
        let help = "name another file with `--config FILE`, or in `REGARDS_RELAY_CONFIG`";
        load(path, ("configuration", help), options, check::config)
    }

    /// The same for a text; `path` is where relative paths begin and what is shown as its place.
    pub fn parse(text: &str, path: &Path, options: &Options) -> Result<(Self, Diagnostics), Diagnostics> {
        parse(text, path, options, check::config)
    }
}

/// A file, made into something by that. `what` it is, and what helps if it isn't there.
fn load<T>(
    path: &Path,
    (what, help): (&str, &str),
    options: &Options,
    make: impl FnOnce(&Node, &mut Reader<'_>) -> Option<T>,
) -> Result<(T, Diagnostics), Diagnostics> {
    let fail = |diagnostic| Err(Diagnostics::new(path, "", &Mask::default(), vec![diagnostic]));
    let bytes = match read(path) {
        Ok(bytes) => bytes,
        Err(cause) => {
            let message = format!("the {what} can't be read: {cause}");
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

/// Said before anything is parsed.
fn too_large() -> Diagnostic {
    let message = format!("the file is longer than {} MiB: none of it is read", yaml::MAX_FILE_MIB);
    let help = "write globs instead of a route for each name; is this the configuration at all?";
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
    let tree = yaml::read(text)
        .map_err(|diagnostic| Diagnostics::new(path, text, &Mask::of_lines(text), vec![*diagnostic]))?;
    let mask = Mask::of_tree(text, &tree);
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    let folder =
        std::path::absolute(if folder.as_os_str().is_empty() { Path::new(".") } else { &folder }).unwrap_or(folder);
    let mut reader = Reader {
        text,
        folder,
        options,
        mask: &mask,
        vocabulary: EventSchema::Event,
        keys: Vec::new(),
        found: Vec::new(),
        files: Vec::new(),
    };
    odd::in_tree(text, &tree, &mut |diagnostic| reader.report(diagnostic));
    let made = make(&tree, &mut reader);
    let failed = reader.failed();
    let diagnostics = Diagnostics::new(path, text, &mask, reader.found);
    match made {
        Some(made) if !failed => Ok((made, diagnostics)),
        _ => Err(diagnostics),
    }
}

/// The bytes of a file, as long as it isn't longer than any configuration.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let most = u64::try_from(yaml::MAX_FILE).unwrap_or(u64::MAX);
    std::fs::File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The JSON Schema of `routes.yaml`.
#[must_use]
pub fn schema() -> schemars::Schema {
    schemars::schema_for!(raw::Root)
}
