//! `sinks:`: what all have in common, and the small kinds.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::common::{DAY, HOUR, SECOND, address_template, attempts, later, legal_name, number, period, template};
use super::source::short;
use super::transform::Transforms;
use super::{broker, kafka, webhook};
use crate::config::decode::{At, Named};
use crate::config::diagnostic::Diagnostic;
use crate::config::model::{AmqpSinkConfig, FileConfig, OrderBy, Retry, SinkConfig, SinkKind};
use crate::config::own;
use crate::config::raw;
use crate::config::reader::Reader;
use crate::config::scalar::{FormatChoice, Text};
use crate::config::words::{list, similar};
use crate::config::yaml::Key;
use crate::event::{EventSchema, Format, Template};
use crate::rules::{Glob, SinkName};

/// More sinks than this are refused: each has its own connections and labels of metrics.
const MAX_SINKS: usize = 10_000;
/// The wait before the second attempt, and the longest, unless the file says otherwise.
const FIRST: Duration = Duration::from_secs(5);
const MAX: Duration = Duration::from_mins(10);
/// Refusals after which a delivery becomes a dead letter, unless the file says otherwise.
const REFUSE_AFTER: u64 = 3;
/// What has no destination of its own gives up in the end, unless the file says otherwise.
const WEBHOOK_GIVES_UP: Duration = Duration::from_hours(7 * 24);
/// Names that mean something else in `unrouted:`.
const RESERVED: [&str; 2] = ["drop", "dead_letter"];

/// What sinks have to know of the rest of the file.
pub(super) struct Place<'a> {
    /// The name of the relay.
    pub relay: Option<&'a str>,
    /// Where files are written.
    pub data_dir: &'a Path,
    /// Where none may be written.
    pub spool: &'a Path,
    /// The one that gets copies of dead letters, and nothing else.
    pub copies_to: Option<&'a str>,
    /// What the routes change of their events.
    pub transforms: &'a Transforms<'a>,
}

pub(super) fn sinks(
    sinks: &At<Named<raw::Sink>>,
    place: &Place<'_>,
    reader: &mut Reader<'_>,
) -> Option<Vec<SinkConfig>> {
    if sinks.value.0.is_empty() {
        reader.report(
            Diagnostic::error("no-sink", sinks.head, "there is no sink")
                .help("add one: a name, and below it `kafka:`, `webhook:`, `amqp:`, `file:` or `stdout: {}`"),
        );
    }
    if sinks.value.0.len() > MAX_SINKS {
        reader.report(
            Diagnostic::error("too-many", sinks.head, format!("there are more than {MAX_SINKS} sinks"))
                .help("a template in its topic, URL or path lets one sink serve many tenants"),
        );
        return None;
    }
    // All of them are looked at before one that is wrong ends it.
    let all: Vec<_> = sinks.value.0.iter().map(|(key, raw)| sink(key, raw, place, reader)).collect();
    all.into_iter().collect()
}

