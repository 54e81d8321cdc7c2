//! The keys `format:` and `body:` of a sink.

use std::path::Path;

use super::common::template;
use super::schema_file::{self, SchemaFile};
use crate::config::raw::{self, FormatChoice, SchemaFormats, SchemaSettings};
use crate::config::text::decode::At;
use crate::config::text::diagnostic::Diagnostic;
use crate::config::text::reader::Reader;
use crate::config::text::scalar::Text;
use crate::config::text::words::list;
use crate::event::{Format, LATEST, SchemaFormat, SchemaKind, SchemaSource, Template};

/// The format of a sink's bodies. `is_transformed`: a route to it changes its events.
pub(super) fn format(
    raw: &raw::Sink,
    relay: Option<&str>,
    is_transformed: bool,
    reader: &mut Reader<'_>,
) -> Option<Format> {
    if let (Some(format @ At { value: FormatChoice::Name(_), .. }), Some(body)) = (&raw.format, &raw.body) {
        reader.report(
            Diagnostic::error("two-formats", body.span, "`body` replaces `format`")
                .also(format.span, "the other one")
                .help("keep one of the two"),
        );
    }
    let (format, name) = match raw.format.as_ref().map(|at| (at, &at.value)) {
        Some((at, FormatChoice::Schema(formats))) => return schema_format(raw, at, formats, is_transformed, reader),
        Some((at, FormatChoice::Name(name))) => (Some(at), Some(name)),
        None => (None, None),
    };
    if let Some(body) = &raw.body {
        return body_template(body, reader);
    }
    let (Some(format), Some(name)) = (format, name) else { return Some(Format::Normalized) };
    match name.text.as_str() {
        _ if name.placeholder => Some(Format::Normalized),
        "normalized" => Some(Format::Normalized),
        "original" => Some(Format::Original),
        "cloudevents" => Some(Format::CloudEvents { name: relay?.to_owned() }),
        text => {
            let message = format!("{} is not a format", reader.quote(format.span));
            let help = format!("write {}, or a template in `body:`", list(Format::NAMES));
            reader.report(Diagnostic::error("unknown-format", format.span, message).suggest(text, Format::NAMES, help));
            None
        }
    }
}

fn body_template(body: &At<Text>, reader: &mut Reader<'_>) -> Option<Format> {
    let body = template(reader, body).inspect(|template| check_escapes(body, template, reader));
    body.map(Format::Body)
}

/// Warns of fields in a JSON body that are not escaped: a quote or a line break in a field would break the JSON.
fn check_escapes(body: &At<Text>, template: &Template, reader: &mut Reader<'_>) {
    let Some(name) = template.unescaped_in_json() else { return };
    let message = format!(
        "this body looks like JSON, and `{name}` goes into it unescaped: a quote or a line break in it breaks the JSON"
    );
    reader.report(
        Diagnostic::warning("json-unescaped", reader.word_in_template(body.span, name), message)
            .help(format!(
                "write `{{{{ {name} | tojson }}}}`, or `{{{{ (\"text \" ~ {name}) | tojson }}}}`, without quotes around it, as `tojson` adds them"
            )),
    );
}

/// A format with a schema. `at` is the value of `format:`.
fn schema_format(
    raw: &raw::Sink,
    at: &At<FormatChoice>,
    formats: &SchemaFormats,
    is_transformed: bool,
    reader: &mut Reader<'_>,
) -> Option<Format> {
    let (kind, settings) = the_one(at, formats, reader)?;
    let schema = settings.value.schema.as_ref();
    if schema.is_some_and(|schema| schema.value.placeholder) {
        return Some(Format::Normalized);
    }
    check_kind(raw, at, kind, reader);
    let file = schema.filter(|schema| schema.value.text != EVENT);
    check_message(kind, file.is_some(), settings, reader);
    if let Some(latest) = file.filter(|file| file.value.text == LATEST) {
        return latest_schema(raw, kind, latest, settings, reader);
    }
    let Some(file) = file else {
        check_event_schema(raw, at, is_transformed, reader);
        let format = SchemaFormat { kind, source: SchemaSource::Event, json: Format::Normalized };
        return Some(Format::Schema(Box::new(format)));
    };
    let source = of_file(kind, file, settings.value.message.as_ref(), reader);
    let json = match &raw.body {
        Some(body) => body_template(body, reader),
        None => Some(Format::Normalized),
    };
    let json = json?;
    match source? {
        SchemaFile::Compiled(schema) => {
            let source = SchemaSource::File { path: file.value.text.clone(), schema };
            Some(Format::Schema(Box::new(SchemaFormat { kind, source, json })))
        }
        SchemaFile::Missing => Some(json),
        SchemaFile::Unusable => None,
    }
}

