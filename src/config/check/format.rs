//! The keys `format:` and `body:` of a sink.

use super::common::template;
use crate::config::raw::{self, FormatChoice, SchemaFormats, SchemaSettings};
use crate::config::text::decode::At;
use crate::config::text::diagnostic::Diagnostic;
use crate::config::text::reader::Reader;
use crate::config::text::scalar::Text;
use crate::config::text::words::list;
use crate::event::{Format, SchemaFormat, SchemaKind, SchemaSource, Template};

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
        let body = template(reader, body).inspect(|template| check_escapes(body, template, reader));
        return body.map(Format::Body);
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
    let other = schema.filter(|schema| schema.value.text != EVENT);
    if let Some(other) = other {
        let message = format!("{} is not a schema", reader.quote(other.span));
        let help = "write `event`, or remove `schema`";
        reader.report(Diagnostic::error("unknown-schema", other.span, message).help(help));
    }
    check_kind(raw, at, kind, reader);
    if other.is_none() {
        check_event_schema(raw, at, is_transformed, reader);
    }
    Some(Format::Schema(Box::new(SchemaFormat { kind, source: SchemaSource::Event, json: Format::Normalized })))
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
