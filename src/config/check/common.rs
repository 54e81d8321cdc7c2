//! Checks that several modules share: names, templates, files, bounds.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::text::decode::At;
use crate::config::text::diagnostic::Diagnostic;
use crate::config::text::lookalike;
use crate::config::text::reader::Reader;
use crate::config::text::scalar::{Attempts, Count, Period, SecretText, Size, Text, UrlText, ValueOrWord};
use crate::config::text::tree::{Key, Span};
use crate::config::text::units::written_duration;
use crate::config::text::words::clean;
use crate::event::{EventSchema, Template};

/// The longest name of a source, sink or route, in bytes: names are labels of metrics.
pub(super) const MAX_NAME: usize = 100;
pub(super) const KIB: u64 = 1 << 10;
pub(super) const MIB: u64 = 1 << 20;
pub(super) const GIB: u64 = 1 << 30;
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const HOUR: Duration = Duration::from_hours(1);
pub(super) const DAY: Duration = Duration::from_hours(24);

/// Checks the name of a source or a sink.
pub(super) fn legal_name(reader: &mut Reader<'_>, what: &str, key: &Key) -> bool {
    let legal = is_legal_name(&key.text);
    if !legal {
        reader.report(
            Diagnostic::error(
                "illegal-name",
                key.span,
                format!("`{}` can't be the name of a {what}", clean(&key.text)),
            )
            .help(format!("use letters, digits, `-`, `_` and `.`, at most {MAX_NAME} of them")),
        );
    }
    legal
}

/// Whether a source or a sink may have this name.
pub(super) fn is_legal_name(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// Reports a secret that can't be right: it is empty, or begins with an editor's byte order mark. False if it was reported.
pub(super) fn usable(reader: &mut Reader<'_>, what: &str, at: &At<SecretText>) -> bool {
    let hidden = &at.value.0;
    let Some(text) = &hidden.text else { return true };
    if text.is_empty() && !hidden.in_clear {
        let message = format!("{what} is empty: the variable or file has no content");
        let diagnostic = reader.absent("empty-secret", at.span, message);
        reader.report(diagnostic.help("put the value there, or remove the key"));
        return false;
    }
    if text.starts_with(BYTE_ORDER_MARK) {
        let message = format!("{what} begins with a byte order mark (U+FEFF), which is sent as a part of it");
        reader.report(Diagnostic::error("byte-order-mark", at.span, message).help(
            "save the file as UTF-8 without a byte order mark: `sed -i '1s/^\\xEF\\xBB\\xBF//' FILE` removes it",
        ));
        return false;
    }
    true
}

/// Some editors write this at the start of a file.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Warns of a secret that is written in the file itself.
pub(super) fn in_clear(reader: &mut Reader<'_>, what: &str, span: Span) {
    reader.report(
        Diagnostic::warning("secret-in-clear", span, format!("{what} is written in the file itself"))
            .help("keep it outside of this file: write `${VAR}`, or `${file:/run/secrets/NAME}`"),
    );
}

/// Compiles a template, and reports its mistakes.
pub(super) fn template(reader: &mut Reader<'_>, at: &At<Text>) -> Option<Template> {
    match Template::compile_fragments(&at.value.fragments, reader.schema.clone()) {
        Ok(template) => Some(template),
        Err(error) => {
            if let Some(found) = lookalike::in_code(reader.text, at.span, true) {
                reader.report(found.error("template"));
                return None;
            }
            let shown = error.to_string();
            let repeats = |value: &String| !value.is_empty() && shown.contains(value.as_str());
            let message = if at.value.values.iter().any(repeats) {
                // The error would show an inserted value.
                "with the value of `${…}` inserted, this is not a template".to_owned()
            } else {
                format!("this is not a template: {error}")
            };
            reader.report(Diagnostic::error("template", at.span, message).help(match reader.schema {
                EventSchema::Event
                | EventSchema::EventOrAlert
                | EventSchema::Transformed(_)
                | EventSchema::Record(_) => {
                    "write fields of the event between `{{` and `}}`, as in `{{ tenant }}`; `schema event` lists them"
                }
                EventSchema::Digest(_) => {
                    "this sink gets digests: its templates may use `events`, `count` and the fields of `group.by`"
                }
                EventSchema::DeadLetter => {
                    "this sink gets copies of dead letters: its templates may use `reason`, `source`, `sink` and `tenant`"
                }
            }));
            None
        }
    }
}

/// The same for a topic, a routing key or a path. It also warns of fields that can be null: without a value there is no address.
pub(super) fn address_template(reader: &mut Reader<'_>, at: &At<Text>) -> Option<Template> {
    let template = template(reader, at)?;
    let (what, end) = match reader.schema {
        EventSchema::Event | EventSchema::Transformed(_) | EventSchema::Record(_) => {
            ("an event", "it becomes a dead letter, `render_failed`")
        }
        EventSchema::EventOrAlert => ("an event or alert", "it becomes a dead letter, `render_failed`"),
        EventSchema::Digest(_) => ("a digest", "its events become dead letters, `render_failed`"),
        EventSchema::DeadLetter => ("a dead letter", "it is not copied"),
    };
    for name in template.nullable() {
        let message = format!("`{name}` can be null: such {what} has no address here");
        let default = format!("{end}; give it a default: `{{{{ {name} | default('none') }}}}`");
        reader.report(
            Diagnostic::warning("nullable-address", reader.word_in_template(at.span, &name), message).help(default),
        );
    }
    Some(template)
}

/// The error for a text that is not a URL.
pub(super) fn no_url(code: &'static str, at: &At<UrlText>, error: url::ParseError, example: &str) -> Diagnostic {
    let message = match error {
        url::ParseError::RelativeUrlWithoutBase => "this URL has no scheme".to_owned(),
        error => format!("this is not a URL: {error}"),
    };
    let diagnostic = Diagnostic::error(code, at.span, message);
    if at.value.0.in_clear {
        diagnostic.help(example)
    } else {
        diagnostic.help(format!("{example}; the value of `${{…}}` in a part of a URL is percent-encoded"))
    }
}

/// The path of a file that is a part of the configuration, as [`read_path`]. A reload looks whether it has changed.
pub(super) fn named_file(reader: &mut Reader<'_>, at: &At<Text>) -> PathBuf {
    let path = read_path(reader, at);
    reader.files.push(path.clone());
    path
}

/// The path of a file to read. It is relative to the configuration file.
pub(super) fn read_path(reader: &mut Reader<'_>, at: &At<Text>) -> PathBuf {
    let path = reader.folder.join(&at.value.text);
    if !at.value.placeholder
        && let Err(error) = readable(&path)
    {
        let shown = clean(&path.display().to_string());
        let shown = if at.value.inserted { "named here".to_owned() } else { format!("`{shown}`") };
        let diagnostic = reader.absent("missing-file", at.span, format!("the file {shown} can't be read: {error}"));
        reader.report(diagnostic.help("relative paths begin at the directory of this file"));
    }
    path
}

/// Whether a regular file can be opened. Opening a pipe could block forever.
fn readable(path: &Path) -> std::io::Result<()> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(std::io::Error::other("it is a directory"));
    }
    if !metadata.is_file() {
        return Err(std::io::Error::other("it is no regular file"));
    }
    std::fs::File::open(path).map(drop)
}

