//! Checks the raw values, sets defaults, and builds the [`Config`].
//!
//! A part that can't be built is `None`, and its mistake is recorded. The rest is still checked, so that one run reports
//! all mistakes.

mod alerts;
mod broker;
mod common;
mod consistency;
mod expression;
mod format;
mod group;
mod headers;
mod kafka;
mod kafka_options;
mod kerberos;
mod oauth2;
mod overlap;
mod postgres;
mod registry;
mod routes;
mod sasl;
mod schema_file;
mod sink;
mod source;
mod spool;
mod tls;
mod transform;
mod unmatched;
mod webhook;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use self::common::{DAY, GIB, HOUR, MIB, SECOND, period, size, unknown_name};
use self::transform::Transforms;
use super::files::NamedFiles;
use super::model::{AdminConfig, Config, DeadLettersConfig, DeliveryConfig, JournalConfig, JournalStoreConfig};
use super::raw;
use super::text::decode::{self, At, NoneOr};
use super::text::diagnostic::Diagnostic;
use super::text::reader::Reader;
use super::text::tree::{Kind, Node};
use super::text::words::clean;
use crate::rules::SinkName;

pub use self::webhook::RESERVED_WEBHOOK_HEADERS;

/// The supported version of the configuration's format.
const VERSION: u64 = 1;
/// The longest `name:`, in bytes: it is a part of connection names and headers.
const MAX_RELAY_NAME: usize = 200;
/// The default address of the HTTP listener.
const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9464);

/// Checks a whole file and builds its configuration.
pub(super) fn config(tree: &Node, reader: &mut Reader<'_>) -> Option<Config> {
    if !is_known_version(tree, reader) {
        return None;
    }
    let root: At<raw::Root> = decode::at(tree, reader)?;
    let raw = &root.value;
    let name = relay_name(raw, reader);
    let data_dir = reader.options.data_dir();
    let spool = spool::spool(raw.spool.as_ref(), &data_dir, reader);
    let sources = raw.sources.as_ref().map(|sources| source::sources(sources, reader));
    let copies_to = raw.copies_to();
    let transforms = Transforms::of(raw, reader);
    let context = sink::SinkContext {
        relay: name.as_deref(),
        data_dir: &data_dir,
        spool: spool.as_ref().and_then(|spool| spool.store.file()),
        copies_to,
        transforms: &transforms,
    };
    let sinks = raw.sinks.as_ref().map(|sinks| sink::sinks(sinks, &context, reader));
    let rules = routes::rules(raw, &transforms, reader);
    let alerts = alerts::alerts(raw, reader);
    let dead_letters = dead_letters(raw, reader);
    let journal =
        spool.as_ref().and_then(|spool| journal(raw.journal.as_ref(), spool.store.journal(&data_dir), reader));
    let delivery = delivery(raw.delivery.as_ref(), reader);
    let admin = admin(raw.admin.as_ref(), reader);
    consistency::check(raw, rules.as_ref(), alerts.as_deref(), reader);
    raw.version.as_ref()?;
    let (name, sources, sinks, rules, alerts, spool) = (name?, sources??, sinks??, Arc::new(rules?), alerts?, spool?);
    let files = NamedFiles::read(reader.files.iter().map(PathBuf::as_path));
    let hash = xxh3_64(reader.text.as_bytes());
    Some(Config {
        hash,
        name,
        sources,
        sinks,
        rules,
        alerts,
        spool,
        dead_letters,
        journal,
        delivery,
        admin,
        data_dir,
        files,
    })
}

/// Whether the file has a supported version. Another version has other keys, so nothing else of it is checked.
fn is_known_version(tree: &Node, reader: &mut Reader<'_>) -> bool {
    let Kind::Mapping(entries) = &tree.kind else { return true };
    let Some((_, node)) = entries.iter().find(|(key, _)| key.text == "version") else { return true };
    let Kind::Scalar(scalar) = &node.kind else { return true };
    let known = scalar.text.parse::<u64>().ok().is_none_or(|version| version == VERSION);
    if !known {
        let message = format!("version {} is not supported", clean(&scalar.text));
        reader.report(
            Diagnostic::error("version", node.span, message)
                .help(format!("write `version: {VERSION}`, or use a regards-relay that supports it")),
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

fn dead_letters(root: &raw::Root, reader: &mut Reader<'_>) -> DeadLettersConfig {
    let raw = root.dead_letters.as_ref().map(|raw| &raw.value);
    let to = raw.and_then(|raw| raw.to.as_ref());
    if let (Some(to), Some(sinks)) = (to, &root.sinks) {
        let names = sinks.value.0.iter().map(|(key, _)| key.text.as_str());
        if !to.value.placeholder && !names.clone().any(|name| name == to.value.text) {
            unknown_name(reader, "unknown-sink", "sink", to, names);
        }
    }
    DeadLettersConfig {
        keep: raw.and_then(|raw| raw.keep.as_ref()).and_then(|keep| keep.value.0.value()),
        max_size: size(reader, raw.and_then(|raw| raw.max_size.as_ref()), 2 * GIB, MIB..=1024 * GIB),
        to: to.map(|to| SinkName::new(&to.value.text)),
    }
}

fn journal(
    raw: Option<&At<NoneOr<raw::Journal>>>,
    store: JournalStoreConfig,
    reader: &mut Reader<'_>,
) -> Option<JournalConfig> {
    let raw = match raw.map(|raw| &raw.value) {
        Some(NoneOr::None) => return None,
        Some(NoneOr::Some(raw)) => Some(raw),
        None => None,
    };
    Some(JournalConfig {
        store,
        keep: period(reader, raw.and_then(|raw| raw.keep.as_ref()), 7 * DAY, SECOND..=3_650 * DAY),
        max_size: size(reader, raw.and_then(|raw| raw.max_size.as_ref()), GIB, 64 * MIB..=1024 * GIB),
        bodies: raw.and_then(|raw| raw.bodies.as_ref()).is_none_or(|at| at.value.0),
    })
}

fn delivery(raw: Option<&At<raw::Delivery>>, reader: &mut Reader<'_>) -> DeliveryConfig {
    let raw = raw.map(|raw| &raw.value);
    DeliveryConfig {
        spill_after: period(
            reader,
            raw.and_then(|raw| raw.spill_after.as_ref()),
            2 * SECOND,
            Duration::from_millis(10)..=HOUR,
        ),
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
