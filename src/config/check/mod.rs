//! From raw to checked: defaults are set, what belongs together is put together, and everything that can be wrong is said.
//!
//! What can't be built is `None`, and its mistake is recorded; the rest is checked all the same, so that one run tells all.

mod broker;
mod kafka;
mod kafka_options;
mod meaning;
mod overlap;
mod rules;
mod sink;
mod source;
mod tls;
mod webhook;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::decode::{self, At, Reader, clean, similar};
use super::diagnostic::Diagnostic;
use super::model::{AdminConfig, Config, DeadLettersConfig, DeliveryConfig, SpoolConfig};
use super::raw;
use super::scalar::{Count, Or, Period, Size, Text, UrlText};
use super::yaml::Kind;
use super::yaml::{Key, Node, Span};
use crate::event::{FAMILIES, Template};

/// The version of the format that is read.
const VERSION: u64 = 1;
/// Names of sources, sinks and routes are no longer than this, in bytes: they are labels of metrics.
const MAX_NAME: usize = 100;
/// `name:` goes into connection names and headers.
const MAX_RELAY_NAME: usize = 200;
/// Where metrics are found unless the file says otherwise.
const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9464);
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The checked configuration, if it can be built.
pub(super) fn config(tree: &Node, reader: &mut Reader<'_>) -> Option<Config> {
    if !is_known_version(tree, reader) {
        return None;
    }
    let root: At<raw::Root> = decode::at(tree, reader)?;
    let raw = &root.value;
    let name = relay_name(raw, reader);
    let data_dir = reader.options.data_dir();
    let spool = spool(raw.spool.as_ref(), &data_dir, reader);
    let sources = raw.sources.as_ref().map(|sources| source::sources(sources, reader));
    let place = sink::Place { relay: name.as_deref(), data_dir: &data_dir, spool: &spool.path };
    let sinks = raw.sinks.as_ref().map(|sinks| sink::sinks(sinks, &place, reader));
    let rules = rules::rules(raw, reader);
    let dead_letters = dead_letters(raw.dead_letters.as_ref(), reader);
    let delivery = delivery(raw.delivery.as_ref(), reader);
    let admin = admin(raw.admin.as_ref(), reader);
    meaning::check(raw, rules.as_ref(), reader);
    let (name, sources, sinks, rules) = (name?, sources??, sinks??, rules?);
    Some(Config { name, sources, sinks, rules, spool, dead_letters, delivery, admin, data_dir })
}

/// A file of another version has other keys: that it is one is all there is to say.
fn is_known_version(tree: &Node, reader: &mut Reader<'_>) -> bool {
    let Kind::Mapping(entries) = &tree.kind else { return true };
    let Some((_, node)) = entries.iter().find(|(key, _)| key.text == "version") else { return true };
    let Kind::Scalar(scalar) = &node.kind else { return true };
    let known = scalar.text.parse::<u64>().ok().filter(|&version| version != VERSION).is_none();
    if !known {
        let message = format!("version {} is not known here", clean(&scalar.text));
        reader.report(
            Diagnostic::error("version", node.span, message)
                .help(format!("write `version: {VERSION}`, or use a regards-relay that knows that version")),
        );
    }
    known
}

fn relay_name(raw: &raw::Root, reader: &mut Reader<'_>) -> Option<String> {
    let Some(name) = &raw.name else { return Some(format!("urn:regards-relay:{}", reader.options.host)) };
    let text = &name.value.text;
    let printable = text.bytes().all(|byte| byte.is_ascii_graphic());
    if name.value.placeholder {
        return Some("urn:regards-relay:unset".to_owned());
    }
    if text.len() > MAX_RELAY_NAME || !printable || url::Url::parse(text).is_err() {
        reader.report(
            Diagnostic::error("relay-name", name.span, format!("{} is not a URI", reader.quote(name.span)))
                .help(format!("write one of at most {MAX_RELAY_NAME} characters, as in `urn:example:institute`")),
        );
        return None;
    }
    Some(text.clone())
}

fn spool(raw: Option<&At<raw::Spool>>, data_dir: &Path, reader: &mut Reader<'_>) -> SpoolConfig {
    let path = raw.and_then(|raw| raw.value.path.as_ref()).map_or("spool.db", |path| path.value.text.as_str());
    if let Some(raw) = raw {
        let sizes = [
            raw.value.max_size.as_ref().map(|at| ("max_size", at.span)),
            raw.value.max_share.as_ref().map(|at| ("max_share", at.span)),
        ];
        for (key, span) in sizes.into_iter().flatten() {
            not_in_force(reader, key, span, "nothing but dead letters is kept on disk in this version");
        }
    }
    SpoolConfig { path: data_dir.join(path) }
}