fn sink(key: &Key, at: &At<raw::Sink>, place: &Place<'_>, reader: &mut Reader<'_>) -> Option<SinkConfig> {
    let raw = &at.value;
    let mut legal = legal_name(reader, "sink", key);
    if RESERVED.contains(&key.text.as_str()) {
        reader.report(
            Diagnostic::error("illegal-name", key.span, format!("a sink can't be named `{}`", key.text))
                .help("choose another name: in `unrouted:` the word has a meaning of its own"),
        );
        legal = false;
    }
    let takes_dead_letters = place.copies_to == Some(key.text.as_str());
    let (kind, format) = if takes_dead_letters {
        reader.vocabulary = EventSchema::DeadLetter;
        let kind = kind(key, at, place, reader);
        reader.vocabulary = EventSchema::Event;
        for_dead_letters(raw, reader);
        (kind, Some(Format::Original))
    } else {
        reader.vocabulary = place.transforms.vocabulary(&key.text);
        let both = (kind(key, at, place, reader), format(raw, place, reader));
        reader.vocabulary = EventSchema::Event;
        both
    };
    if let Some(group) = &raw.group {
        later(reader, group.head, "digests", "each event is delivered by itself");
    }
    let body = raw.body.iter().flat_map(|body| &body.value.values).map(String::as_str);
    let masked = body.chain(raw.webhook.iter().flat_map(|webhook| webhook::masked(&webhook.value)));
    let order_by = match &raw.order_by {
        _ if takes_dead_letters => OrderBy::None,
        Some(order_by) => order_by.value.0,
        None => OrderBy::default(),
    };
    if let Some(SinkKind::Kafka(kafka)) = &kind {
        kafka::keeps_order(raw, kafka, order_by, reader);
    }
    let keep_headers = raw.keep_headers.as_ref().map_or(&[][..], |keep| &keep.value.0);
    let kind = kind?;
    Some(SinkConfig {
        name: legal.then(|| SinkName::new(&key.text))?,
        files: kind.files(),
        kind,
        format: format?,
        masks: masked.collect(),
        keep_headers: keep_headers.iter().map(|at| Glob::new(&at.value.text)).collect(),
        order_by,
        retry: retry(raw.retry.as_ref(), raw.webhook.is_some(), reader),
        when_full: raw.when_full.as_ref().map_or_else(Default::default, |when_full| when_full.value.0),
    })
}

/// What can't be said of a sink that gets copies of dead letters.
fn for_dead_letters(raw: &raw::Sink, reader: &mut Reader<'_>) {
    let is_original = |format: &FormatChoice| matches!(format, FormatChoice::Name(name) if name.placeholder || name.text == "original");
    let formats = raw.format.as_ref().filter(|format| !is_original(&format.value)).map(|format| format.span);
    for span in formats.into_iter().chain(raw.body.as_ref().map(|body| body.span)) {
        reader.report(
            Diagnostic::error("dead-letter-sink", span, "copies of dead letters go out as they were received")
                .help("remove it, or write `format: original`; what they died of is in their headers"),
        );
    }
    if let Some(order_by) = raw.order_by.as_ref().filter(|order_by| order_by.value.0 != OrderBy::None) {
        reader.report(
            Diagnostic::error("dead-letter-sink", order_by.span, "copies of dead letters are kept in no order")
                .help("remove it, or write `order_by: none`"),
        );
    }
}

fn kind(key: &Key, at: &At<raw::Sink>, place: &Place<'_>, reader: &mut Reader<'_>) -> Option<SinkKind> {
    let raw = &at.value;
    let heads = [
        raw.kafka.as_ref().map(|at| at.head),
        raw.webhook.as_ref().map(|at| at.head),
        raw.amqp.as_ref().map(|at| at.head),
        raw.file.as_ref().map(|at| at.head),
        raw.stdout.as_ref().map(|at| at.head),
    ];
    let mut given = heads.into_iter().flatten();
    match (given.next(), given.next()) {
        (None, _) => {
            if !reader.failed_in(at.span) {
                reader.report(
                    Diagnostic::error("no-kind", key.span, format!("the sink `{}` has no kind", key.text))
                        .help("add `kafka:`, `webhook:`, `amqp:`, `file:` or `stdout: {}` below it"),
                );
            }
            return None;
        }
        (Some(_), Some(second)) => {
            reader.report(
                Diagnostic::error("two-kinds", second, format!("the sink `{}` is of two kinds", key.text))
                    .help("make it two sinks, each with a name of its own"),
            );
            return None;
        }
        _ => {}
    }
    if let Some(kafka) = &raw.kafka {
        return kafka::kafka(kafka, reader).map(|kafka| SinkKind::Kafka(Box::new(kafka)));
    }
    if let Some(webhook) = &raw.webhook {
        return webhook::webhook(webhook, reader).map(|webhook| SinkKind::Webhook(Box::new(webhook)));
    }
    if let Some(amqp) = &raw.amqp {
        return self::amqp(amqp, reader).map(|amqp| SinkKind::Amqp(Box::new(amqp)));
    }
    if let Some(file) = &raw.file {
        return self::file(file, place, reader).map(SinkKind::File);
    }
    Some(SinkKind::Stdout)
}

