//! Checks across several entries of the file: each is valid by itself, but not together.

use std::collections::HashSet;

use super::alerts;
use super::broker::{self, VirtualHost};
use super::overlap::{self, Overlap, StepBudget};
use super::routes::fields_of;
use super::source::{self, families_of};
use super::unmatched;
use crate::config::model::{Argument, OrderBy};
use crate::config::raw;
use crate::config::text::decode::{At, OneOrMany};
use crate::config::text::diagnostic::Diagnostic;
use crate::config::text::reader::Reader;
use crate::config::text::scalar::Text;
use crate::event::{Expression, FAMILIES, Family, Outcome, REGARDS_EXCHANGES};
use crate::rules::{Alert, Field, Glob, Rules};

/// The beginning of the classes of REGARDS' responses. Messages in their exchanges are treated as responses.
const REGARDS_MODULES: &str = "fr.cnes.regards.modules.";
/// The exchange and the queue of REGARDS' own dead letters. Only REGARDS may publish there.
const REGARDS_DEAD_LETTERS: [&str; 2] = ["regards.DLX", "regards.DLQ"];

/// PostgreSQL cuts longer names than 63 bytes.
const MAX_SCHEMA_WITH_SHARDS: usize = 63 - "_shard_99999".len();

pub(super) fn check(raw: &raw::Root, rules: Option<&Rules>, alerts: Option<&[Alert]>, reader: &mut Reader<'_>) {
    shared_sources(raw, reader);
    shards(raw, reader);
    loops(raw, reader);
    patterns(raw, reader);
    if let Some(alerts) = alerts {
        alerts::check_overdue(raw, alerts, &families(raw), reader);
    }
    if let (Some(rules), Some(routes)) = (rules, &raw.routes) {
        unused_sinks(raw, reader);
        let overlap = Overlap::of(&families(raw));
        let weights: Vec<usize> = rules.routes().iter().map(|route| overlap::weight(&route.when)).collect();
        let steps = || StepBudget::new(&weights);
        contradictions(&routes.value.0, rules, &overlap, reader, &mut steps());
        hidden_routes(&routes.value.0, rules, reader, &mut steps());
        sinks_of_several(&routes.value.0, rules, &overlap, reader, &mut steps());
        unmatched::check(raw, rules, &overlap, reader, &mut steps());
    }
}

/// The families of all sources; all families if there are no sources.
fn families(raw: &raw::Root) -> Vec<&'static Family> {
    let sources = raw.sources.iter().flat_map(|sources| &sources.value.0);
    let expected: Vec<_> = sources.flat_map(|(_, source)| families_of(&source.value)).collect();
    FAMILIES.iter().filter(|family| expected.is_empty() || expected.contains(family)).collect()
}

/// Whether the family of each source is known.
fn named_families(raw: &raw::Root) -> bool {
    let mut sources = raw.sources.iter().flat_map(|sources| &sources.value.0);
    sources
        .all(|(_, source)| source.value.expects.as_ref().is_none_or(|name| Family::named(&name.value.text).is_some()))
}

fn amqp_sources(raw: &raw::Root) -> impl Iterator<Item = &raw::AmqpSource> {
    let sources = raw.sources.iter().flat_map(|sources| &sources.value.0);
    sources.filter_map(|(_, source)| source.value.amqp.as_ref()).map(|amqp| &amqp.value)
}

/// Reports sources that share their queue with another consumer although sinks need the order.
fn shared_sources(raw: &raw::Root, reader: &mut Reader<'_>) {
    let ordered: Vec<&str> = raw
        .sinks
        .iter()
        .flat_map(|sinks| &sinks.value.0)
        .filter(|(key, _)| raw.copies_to() != Some(key.text.as_str()))
        .filter(|(_, sink)| !matches!(&sink.value.order_by, Some(order_by) if order_by.value.0 == OrderBy::None))
        .map(|(key, _)| key.text.as_str())
        .collect();
    for amqp in amqp_sources(raw) {
        let Some(exclusive) = amqp.exclusive.as_ref().filter(|exclusive| !exclusive.value.0) else { continue };
        let one_at_a_time = amqp.declare.as_ref().is_some_and(|declare| {
            let queue = declare.value.queue.as_ref();
            let arguments = queue.and_then(|queue| queue.value.arguments.as_ref());
            arguments.is_some_and(|arguments| {
                arguments.value.0.iter().any(|(key, value)| {
                    key.text == source::SINGLE_ACTIVE_CONSUMER && value.value.0 == Argument::Bool(true)
                })
            })
        });
        if let (Some(first), false) = (ordered.first(), one_at_a_time) {
            let message = "two relays that share a queue break the order that sinks ask for";
            reader.report(Diagnostic::error("shared-order", exclusive.span, message).help(format!(
                "remove `exclusive: false` (a second relay then stands by), or write `order_by: none` on every sink, as on `{first}`",
            )));
        }
    }
}

