//! The key `sinks:`: the settings that all sinks have, and the sinks to AMQP, files and standard output.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::common::{DAY, HOUR, SECOND, address_template, attempts, legal_name, number, period};
use super::source::short;
use super::transform::Transforms;
use super::{broker, format, group, headers, kafka, registry, webhook};
use crate::config::model::{AmqpSinkConfig, FileConfig, KafkaConfig, OrderBy, Retry, SinkConfig, SinkKind};
use crate::config::own;
use crate::config::raw;
use crate::config::text::decode::{At, NamedEntries};
use crate::config::text::diagnostic::Diagnostic;
use crate::config::text::reader::Reader;
use crate::config::text::tree::Key;
use crate::event::{EventSchema, Format, Template};
use crate::rules::{Glob, SinkName};

/// The largest number of sinks: each has its own connections and labels of metrics.
const MAX_SINKS: usize = 10_000;
/// The default back-off: before the second attempt, and at most.
const FIRST: Duration = Duration::from_secs(5);
const MAX: Duration = Duration::from_mins(10);
/// The default number of refusals after which a delivery becomes a dead letter.
const REFUSE_AFTER: u64 = 3;
/// The default time after which deliveries to a webhook are given up.
const WEBHOOK_GIVES_UP: Duration = Duration::from_hours(7 * 24);
/// Words with a meaning of their own in `unrouted:`.
const RESERVED: [&str; 2] = ["drop", "dead_letter"];

/// The parts of the file that the check of a sink needs.
pub(super) struct SinkContext<'a> {
    pub relay: Option<&'a str>,
    pub data_dir: &'a Path,
    /// The spool's file, if it is in one: no sink may write to it.
    pub spool: Option<&'a Path>,
    /// The sink that gets copies of dead letters, and nothing else.
    pub copies_to: Option<&'a str>,
    /// The changes that routes make to their events.
    pub transforms: &'a Transforms<'a>,
}

pub(super) fn sinks(
    sinks: &At<NamedEntries<raw::Sink>>,
    context: &SinkContext<'_>,
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
    // All sinks are checked, also after a wrong one.
    let all: Vec<_> = sinks.value.0.iter().map(|(key, raw)| sink(key, raw, context, reader)).collect();
    all.into_iter().collect()
}

fn sink(key: &Key, at: &At<raw::Sink>, context: &SinkContext<'_>, reader: &mut Reader<'_>) -> Option<SinkConfig> {
    let raw = &at.value;
    let mut legal = legal_name(reader, "sink", key);
    if RESERVED.contains(&key.text.as_str()) {
        reader.report(
            Diagnostic::error("illegal-name", key.span, format!("a sink can't be named `{}`", key.text))
                .help("choose another name: this word has a special meaning in `unrouted:`"),
        );
        legal = false;
    }
    let takes_dead_letters = context.copies_to == Some(key.text.as_str());
    let group = raw.group.as_ref().map(|group| group::group(group, reader));
    let (kind, format) = if takes_dead_letters {
        reader.schema = EventSchema::DeadLetter;
        let kind = kind(key, at, context, reader);
        reader.schema = EventSchema::Event;
        check_dead_letter_sink(raw, reader);
        (kind, Some(Format::Original))
    } else {
        let events = context.transforms.schema(&key.text);
        let is_transformed = matches!(events, EventSchema::Transformed(_));
        reader.schema = match &group {
            Some(group) => events.grouped(&group.by.iter().map(|field| field.as_str()).collect::<Vec<_>>()),
            None => events,
        };
        let both = (
            kind(key, at, context, reader).and_then(|kind| with_registry(kind, raw, reader)),
            format::format(raw, context.relay, is_transformed, reader),
        );
        reader.schema = EventSchema::Event;
        both
    };
    let body = raw.body.iter().flat_map(|body| &body.value.values).map(String::as_str);
    let of_webhook = raw.webhook.iter().flat_map(|webhook| webhook::masked(&webhook.value));
    let of_kafka = raw.kafka.iter().flat_map(|kafka| headers::masked(kafka.value.headers.as_ref()));
    let of_amqp = raw.amqp.iter().flat_map(|amqp| headers::masked(amqp.value.headers.as_ref()));
    let masked = body.chain(of_webhook).chain(of_kafka).chain(of_amqp);
    let order_by = match &raw.order_by {
        _ if takes_dead_letters => OrderBy::None,
        Some(order_by) => order_by.value.0,
        None => OrderBy::default(),
    };
    if let Some(SinkKind::Kafka(kafka)) = kind.as_ref().filter(|_| group.is_none()) {
        kafka::keeps_order(raw, kafka, order_by, reader);
    }
    let keep_headers = raw.keep_headers.as_ref().map_or(&[][..], |keep| &keep.value.0);
    let retry = retry(raw.retry.as_ref(), raw.webhook.is_some(), reader);
    if let Some(group) = &group {
        group::check(raw, group, &retry, takes_dead_letters, reader);
    }
    let kind = kind?;
    Some(SinkConfig {
        name: legal.then(|| SinkName::new(&key.text))?,
        files: kind.files(),
        kind,
        format: format?,
        masks: masked.collect(),
        keep_headers: keep_headers.iter().map(|at| Glob::new(&at.value.text)).collect(),
        order_by,
        group,
        retry,
        when_full: raw.when_full.as_ref().map_or_else(Default::default, |when_full| when_full.value.0),
    })
}

