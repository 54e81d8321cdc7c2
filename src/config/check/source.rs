//! The key `sources:`.

use std::collections::HashSet;
use std::sync::Arc;

use super::broker;
use super::common::{GIB, is_legal_name, legal_name, number, read_path, size};
use crate::config::model::{
    AmqpSourceConfig, Argument, Binding, DeclareQueue, QueueDeclaration, QueueKind, RecordingConfig, SourceConfig,
    SourceKind, SourceShard,
};
use crate::config::raw;
use crate::config::text::decode::{At, NamedEntries};
use crate::config::text::diagnostic::Diagnostic;
use crate::config::text::reader::Reader;
use crate::config::text::scalar::Text;
use crate::config::text::tree::Key;
use crate::event::{
    DecodeOptions, ExpectedFamily, FAMILIES, Family, MAX_SHORT_STRING, MAX_TENANT_BYTES, SourceName, Validation,
};

/// The argument for a queue's priorities, and how many `RabbitMQ` recommends at most (its guide on priority queues).
const PRIORITIES: &str = "x-max-priority";
const MAX_PRIORITY: i64 = 10;
/// The largest number of sources: each has a connection, a consumer and labels of metrics.
const MAX_SOURCES: usize = 1000;
/// Replaced by the number of the shard, from 0, in the name of a queue.
const SHARD: &str = "{shard}";
/// The largest number of shards of all sources: each has an owner, with two connections to PostgreSQL.
pub(super) const MAX_SHARDS: u64 = 64;
/// The default prefetch: how many messages may be unacknowledged.
const PREFETCH: u64 = 1000;
/// The default of the longest accepted body, in bytes.
const MAX_BODY: u64 = 1 << 20;
/// The argument of a queue with one active consumer at a time.
pub(super) const SINGLE_ACTIVE_CONSUMER: &str = "x-single-active-consumer";

pub(super) fn sources(sources: &At<NamedEntries<raw::Source>>, reader: &mut Reader<'_>) -> Option<Vec<SourceConfig>> {
    let named = &sources.value.0;
    if named.is_empty() {
        reader.report(
            Diagnostic::error("no-source", sources.head, "there is no source")
                .help("add one: a name, and below it `amqp:` with `url:` and `queue:`"),
        );
    }
    if named.len() > MAX_SOURCES {
        reader.report(
            Diagnostic::error("too-many", sources.head, format!("there are more than {MAX_SOURCES} sources"))
                .help("split them between several relays"),
        );
        return None;
    }
    // All sources are checked, also after a wrong one.
    let all: Vec<_> = named.iter().map(|(key, raw)| source(key, raw, reader)).collect();
    let all: Vec<_> = all.into_iter().collect::<Option<Vec<_>>>()?.into_iter().flatten().collect();
    let mut names = HashSet::new();
    if let Some(twice) = all.iter().find(|source| !names.insert(&source.name)) {
        let message = format!(
            "two sources are named `{}`: one entry with `tenants` becomes a source for each tenant",
            twice.name
        );
        reader.report(Diagnostic::error("duplicate-source", sources.head, message).help("rename one of the two"));
    }
    if all.len() > MAX_SOURCES {
        let message = format!("with a source for each tenant there are more than {MAX_SOURCES}");
        reader.report(
            Diagnostic::error("too-many", sources.head, message).help("split the tenants between several relays"),
        );
    }
    Some(all)
}

/// Replaced by the tenant, in lower case, in the name of a virtual host.
const TENANT: &str = "{tenant}";

/// The names and virtual hosts of the sources of one entry: one for each of its tenants and each of its queues.
pub(super) fn expand(key: &str, raw: &raw::Source) -> Vec<(String, Option<String>)> {
    let amqp = raw.amqp.as_ref().map(|amqp| &amqp.value);
    let vhost = amqp.and_then(|amqp| Some(amqp.vhost.as_ref()?.value.text.clone()));
    let of = |tenant: &str| (format!("{key}.{tenant}"), vhost.as_deref().map(|vhost| of_tenant(vhost, tenant)));
    let each = match &raw.tenants {
        Some(tenants) => tenants.value.0.iter().map(|tenant| of(&tenant.value.text)).collect(),
        None => vec![(key.to_owned(), vhost.clone())],
    };
    let Some(shards) = amqp.and_then(|amqp| amqp.shards.as_ref()) else { return each };
    let shards = 0..shards.value.0.min(MAX_SHARDS);
    let of = |(name, vhost): (String, Option<String>)| {
        shards.clone().map(move |shard| (format!("{name}.{shard}"), vhost.clone()))
    };
    each.into_iter().flat_map(of).collect()
}