fn dead_letters(raw: Option<&At<raw::DeadLetters>>, reader: &mut Reader<'_>) -> DeadLettersConfig {
    let raw = raw.map(|raw| &raw.value);
    if let Some(to) = raw.and_then(|raw| raw.to.as_ref()) {
        later(
            reader,
            to.span,
            "copies of dead letters to a sink",
            "they are kept in the spool, see `dead-letters list`",
        );
    }
    DeadLettersConfig {
        keep: raw.and_then(|raw| raw.keep.as_ref()).and_then(|keep| keep.value.0.value()),
        max_size: size(reader, raw.and_then(|raw| raw.max_size.as_ref()), 2 * GIB, MIB..=1024 * GIB),
    }
}

fn delivery(raw: Option<&At<raw::Delivery>>, reader: &mut Reader<'_>) -> DeliveryConfig {
    let raw = raw.map(|raw| &raw.value);
    if let Some(spill_after) = raw.and_then(|raw| raw.spill_after.as_ref()) {
        not_in_force(
            reader,
            "spill_after",
            spill_after.span,
            "what can't be delivered waits in memory in this version",
        );
    }
    DeliveryConfig {
        shutdown_grace: period(
            reader,
            raw.and_then(|raw| raw.shutdown_grace.as_ref()),
            20 * SECOND,
            Duration::ZERO..=HOUR,
        ),
        max_in_flight_bytes: size(
            reader,
            raw.and_then(|raw| raw.max_in_flight_bytes.as_ref()),
            64 * MIB,
            MIB..=64 * GIB,
        ),
    }
}

fn admin(raw: Option<&At<raw::Admin>>, reader: &mut Reader<'_>) -> AdminConfig {
    let Some(listen) = raw.and_then(|raw| raw.value.listen.as_ref()) else {
        return AdminConfig { listen: Some(ADMIN) };
    };
    let listen = match listen.value.text.as_str() {
        "none" => None,
        _ if listen.value.placeholder => Some(ADMIN),
        text => {
            let parsed = text.parse();
            if parsed.is_err() {
                let message = format!("{} is not an address and a port", reader.quote(listen.span));
                reader.report(
                    Diagnostic::error("listen-address", listen.span, message)
                        .help("write `IP:PORT`, as in `127.0.0.1:9464` or `0.0.0.0:9464`; `none` for no listener"),
                );
            }
            parsed.ok()
        }
    };
    AdminConfig { listen }
}