pub(super) fn number(reader: &mut Reader<'_>, at: Option<&At<Count>>, default: u64, range: RangeInclusive<u64>) -> u64 {
    let Some(at) = at else { return default };
    in_range(reader, at.span, at.value.0, &range, ToString::to_string)
}

pub(super) fn size(reader: &mut Reader<'_>, at: Option<&At<Size>>, default: u64, range: RangeInclusive<u64>) -> u64 {
    let Some(at) = at else { return default };
    in_range(reader, at.span, at.value.0, &range, |&bytes| match bytes {
        bytes if bytes >= GIB && bytes % GIB == 0 => format!("{}GiB", bytes / GIB),
        bytes if bytes >= MIB && bytes % MIB == 0 => format!("{}MiB", bytes / MIB),
        bytes if bytes >= KIB && bytes % KIB == 0 => format!("{}KiB", bytes / KIB),
        bytes => format!("{bytes}B"),
    })
}

pub(super) fn period(
    reader: &mut Reader<'_>,
    at: Option<&At<Period>>,
    default: Duration,
    range: RangeInclusive<Duration>,
) -> Duration {
    let Some(at) = at else { return default };
    in_range(reader, at.span, at.value.0, &range, |period| written_duration(*period))
}

pub(super) fn in_range<T: PartialOrd + Copy>(
    reader: &mut Reader<'_>,
    span: Span,
    value: T,
    range: &RangeInclusive<T>,
    show: impl Fn(&T) -> String,
) -> T {
    if !range.contains(&value) {
        let (least, most) = (show(range.start()), show(range.end()));
        reader.report(
            Diagnostic::error("out-of-range", span, format!("{} is out of range", reader.quote(span)))
                .help(format!("write something between `{least}` and `{most}`")),
        );
    }
    value
}

/// Reports an unknown name of a thing such as a sink.
pub(super) fn unknown_name<'w>(
    reader: &mut Reader<'_>,
    code: &'static str,
    what: &str,
    at: &At<Text>,
    known: impl Iterator<Item = &'w str> + Clone,
) {
    if reader.is_full() {
        return;
    }
    let diagnostic = Diagnostic::error(code, at.span, format!("there is no {what} {}", reader.quote(at.span)));
    reader.report(diagnostic.suggest_one_of(&at.value.text, known));
}

/// The number of attempts. None is unlimited.
pub(super) fn attempts(reader: &mut Reader<'_>, at: &At<Attempts>) -> Option<u32> {
    match at.value.0 {
        ValueOrWord::Word => None,
        ValueOrWord::Value(number) => {
            let number = in_range(reader, at.span, number, &(1..=1_000_000), u64::to_string);
            u32::try_from(number).ok()
        }
    }
}