/// One source for each queue of an entry.
fn divide(source: SourceConfig) -> Vec<SourceConfig> {
    let SourceKind::Amqp(amqp) = &source.kind else { return vec![source] };
    let Some(SourceShard { of, .. }) = amqp.shard else { return vec![source] };
    let shard = |number: u16| {
        let shard = SourceShard { number, of, queue: amqp.queue.clone() };
        let queue = amqp.queue.replace(SHARD, &number.to_string());
        SourceConfig {
            name: SourceName::new(&format!("{}.{number}", source.name)),
            kind: SourceKind::Amqp(Box::new(AmqpSourceConfig { queue, shard: Some(shard), ..(**amqp).clone() })),
            ..source.clone()
        }
    };
    (0..of).map(shard).collect()
}

fn of_tenant(vhost: &str, tenant: &str) -> String {
    vhost.replace(TENANT, &tenant.to_lowercase())
}

fn source(key: &Key, at: &At<raw::Source>, reader: &mut Reader<'_>) -> Option<Vec<SourceConfig>> {
    let raw = &at.value;
    let legal = legal_name(reader, "source", key);
    let tenants = tenants(key, raw, reader);
    let kind = match (&raw.amqp, &raw.recording) {
        (Some(amqp), None) => self::amqp(amqp, reader).map(|amqp| SourceKind::Amqp(Box::new(amqp))),
        (None, Some(recording)) => self::recording(recording, reader).map(SourceKind::Recording),
        (Some(_), Some(recording)) => {
            reader.report(
                Diagnostic::error("two-kinds", recording.head, format!("the source `{}` has two kinds", key.text))
                    .help("make it two sources, each with its own name"),
            );
            None
        }
        (None, None) => {
            if !reader.failed_in(at.span) {
                reader.report(
                    Diagnostic::error("no-kind", key.span, format!("the source `{}` has no kind", key.text))
                        .help("add `amqp:` (a queue) or `recording:` (a file of messages) below it"),
                );
            }
            None
        }
    };
    let options = DecodeOptions {
        expects: match &raw.expects {
            Some(expects) => self::expects(expects, reader)?,
            None => ExpectedFamily::One(FAMILIES.first()?),
        },
        validation: raw.validation.as_ref().map_or(Validation::default(), |validation| validation.value.0),
        tenant: raw.tenant.as_ref().map(|tenant| self::tenant(tenant, reader)),
        max_body: usize::try_from(size(reader, raw.max_body.as_ref(), MAX_BODY, 1024..=GIB)).unwrap_or(usize::MAX),
    };
    let (tenants, kind) = (tenants?, kind?);
    let files = kind.files();
    let of = |tenant: &Arc<str>| {
        let mut kind = kind.clone();
        if let SourceKind::Amqp(amqp) = &mut kind {
            amqp.connection.vhost = amqp.connection.vhost.as_deref().map(|vhost| of_tenant(vhost, tenant));
        }
        let decode_options = DecodeOptions { tenant: Some(Arc::clone(tenant)), ..options.clone() };
        SourceConfig {
            name: SourceName::new(&format!("{}.{tenant}", key.text)),
            kind,
            decode_options,
            files: files.clone(),
        }
    };
    let each: Vec<_> = match &tenants {
        Some(tenants) => tenants.iter().map(of).collect(),
        None => vec![SourceConfig {
            name: SourceName::new(&key.text),
            kind: kind.clone(),
            decode_options: options.clone(),
            files: files.clone(),
        }],
    };
    legal.then(|| each.into_iter().flat_map(divide).collect())
}

/// The tenants with a virtual host each; `Some(None)` if the entry has none.
#[allow(clippy::option_option, reason = "the outer `None` is a reported mistake, as everywhere here")]
fn tenants(key: &Key, raw: &raw::Source, reader: &mut Reader<'_>) -> Option<Option<Vec<Arc<str>>>> {
    let vhost = raw.amqp.as_ref().and_then(|amqp| amqp.value.vhost.as_ref());
    let each = vhost.filter(|vhost| vhost.value.text.contains(TENANT));
    let Some(tenants) = &raw.tenants else {
        let Some(each) = each else { return Some(None) };
        reader.report(
            Diagnostic::error("no-tenants", each.span, "`{tenant}` in a virtual host needs a list of tenants")
                .help("list the tenants beside `amqp:`, as in `tenants: [cnes, esa]`"),
        );
        return None;
    };
    if each.is_none() || raw.tenant.is_some() {
        reader.report(
            Diagnostic::error("tenants", tenants.head, "`tenants` needs a virtual host for each tenant").help(
                "write `vhost: regards.{tenant}` under `amqp:`, and no `tenant:`; in a shared virtual host, each message names its tenant",
            ),
        );
        return None;
    }
    if tenants.value.0.is_empty() {
        let diagnostic = Diagnostic::error("empty-list", tenants.span, "there is no tenant in the list");
        reader.report(diagnostic.help("write at least one"));
    }
    let mut hosts = HashSet::new();
    for at in &tenants.value.0 {
        let tenant = &at.value.text;
        if !is_legal_name(&format!("{}.{tenant}", key.text)) {
            reader.report(
                Diagnostic::error("illegal-tenant", at.span, "this tenant can't be a part of a source's name").help(
                    "use letters, digits, `-`, `_` and `.`; for other tenants, write a source with `vhost` and `tenant`",
                ),
            );
        } else if !hosts.insert(tenant.to_lowercase()) {
            reader.report(
                Diagnostic::error("duplicate-tenant", at.span, format!("{} is listed before", reader.quote(at.span)))
                    .help("remove it: virtual hosts are named in lower case"),
            );
        }
    }
    Some(Some(tenants.value.0.iter().map(|at| at.value.text.as_str().into()).collect()))
}