/// Reports sources with several queues that have no spool which several relays can reach, and too many of them.
fn shards(raw: &raw::Root, reader: &mut Reader<'_>) {
    let Some(first) = amqp_sources(raw).find_map(|amqp| amqp.shards.as_ref()) else { return };
    let Some(postgres) = raw.spool.as_ref().and_then(|spool| spool.value.postgres.as_ref()) else {
        let message = "several queues are shared out by a spool in PostgreSQL, and this one is in a file";
        reader.report(
            Diagnostic::error("shards", first.span, message)
                .help("write `spool: { postgres: { url: … } }`, or remove `shards` and consume one queue"),
        );
        return;
    };
    let sources = raw.sources.iter().flat_map(|sources| &sources.value.0);
    let divided =
        sources.filter(|(_, source)| source.value.amqp.as_ref().is_some_and(|amqp| amqp.value.shards.is_some()));
    let count: usize = divided.map(|(key, source)| source::expand(&key.text, &source.value).len()).sum();
    if u64::try_from(count).is_ok_and(|count| count > source::MAX_SHARDS) {
        let message = format!("all sources together have {count} shards, more than {}", source::MAX_SHARDS);
        reader.report(
            Diagnostic::error("shards", first.span, message)
                .help("write fewer, or split the sources between several spools"),
        );
    }
    if let Some(schema) = &postgres.value.schema
        && schema.value.text.len() > MAX_SCHEMA_WITH_SHARDS
    {
        let message = format!("with `shards`, this name may have at most {MAX_SCHEMA_WITH_SHARDS} bytes");
        let help = "shorten it: each shard has a schema whose name is this one and `_shard_NUMBER`";
        reader.report(Diagnostic::error("illegal-schema", schema.span, message).help(help));
    }
}

/// Reports AMQP sinks whose messages a source would receive again.
fn loops(raw: &raw::Root, reader: &mut Reader<'_>) {
    let named = raw.sources.iter().flat_map(|sources| &sources.value.0);
    let sources: Vec<(Vec<VirtualHost>, &raw::AmqpSource)> = named
        .filter_map(|(key, source)| {
            let amqp = &source.value.amqp.as_ref()?.value;
            let each = source::expand(&key.text, &source.value).into_iter();
            Some((
                each.flat_map(|(_, vhost)| broker::virtual_hosts(amqp.url.as_ref(), vhost.as_deref())).collect(),
                amqp,
            ))
        })
        .collect();
    let sinks = raw.sinks.iter().flat_map(|sinks| &sinks.value.0).filter_map(|(_, sink)| sink.value.amqp.as_ref());
    for sink in sinks {
        let Some(exchange) = &sink.value.exchange else { continue };
        let name = exchange.value.text.as_str();
        let vhost = sink.value.vhost.as_ref().map(|vhost| vhost.value.text.as_str());
        let places = broker::virtual_hosts(sink.value.url.as_ref(), vhost);
        for (_, source) in sources.iter().filter(|(from, _)| from.iter().any(|place| places.contains(place))) {
            let bindings = source.declare.iter().filter_map(|declare| declare.value.bindings.as_ref());
            let mut bound = bindings.flat_map(|bindings| &bindings.value.0);
            let comes_back = bound.any(|binding| {
                binding.value.exchange.as_ref().is_some_and(|bound| bound.value.text == name)
            }) || name.starts_with(&format!("{REGARDS_EXCHANGES}{REGARDS_MODULES}"))
                // The default exchange delivers to the queue named by the routing key.
                || (name.is_empty()
                    && source.queue.as_ref().map(|queue| queue.value.text.as_str())
                        == sink.value.routing_key.as_ref().map(|key| key.value.text.as_str()));
            if comes_back {
                reader.report(
                    Diagnostic::error("loop", exchange.span, "a source consumes what is published here")
                        .label("every event would be received again")
                        .help("publish to an exchange of your own"),
                );
                break;
            }
            if REGARDS_DEAD_LETTERS.contains(&name) {
                reader.report(
                    Diagnostic::error(
                        "regards-dead-letters",
                        exchange.span,
                        "this is where REGARDS keeps its own dead letters",
                    )
                    .help("publish to an exchange of your own"),
                );
                break;
            }
        }
    }
}