/// The name of a source or a sink.
fn legal_name(reader: &mut Reader<'_>, what: &str, key: &Key) -> bool {
    let legal = !key.text.is_empty()
        && key.text.len() <= MAX_NAME
        && key.text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && key.text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
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

pub(super) use sink::FORMATS;

/// Something that this version doesn't do yet.
fn later(reader: &mut Reader<'_>, span: Span, what: &str, instead: &str) {
    reader.report(
        Diagnostic::error("not-yet", span, format!("{what} come with a later version"))
            .label("not in this version")
            .help(format!("remove it; {instead}")),
    );
}

/// Something that can be written and does nothing yet.
fn not_in_force(reader: &mut Reader<'_>, key: &str, span: Span, why: &str) {
    reader.report(
        Diagnostic::warning("not-in-force", span, format!("`{key}` is not in force yet: {why}"))
            .help("it may stay: a later version will heed it"),
    );
}

/// A secret that everybody who reads the file can read.
fn in_clear(reader: &mut Reader<'_>, what: &str, span: Span) {
    reader.report(
        Diagnostic::warning("secret-in-clear", span, format!("{what} stands in the file itself"))
            .help("keep it elsewhere: `${VAR}`, or `${file:/run/secrets/NAME}`"),
    );
}

/// A checked template.
fn template(reader: &mut Reader<'_>, at: &At<Text>) -> Option<Template> {
    match Template::compile(&at.value.text) {
        Ok(template) => Some(template),
        Err(error) => {
            let message = if at.value.inserted {
                // It might repeat what was inserted.
                "with what `${…}` stands for, this is not a template".to_owned()
            } else {
                format!("this is not a template: {error}")
            };
            reader.report(Diagnostic::error("template", at.span, message).help(
                "between `{{` and `}}` stand the event's fields, as in `{{ tenant }}`; see `schema event` for their names",
            ));
            None
        }
    }
}

/// The same for a topic, a routing key, a path: what is null there makes a dead letter of the event.
fn address_template(reader: &mut Reader<'_>, at: &At<Text>) -> Option<Template> {
    let template = template(reader, at)?;
    for name in template.nullable() {
        let message = format!("`{name}` can be null, and an event that it is null in has no address here");
        let default = format!(
            "it becomes a dead letter, `render_failed`; give it a default: `{{{{ {name} | default('none') }}}}`"
        );
        reader.report(Diagnostic::warning("nullable-address", reader.word_in(at.span, &name), message).help(default));
    }
    Some(template)
}

/// What can't be read as a URL.
fn no_url(code: &'static str, at: &At<UrlText>, error: url::ParseError, example: &str) -> Diagnostic {
    let message = match error {
        url::ParseError::RelativeUrlWithoutBase => "this URL has no scheme".to_owned(),
        error => format!("this is not a URL: {error}"),
    };
    let diagnostic = Diagnostic::error(code, at.span, message);
    if at.value.0.in_clear {
        diagnostic.help(example)
    } else {
        diagnostic.help(format!("{example}; what `${{…}}` puts into a part of a URL is percent-encoded"))
    }
}

/// A path that is read: relative to the file.
fn read_path(reader: &mut Reader<'_>, at: &At<Text>) -> PathBuf {
    let path = reader.folder.join(&at.value.text);
    if !at.value.placeholder
        && let Err(cause) = std::fs::File::open(&path).and_then(|file| file.metadata()).and_then(|metadata| {
            if metadata.is_dir() { Err(std::io::Error::other("it is a directory")) } else { Ok(()) }
        })
    {
        let shown = clean(&path.display().to_string());
        let shown = if at.value.inserted { "named here".to_owned() } else { format!("`{shown}`") };
        let diagnostic = reader.absent("missing-file", at.span, format!("the file {shown} can't be read: {cause}"));
        reader.report(diagnostic.help("a relative path begins at the folder of this file"));
    }
    path
}

fn number(reader: &mut Reader<'_>, at: Option<&At<Count>>, default: u64, range: RangeInclusive<u64>) -> u64 {
    let Some(at) = at else { return default };
    in_range(reader, at.span, at.value.0, &range, |number| number.to_string())
}

fn size(reader: &mut Reader<'_>, at: Option<&At<Size>>, default: u64, range: RangeInclusive<u64>) -> u64 {
    let Some(at) = at else { return default };
    in_range(reader, at.span, at.value.0, &range, |&bytes| match bytes {
        bytes if bytes >= GIB && bytes % GIB == 0 => format!("{}GiB", bytes / GIB),
        bytes if bytes >= MIB && bytes % MIB == 0 => format!("{}MiB", bytes / MIB),
        bytes if bytes >= KIB && bytes % KIB == 0 => format!("{}KiB", bytes / KIB),
        bytes => format!("{bytes}B"),
    })
}

fn period(
    reader: &mut Reader<'_>,
    at: Option<&At<Period>>,
    default: Duration,
    range: RangeInclusive<Duration>,
) -> Duration {
    let Some(at) = at else { return default };
    in_range(reader, at.span, at.value.0, &range, |period| match period.as_millis() {
        ms if ms > 0 && ms % 86_400_000 == 0 => format!("{}d", ms / 86_400_000),
        ms if ms > 0 && ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        ms if ms > 0 && ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        ms if ms % 1000 == 0 => format!("{}s", ms / 1000),
        ms => format!("{ms}ms"),
    })
}

fn in_range<T: PartialOrd + Copy>(
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

/// Whether a text is the name of a response family that a later version will read.
fn later_family(name: &str) -> bool {
    ["order", "delivery", "feature", "ingest", "worker", "auto"].contains(&name)
        && !FAMILIES.iter().any(|family| family.name == name)
}

/// Says that a name isn't one of those known.
fn unknown_name<'w>(
    reader: &mut Reader<'_>,
    code: &'static str,
    what: &str,
    at: &At<Text>,
    known: impl Iterator<Item = &'w str> + Clone,
) {
    if reader.is_full() {
        return;
    }
    let mut diagnostic = Diagnostic::error(code, at.span, format!("there is no {what} {}", reader.quote(at.span)));
    diagnostic = match similar(&at.value.text, known.clone()) {
        Some(near) => diagnostic.label(format!("did you mean `{near}`?")).help(format!("write `{near}`")),
        None if known.clone().next().is_none() => diagnostic,
        None => diagnostic.help(format!("there are: {}", super::decode::list(known.take(20)))),
    };
    reader.report(diagnostic);
}

/// How many attempts: none is unlimited.
fn attempts(reader: &mut Reader<'_>, at: &At<super::scalar::Attempts>) -> Option<u32> {
    match at.value.0 {
        Or::Word => None,
        Or::Value(number) => {
            let number = in_range(reader, at.span, number, &(1..=1_000_000), u64::to_string);
            u32::try_from(number).ok()
        }
    }
}