fn expects(at: &At<Text>, reader: &mut Reader<'_>) -> Option<ExpectedFamily> {
    let name = at.value.text.as_str();
    if name == ExpectedFamily::AUTO || at.value.placeholder {
        return Some(ExpectedFamily::Auto);
    }
    let known = Family::named(name).map(ExpectedFamily::One);
    if known.is_none() {
        let names = || FAMILIES.iter().map(|family| family.name).chain([ExpectedFamily::AUTO]);
        let message = format!("{} is not a family of responses", reader.quote(at.span));
        reader.report(Diagnostic::error("unknown-family", at.span, message).suggest_one_of(name, names()));
    }
    known
}

fn tenant(tenant: &At<Text>, reader: &mut Reader<'_>) -> Arc<str> {
    let text = &tenant.value.text;
    if text.is_empty() || text.len() > MAX_TENANT_BYTES || text.contains(char::is_control) {
        reader.report(
            Diagnostic::error("illegal-tenant", tenant.span, "this can't be a tenant's name")
                .help(format!("write 1 to {MAX_TENANT_BYTES} bytes of text without control characters")),
        );
    }
    text.as_str().into()
}

fn amqp(at: &At<raw::AmqpSource>, reader: &mut Reader<'_>) -> Option<AmqpSourceConfig> {
    let raw = &at.value;
    let connection = broker::connection(
        &broker::RawConnection {
            url: raw.url.as_ref(),
            username: raw.username.as_ref(),
            password: raw.password.as_ref(),
            vhost: raw.vhost.as_ref(),
            auth: raw.auth.as_ref(),
            tls: raw.tls.as_ref(),
        },
        reader,
    );
    let queue = raw.queue.as_ref().and_then(|queue| short(queue, "queue", reader));
    let shards = shards(raw, reader);
    let declare = raw.declare.as_ref().map(|declare| self::declare(declare, reader));
    let active_consumer = declare.as_ref().is_some_and(single_active_consumer);
    let prefetch = number(reader, raw.prefetch.as_ref(), PREFETCH, 1..=u64::from(u16::MAX));
    Some(AmqpSourceConfig {
        connection: connection?,
        // The numbers come when the entry is divided.
        shard: shards?.map(|of| SourceShard { number: 0, of, queue: String::new() }),
        queue: queue?,
        declare,
        prefetch: u16::try_from(prefetch).unwrap_or(u16::MAX),
        // Quorum queues have no exclusive consumers; a single active consumer serves the same purpose.
        exclusive: raw.exclusive.as_ref().map_or(!active_consumer, |exclusive| exclusive.value.0),
    })
}

/// How many queues there are; `Some(None)` if there is one.
#[allow(clippy::option_option, reason = "the outer `None` is a reported mistake, as everywhere here")]
fn shards(raw: &raw::AmqpSource, reader: &mut Reader<'_>) -> Option<Option<u16>> {
    let named = raw.queue.as_ref().filter(|queue| queue.value.text.contains(SHARD));
    let (diagnostic, help) = match (&raw.shards, named) {
        (None, None) => return Some(None),
        (Some(_), Some(_)) => {
            if let Some(declare) = &raw.declare {
                reader.report(
                    Diagnostic::error("two-keys", declare.head, "several queues are not declared by the relay")
                        .help("remove `declare`; `regards-relay topology` prints the exchange, the queues and the bindings to make"),
                );
            }
            let shards = number(reader, raw.shards.as_ref(), 1, 1..=MAX_SHARDS);
            return Some(Some(u16::try_from(shards).unwrap_or(u16::MAX)));
        }
        (None, Some(queue)) => (
            Diagnostic::error("no-shards", queue.span, "`{shard}` in the name of a queue needs the number of queues"),
            "write it beside `queue`, as in `shards: 4`",
        ),
        (Some(shards), None) => (
            Diagnostic::error("no-shards", shards.span, "several queues need a name each"),
            "write `{shard}` in the name of the queue, as in `queue: \"partner.lta.{shard}\"`",
        ),
    };
    reader.report(diagnostic.help(help));
    None
}