/// Reports patterns and comparisons in routes that no event can match.
fn patterns(raw: &raw::Root, reader: &mut Reader<'_>) {
    let families = families(raw);
    let statuses: Vec<&str> = families.iter().flat_map(|family| family.statuses).map(|(status, _)| *status).collect();
    let types: Vec<&str> = families.iter().map(|family| family.kind).collect();
    // Routes may be written for more sources than this file has. A status that no family has is a mistake.
    let known = named_families(raw);
    let is_no_status = |glob: &Glob| {
        let mut words = FAMILIES.iter().flat_map(|family| family.statuses).map(|(status, _)| *status);
        known && !words.any(|word| glob.matches(word))
    };
    let sources: Option<Vec<String>> = raw.sources.as_ref().map(|sources| {
        let each = sources.value.0.iter().flat_map(|(key, source)| source::expand(&key.text, &source.value));
        each.map(|(name, _)| name).collect()
    });
    let sources: Option<Vec<&str>> = sources.as_ref().map(|sources| sources.iter().map(String::as_str).collect());
    let routes = raw.routes.iter().flat_map(|routes| &routes.value.0);
    let alerts = raw.alerts.iter().flat_map(|alerts| &alerts.value.0);
    let overdue = alerts.filter_map(|alert| alert.value.overdue.as_ref()?.value.when.as_ref());
    let mut blocks: Vec<&raw::When> =
        routes.filter_map(|route| route.value.when.as_ref()).chain(overdue).map(|when| &when.value).collect();
    while let Some(when) = blocks.pop() {
        blocks.extend(when.not.iter().flat_map(|not| &not.value.0).map(|block| &block.value));
        if let Some(at) = &when.r#if {
            check_comparisons(at, &[("status", &statuses), ("outcome", Outcome::NAMES), ("type", &types)], reader);
        }
        for (field, patterns) in fields_of(when) {
            match field {
                Field::Outcome => check_patterns(patterns, "outcome", Outcome::NAMES, &|_| true, reader),
                Field::Status => check_patterns(patterns, "status", &statuses, &is_no_status, reader),
                Field::Type => check_patterns(patterns, "type", &types, &|_| false, reader),
                Field::Source => {
                    if let Some(sources) = &sources {
                        check_patterns(patterns, "source", sources, &|_| false, reader);
                    }
                }
                _ => {}
            }
        }
    }
}

/// Warns of values in an `if:` that those fields never have.
fn check_comparisons(at: &At<Text>, fields: &[(&str, &[&str])], reader: &mut Reader<'_>) {
    if at.value.inserted || reader.is_full() {
        return;
    }
    let comparisons = Expression::condition(&at.value.text).map(|checked| checked.comparisons).unwrap_or_default();
    for (name, text) in comparisons {
        let Some((what, words)) =
            fields.iter().find(|(field, words)| *field == name && !words.contains(&text.as_str()))
        else {
            continue;
        };
        let message = format!("no event has the {what} `{text}`");
        let span = reader.word_in(at.span, &text);
        let diagnostic = Diagnostic::warning("never-matches", span, message);
        reader.report(diagnostic.suggest_one_of(&text, words.iter().copied()));
    }
}

/// Reports patterns that match none of the words: an error if it is a mistake for certain (`is_mistake`), else a warning.
fn check_patterns(
    patterns: &At<OneOrMany<Text>>,
    what: &str,
    words: &[&str],
    is_mistake: &dyn Fn(&Glob) -> bool,
    reader: &mut Reader<'_>,
) {
    for pattern in &patterns.value.0 {
        let glob = Glob::new(&pattern.value.text);
        if pattern.value.placeholder || words.iter().any(|word| glob.matches(word)) || reader.is_full() {
            continue;
        }
        let message = format!("no event has the {what} {}", reader.quote(pattern.span));
        let diagnostic = if is_mistake(&glob) {
            Diagnostic::error("never-matches", pattern.span, message)
        } else {
            Diagnostic::warning("never-matches", pattern.span, message)
        };
        reader.report(diagnostic.suggest_one_of(&pattern.value.text, words.iter().copied()));
    }
}