/// The sink with the registry of its format, if it has one.
fn with_registry(kind: SinkKind, raw: &raw::Sink, reader: &mut Reader<'_>) -> Option<SinkKind> {
    let registry = registry::registry(raw, reader).ok()?;
    Some(match kind {
        SinkKind::Kafka(kafka) => SinkKind::Kafka(Box::new(KafkaConfig { registry, ..*kafka })),
        kind => kind,
    })
}

/// Reports settings that the sink of dead letters can't have.
fn check_dead_letter_sink(raw: &raw::Sink, reader: &mut Reader<'_>) {
    let is_original = |format: &raw::FormatChoice| matches!(format, raw::FormatChoice::Name(name) if name.placeholder || name.text == "original");
    let formats = raw.format.as_ref().filter(|format| !is_original(&format.value)).map(|format| format.span);
    for span in formats.into_iter().chain(raw.body.as_ref().map(|body| body.span)) {
        reader.report(
            Diagnostic::error("dead-letter-sink", span, "copies of dead letters are sent as they were received")
                .help("remove it, or write `format: original`; the reason is in their headers"),
        );
    }
    if let Some(order_by) = raw.order_by.as_ref().filter(|order_by| order_by.value.0 != OrderBy::None) {
        reader.report(
            Diagnostic::error("dead-letter-sink", order_by.span, "copies of dead letters are not kept in order")
                .help("remove it, or write `order_by: none`"),
        );
    }
}

fn kind(key: &Key, at: &At<raw::Sink>, context: &SinkContext<'_>, reader: &mut Reader<'_>) -> Option<SinkKind> {
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
                Diagnostic::error("two-kinds", second, format!("the sink `{}` has two kinds", key.text))
                    .help("make it two sinks, each with its own name"),
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
        return self::file(file, context, reader).map(SinkKind::File);
    }
    Some(SinkKind::Stdout)
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
                        "deliveries are given up before the back-off reaches `max_backoff`",
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
    // The empty name is AMQP's default exchange, which delivers to the queue that the routing key names.
    let exchange = raw.exchange.as_ref().and_then(|exchange| match exchange.value.text.as_str() {
        "" => Some(String::new()),
        _ => short(exchange, "exchange", reader),
    });
    let routing_key = match &raw.routing_key {
        Some(key) => address_template(reader, key),
        None => Template::compile("").ok(),
    };
    let headers = headers::headers(raw.headers.as_ref(), true, reader);
    let declare = raw.declare.as_ref().and_then(|declare| declare.value.r#type.as_ref());
    Some(AmqpSinkConfig {
        connection: connection?,
        exchange: exchange?,
        routing_key: routing_key?,
        headers,
        declare: declare.map(|kind| kind.value.0.0.to_owned()),
    })
}

fn broker_of(raw: &raw::AmqpSink) -> broker::RawConnection<'_> {
    broker::RawConnection {
        url: raw.url.as_ref(),
        username: raw.username.as_ref(),
        password: raw.password.as_ref(),
        vhost: raw.vhost.as_ref(),
        auth: raw.auth.as_ref(),
        tls: raw.tls.as_ref(),
    }
}

fn file(at: &At<raw::File>, context: &SinkContext<'_>, reader: &mut Reader<'_>) -> Option<FileConfig> {
    let path = at.value.path.as_ref()?;
    let text = &path.value.text;
    let leaves = Path::new(text).components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir));
    if leaves || text.is_empty() || text.ends_with('/') {
        let message = match text {
            text if text.is_empty() || text.ends_with('/') => "this is not the path of a file".to_owned(),
            _ => format!("{} leaves the data directory", reader.quote(path.span)),
        };
        reader.report(Diagnostic::error("file-path", path.span, message).help(
            "write a path below the data directory, as in `archive/{{ tenant }}.ndjson`; `--data-dir` sets that directory",
        ));
        return None;
    }
    let path_template = address_template(reader, path)?;
    // Without `.` components, so that paths can be compared.
    let plain = |path: &Path| path.components().collect::<PathBuf>();
    let reserved = own::all(context.data_dir, context.spool);
    let fixed = path_template.fixed().map(|fixed| plain(&context.data_dir.join(fixed)));
    if fixed.is_some() && fixed == context.spool.map(plain) {
        reader.report(
            Diagnostic::error("file-path", path.span, "this is the file of the spool")
                .help("write to another file, or move the spool: `spool: { path: … }`"),
        );
    } else if fixed.is_some_and(|fixed| own::is_own(&fixed, &reserved)) {
        reader.report(
            Diagnostic::error("file-path", path.span, "the relay keeps a file of its own there")
                .help("write to another file: the spool, its lock, `journal.db` and `control.sock` are the relay's"),
        );
    }
    Some(FileConfig { dir: plain(context.data_dir), reserved, path: path_template })
}