/// Whether the declared queue has a single active consumer.
pub(super) fn single_active_consumer(declare: &DeclareQueue) -> bool {
    declare.queue.as_ref().is_some_and(|queue| {
        queue.arguments.iter().any(|(name, value)| name == SINGLE_ACTIVE_CONSUMER && *value == Argument::Bool(true))
    })
}

/// Checks a name that AMQP carries as a short string.
pub(super) fn short(at: &At<Text>, what: &str, reader: &mut Reader<'_>) -> Option<String> {
    let text = &at.value.text;
    if text.is_empty() || text.len() > MAX_SHORT_STRING {
        reader.report(
            Diagnostic::error("amqp-name", at.span, format!("this can't be the name of a {what}"))
                .help(format!("AMQP takes 1 to {MAX_SHORT_STRING} bytes")),
        );
        return None;
    }
    Some(text.clone())
}

fn declare(at: &At<raw::DeclareQueue>, reader: &mut Reader<'_>) -> DeclareQueue {
    let queue = at.value.queue.as_ref().map(|queue| self::queue(queue, reader));
    let bindings = at.value.bindings.as_ref().map_or(&[][..], |bindings| &bindings.value.0);
    let bindings = bindings.iter().filter_map(|binding| {
        let exchange = short(binding.value.exchange.as_ref()?, "exchange", reader)?;
        let routing_key = binding.value.routing_key.as_ref().map_or("", |key| key.value.text.as_str()).to_owned();
        Some(Binding { exchange, routing_key })
    });
    DeclareQueue { queue, bindings: bindings.collect() }
}

fn queue(at: &At<raw::QueueDeclaration>, reader: &mut Reader<'_>) -> QueueDeclaration {
    let kind = at.value.r#type.as_ref().map_or(QueueKind::Classic, |kind| kind.value.0);
    let raw = at.value.arguments.as_ref().map_or(&[][..], |arguments| &arguments.value.0);
    for (key, _) in raw {
        if key.text == "x-queue-type" {
            reader.report(
                Diagnostic::error("amqp-argument", key.span, "the type of a queue has a key of its own")
                    .help("write `type: classic` or `type: quorum` beside `arguments`"),
            );
        } else if key.text.is_empty() || key.text.len() > MAX_SHORT_STRING {
            reader.report(
                Diagnostic::error("amqp-argument", key.span, "this can't be the name of an argument")
                    .help(format!("AMQP takes 1 to {MAX_SHORT_STRING} bytes")),
            );
        }
    }
    let priorities = |value: &Argument| matches!(value, Argument::Integer(number) if *number > MAX_PRIORITY);
    if let Some((key, _)) = raw.iter().find(|(key, value)| key.text == PRIORITIES && priorities(&value.value.0)) {
        reader.report(
            Diagnostic::warning(
                "many-priorities",
                key.span,
                "a queue with many priorities makes RabbitMQ many times slower for each message",
            )
            .help(format!(
                "remove `{PRIORITIES}`, or write at most {MAX_PRIORITY}: with 255 RabbitMQ delivers about 430 messages a second, without priorities 9,000"
            )),
        );
    }
    let arguments: Vec<_> = raw.iter().map(|(key, value)| (key.text.clone(), value.value.0.clone())).collect();
    let declaration = QueueDeclaration { kind, arguments };
    if kind == QueueKind::Quorum
        && !single_active_consumer(&DeclareQueue { queue: Some(declaration.clone()), bindings: Vec::new() })
    {
        reader.report(
            Diagnostic::warning(
                "quorum-queue",
                at.head,
                "a quorum queue has no exclusive consumer: two relays would share it, and break the order",
            )
            .help("add `arguments: { x-single-active-consumer: true }`"),
        );
    }
    declaration
}

fn recording(at: &At<raw::Recording>, reader: &mut Reader<'_>) -> Option<RecordingConfig> {
    let path = at.value.path.as_ref().map(|path| read_path(reader, path));
    let repeat = number(reader, at.value.repeat.as_ref(), 1, 1..=u64::from(u32::MAX));
    Some(RecordingConfig { path: path?, repeat: u32::try_from(repeat).unwrap_or(u32::MAX) })
}

/// The families of one source; all of them if the named one is unknown.
pub(super) fn families_of(source: &raw::Source) -> Vec<&'static Family> {
    let Some(expects) = &source.expects else { return FAMILIES.iter().take(1).collect() };
    Family::named(&expects.value.text).map_or_else(|| FAMILIES.iter().collect(), |family| vec![family])
}