/// Warns of sinks that no route names.
fn unused_sinks(raw: &raw::Root, reader: &mut Reader<'_>) {
    let (Some(sinks), Some(routes), Some(unrouted)) = (&raw.sinks, &raw.routes, &raw.unrouted) else { return };
    let named: HashSet<&str> = routes
        .value
        .0
        .iter()
        .filter_map(|route| route.value.to.as_ref())
        .chain(raw.alerts.iter().flat_map(|alerts| &alerts.value.0).filter_map(|alert| alert.value.to.as_ref()))
        .flat_map(|to| &to.value.0)
        .chain(&unrouted.value.0)
        .map(|name| name.value.text.as_str())
        .chain(raw.copies_to())
        .collect();
    for (key, _) in sinks.value.0.iter().filter(|(key, _)| !named.contains(key.text.as_str())) {
        reader.report(
            Diagnostic::warning("unused-sink", key.span, format!("no route leads to the sink `{}`", key.text))
                .help("name it in the `to:` of a route or an alert, or remove it"),
        );
    }
}

/// Warns of routes whose conditions exclude each other.
fn contradictions(
    raw: &[At<raw::Route>],
    rules: &Rules,
    overlap: &Overlap,
    reader: &mut Reader<'_>,
    steps: &mut StepBudget<'_>,
) {
    for (at, (route, raw)) in rules.routes().iter().zip(raw).enumerate() {
        if !steps.spend(at, at) {
            return;
        }
        if overlap.contradicts_itself(&route.when) {
            let span = raw.value.when.as_ref().map_or(raw.head, |when| when.span);
            reader.report(
                Diagnostic::warning(
                    "contradiction",
                    span,
                    "no event matches this route: its conditions exclude each other",
                )
                .help("`type`, `status` and `outcome` have to be possible together, and `not:` must not exclude everything"),
            );
        }
    }
}

/// Warns of routes whose events all stop at an earlier final route.
fn hidden_routes(raw: &[At<raw::Route>], rules: &Rules, reader: &mut Reader<'_>, steps: &mut StepBudget<'_>) {
    let finals: Vec<usize> =
        (0..rules.routes().len()).filter(|&at| rules.routes().get(at).is_some_and(|route| route.is_final)).collect();
    for (at, (route, raw)) in rules.routes().iter().zip(raw).enumerate() {
        for stop in finals.iter().copied().take_while(|&stop| stop < at) {
            if !steps.spend(at, stop) {
                return;
            }
            let Some(earlier) = rules.routes().get(stop) else { continue };
            if overlap::implies(&route.when, &earlier.when) {
                let message =
                    format!("no event reaches this route: all events that it matches stop at `{}`", earlier.name);
                reader.report(
                    Diagnostic::warning("hidden-route", raw.head, message)
                        .help(format!("move this route above `{0}`, or remove `final: true` from `{0}`", earlier.name)),
                );
                break;
            }
        }
    }
}

/// Warns of sinks in several routes that can match the same event: the sink gets it once, by the first of them.
fn sinks_of_several(
    raw: &[At<raw::Route>],
    rules: &Rules,
    overlap: &Overlap,
    reader: &mut Reader<'_>,
    steps: &mut StepBudget<'_>,
) {
    let mut naming: Vec<Vec<usize>> = Vec::new();
    for (at, route) in rules.routes().iter().enumerate() {
        for sink in &route.to {
            if naming.len() <= sink.0 {
                naming.resize(sink.0 + 1, Vec::new());
            }
            let Some(earlier) = naming.get_mut(sink.0) else { continue };
            for &place in earlier.iter() {
                if !steps.spend(at, place) {
                    return;
                }
                let Some(other) = rules.routes().get(place).filter(|other| !other.is_final) else { continue };
                if !overlap.disjoint(&route.when, &other.when) {
                    let place = raw.get(at).and_then(|raw| raw.value.to.as_ref());
                    if let Some(place) = place {
                        let message = format!(
                            "an event that `{}` matches as well goes to this sink once, by that route",
                            other.name
                        );
                        reader.report(
                            Diagnostic::warning("sink-of-several", place.span, message)
                                .help(format!("remove the sink here, or make the two routes exclude each other (`not:`, or `final: true` on `{}`)", other.name)),
                        );
                    }
                    break;
                }
            }
            earlier.push(at);
        }
    }
}