fn format(raw: &raw::Sink, place: &Place<'_>, reader: &mut Reader<'_>) -> Option<Format> {
    if let (Some(format), Some(body)) = (&raw.format, &raw.body) {
        reader.report(
            Diagnostic::error("two-formats", body.span, "`body` takes the place of a format")
                .also(format.span, "the other one")
                .help("keep one of the two"),
        );
    }
    if let Some(body) = &raw.body {
        let body = template(reader, body).inspect(|template| escapes(body, template, reader));
        return body.map(Format::Body);
    }
    let Some(format) = &raw.format else { return Some(Format::Normalized) };
    let FormatChoice::Name(name) = &format.value else {
        later(reader, format.span, "formats with settings", &format!("write one of {}", list(Format::NAMES)));
        return None;
    };
    match name.text.as_str() {
        _ if name.placeholder => Some(Format::Normalized),
        "normalized" => Some(Format::Normalized),
        "original" => Some(Format::Original),
        "cloudevents" => Some(Format::CloudEvents { name: place.relay?.to_owned() }),
        text => {
            let message = format!("{} is not a format", reader.quote(format.span));
            let mut diagnostic = Diagnostic::error("unknown-format", format.span, message);
            diagnostic = match similar(text, Format::NAMES) {
                Some(near) => diagnostic.label(format!("did you mean `{near}`?")).help(format!("write `{near}`")),
                None => diagnostic.help(format!("write {}, or a template in `body:`", list(Format::NAMES))),
            };
            reader.report(diagnostic);
            None
        }
    }
}

/// A field of an event can hold whatever REGARDS wrote: a quote or a line break in it ends a text of JSON.
fn escapes(body: &At<Text>, template: &Template, reader: &mut Reader<'_>) {
    let Some(name) = template.unescaped_in_json() else { return };
    let message = format!(
        "this body looks like JSON, and `{name}` goes into it unescaped: a quote or a line break in it breaks the JSON"
    );
    reader.report(
        Diagnostic::warning("json-unescaped", reader.word_in_template(body.span, name), message)
            .help(format!(
                "write `{{{{ {name} | tojson }}}}`, or `{{{{ (\"text \" ~ {name}) | tojson }}}}`, without quotes around it: `tojson` makes them"
            )),
    );
}

fn retry(at: Option<&At<raw::Retry>>, webhook: bool, reader: &mut Reader<'_>) -> Retry {
    let raw = at.map(|at| &at.value);
    let initial_backoff =
        period(reader, raw.and_then(|raw| raw.initial_backoff.as_ref()), FIRST, Duration::from_millis(10)..=DAY);
    let max_backoff = period(
        reader,
        raw.and_then(|raw| raw.max_backoff.as_ref()),
        MAX.max(initial_backoff),
        Duration::from_millis(10)..=7 * DAY,
    );
    if let Some(written) = raw.and_then(|raw| raw.max_backoff.as_ref())
        && max_backoff < initial_backoff
    {
        reader.report(
            Diagnostic::error("retry-order", written.span, "`max_backoff` is shorter than `initial_backoff`").help(
                "the back-off doubles from `initial_backoff` up to `max_backoff`: make `max_backoff` at least as long",
            ),
        );
    }
    let give_up_after = match raw.and_then(|raw| raw.give_up_after.as_ref()) {
        None => webhook.then_some(WEBHOOK_GIVES_UP),
        Some(at) => {
            let after = at.value.0.value();
            if after.is_some_and(|after| after < SECOND) {
                reader.report(
                    Diagnostic::error("out-of-range", at.span, format!("{} is out of range", reader.quote(at.span)))
                        .help("write at least `1s`, or `never`"),
                );
            } else if after.is_some_and(|after| after < HOUR && after < max_backoff) {
                reader.report(
                    Diagnostic::warning(
                        "gives-up-early",
                        at.span,
                        "deliveries are given up before the waits between attempts reach `max`",
                    )
                    .help("a longer `give_up_after` survives an outage of the destination"),
                );
            }
            after
        }
    };
    let max_attempts = raw.and_then(|raw| raw.max_attempts.as_ref()).and_then(|at| attempts(reader, at));
    let refuse_after = number(reader, raw.and_then(|raw| raw.refuse_after.as_ref()), REFUSE_AFTER, 1..=1000);
    let refuse_after = u32::try_from(refuse_after).unwrap_or(u32::MAX);
    Retry { initial_backoff, max_backoff, give_up_after, max_attempts, refuse_after }
}