/// The latest schema of a subject in the sink's registry.
fn latest_schema(
    raw: &raw::Sink,
    kind: SchemaKind,
    at: &At<Text>,
    settings: &At<SchemaSettings>,
    reader: &mut Reader<'_>,
) -> Option<Format> {
    let json = match &raw.body {
        Some(body) => body_template(body, reader),
        None => Some(Format::Normalized),
    };
    let Some(registry) = &settings.value.registry else {
        reader.report(
            Diagnostic::error(
                "latest-without-registry",
                at.span,
                "`latest` is read from a registry, and there is none",
            )
            .help("add `registry: { url: … }`, or write `event` or the path of a file"),
        );
        return None;
    };
    if let Some(register) = registry.value.register.as_ref().filter(|register| register.value.0) {
        reader.report(
            Diagnostic::error(
                "register-latest",
                register.span,
                "`latest` takes what the registry has, and registers nothing",
            )
            .help("remove `register`, or write `event` or the path of a file as `schema`"),
        );
    }
    let message = settings.value.message.as_ref().map(|message| message.value.text.clone());
    let source = SchemaSource::Latest { message };
    Some(Format::Schema(Box::new(SchemaFormat { kind, source, json: json? })))
}

/// A schema in a file. None: it is no file of that kind, which is reported.
fn of_file(
    kind: SchemaKind,
    file: &At<Text>,
    message: Option<&At<Text>>,
    reader: &mut Reader<'_>,
) -> Option<SchemaFile> {
    let extension = schema_file::extension(kind);
    let path = file.value.text.as_str();
    if Path::new(path).extension().is_none_or(|written| written != extension) {
        let message = format!("{} is not a schema of {}", reader.quote(file.span), kind.as_str());
        let help = format!("write `event`, `latest`, or the path of a file, as in `partner.{extension}`");
        reader.report(Diagnostic::error("unknown-schema", file.span, message).help(help));
        return None;
    }
    Some(schema_file::read(kind, file, message, reader))
}

/// Reports a message that is named for a schema without messages.
fn check_message(kind: SchemaKind, is_file: bool, settings: &At<SchemaSettings>, reader: &mut Reader<'_>) {
    let Some(message) = &settings.value.message else { return };
    let label = match (kind, is_file) {
        (SchemaKind::Protobuf, true) => return,
        (SchemaKind::Protobuf, false) => "the schema `event` has one message",
        (SchemaKind::Avro | SchemaKind::JsonSchema, _) => "only Protobuf has messages",
    };
    reader.report(
        Diagnostic::error("no-message", message.head, "there is no message to choose")
            .label(label)
            .help("remove `message`"),
    );
}

/// The word for the relay's own schema.
const EVENT: &str = "event";

/// The format of which the settings are given, and no other.
fn the_one<'a>(
    at: &At<FormatChoice>,
    formats: &'a SchemaFormats,
    reader: &mut Reader<'_>,
) -> Option<(SchemaKind, &'a At<SchemaSettings>)> {
    let SchemaFormats { avro, json_schema, protobuf } = formats;
    let all = [(SchemaKind::Avro, avro), (SchemaKind::JsonSchema, json_schema), (SchemaKind::Protobuf, protobuf)];
    let mut given = all.into_iter().filter_map(|(kind, settings)| Some((kind, settings.as_ref()?)));
    let first = given.next();
    if let Some((_, second)) = given.next() {
        reader.report(
            Diagnostic::error("two-formats", second.head, "a sink has one format")
                .help("keep one of them, or make it two sinks"),
        );
        return None;
    }
    if first.is_none() && !reader.failed_in(at.span) {
        reader.report(
            Diagnostic::error("no-format", at.span, "there is no format")
                .help(format!("write {}, or a format with a schema, as in `{{ avro: {{}} }}`", list(Format::NAMES))),
        );
    }
    first
}

/// Reports lines of bytes that are no text.
fn check_kind(raw: &raw::Sink, at: &At<FormatChoice>, kind: SchemaKind, reader: &mut Reader<'_>) {
    if kind.is_binary() && (raw.file.is_some() || raw.stdout.is_some()) {
        let name = kind.as_str();
        reader.report(
            Diagnostic::error(
                "binary-lines",
                at.head,
                format!("files and standard output get lines of text, and {name} is none"),
            )
            .help("use `json_schema` here, or a `kafka`, `webhook` or `amqp` sink"),
        );
    }
}

/// Reports what changes the event that the schema `event` describes.
fn check_event_schema(raw: &raw::Sink, at: &At<FormatChoice>, is_transformed: bool, reader: &mut Reader<'_>) {
    const MESSAGE: &str = "the schema `event` is that of the normalized event";
    let report = |span, label: &str, help: &str, reader: &mut Reader<'_>| {
        reader.report(Diagnostic::error("event-schema", span, MESSAGE).label(label).help(help));
    };
    if let Some(body) = &raw.body {
        report(body.head, "this is another body", "remove `body`, or `format`", reader);
    }
    if let Some(group) = &raw.group {
        report(group.head, "a digest is an array of events", "remove `group`, or `format`", reader);
    }
    if is_transformed {
        let help = "remove `transform` from the routes that lead to this sink, or `format` here";
        report(at.head, "a route to this sink changes the event by `transform`", help, reader);
    }
}