fn amqp(at: &At<raw::AmqpSink>, reader: &mut Reader<'_>) -> Option<AmqpSinkConfig> {
    let raw = &at.value;
    let connection = broker::connection(&broker_of(raw), reader);
    // The empty name is AMQP's default exchange, which leads to the queue that the routing key names.
    let exchange = raw.exchange.as_ref().and_then(|exchange| match exchange.value.text.as_str() {
        "" => Some(String::new()),
        _ => short(exchange, "exchange", reader),
    });
    let routing_key = match &raw.routing_key {
        Some(key) => address_template(reader, key),
        None => Template::compile("").ok(),
    };
    let declare = raw.declare.as_ref().and_then(|declare| declare.value.r#type.as_ref());
    Some(AmqpSinkConfig {
        connection: connection?,
        exchange: exchange?,
        routing_key: routing_key?,
        declare: declare.map(|kind| kind.value.0.0.to_owned()),
    })
}

/// What is written about the broker of a sink.
fn broker_of(raw: &raw::AmqpSink) -> broker::Raw<'_> {
    broker::Raw {
        url: raw.url.as_ref(),
        username: raw.username.as_ref(),
        password: raw.password.as_ref(),
        vhost: raw.vhost.as_ref(),
        tls: raw.tls.as_ref(),
    }
}

fn file(at: &At<raw::File>, place: &Place<'_>, reader: &mut Reader<'_>) -> Option<FileConfig> {
    let path = at.value.path.as_ref()?;
    let text = &path.value.text;
    let leaves = Path::new(text).components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir));
    if leaves || text.is_empty() || text.ends_with('/') {
        let message = match text {
            text if text.is_empty() || text.ends_with('/') => "this path names no file".to_owned(),
            _ => format!("{} leaves the data directory", reader.quote(path.span)),
        };
        reader.report(Diagnostic::error("file-path", path.span, message).help(
            "write a path below the data directory, as in `archive/{{ tenant }}.ndjson`; `--data-dir` moves that",
        ));
        return None;
    }
    let path_template = address_template(reader, path)?;
    // Without the `.` that a path may be written with, so that paths can be compared.
    let plain = |path: &Path| path.components().collect::<PathBuf>();
    let reserved = own::all(place.data_dir, place.spool);
    let fixed = path_template.fixed().map(|fixed| plain(&place.data_dir.join(fixed)));
    if fixed.as_ref() == Some(&plain(place.spool)) {
        reader.report(
            Diagnostic::error("file-path", path.span, "this is the file of the spool")
                .help("write to another file, or move the spool: `spool: { path: … }`"),
        );
    } else if fixed.is_some_and(|fixed| own::is_own(&fixed, &reserved)) {
        reader.report(
            Diagnostic::error("file-path", path.span, "the relay keeps a file of its own there")
                .help("write to another file: the spool, what lies beside it and `control.sock` are the relay's"),
        );
    }
    Some(FileConfig { dir: plain(place.data_dir), reserved, path: path_template })
}
