//! The keys `routes:` and `unrouted:`.

use std::collections::{HashMap, HashSet};

use super::common::{MAX_NAME, unknown_name};
use super::expression;
use super::transform::Transforms;
use crate::config::raw::{self, When};
use crate::config::text::decode::{At, List, OneOrMany};
use crate::config::text::diagnostic::Diagnostic;
use crate::config::text::reader::Reader;
use crate::config::text::scalar::Text;
use crate::config::text::tree::Span;
use crate::event::{Expression, Transform};
use crate::rules::{Condition, Field, Glob, Route, RouteName, Rules, SinkIndex, Unrouted};

/// The longest pattern, in bytes: the time of a match grows with it.
const MAX_PATTERN: usize = 1024;

pub(super) fn rules(raw: &raw::Root, transforms: &Transforms<'_>, reader: &mut Reader<'_>) -> Option<Rules> {
    let sinks = Sinks::of(raw);
    let routes = raw.routes.as_ref().map(|routes| self::routes(routes, &sinks, transforms, reader));
    let unrouted = raw.unrouted.as_ref().map(|unrouted| self::unrouted(unrouted, &sinks, reader));
    Some(Rules::new(routes??, unrouted??))
}

/// The sinks that routes can name.
pub(super) struct Sinks<'a> {
    names: Vec<&'a str>,
    index: HashMap<&'a str, SinkIndex>,
    /// Whether `sinks:` could be decoded.
    known: bool,
    /// The sink that gets copies of dead letters, and nothing else.
    copies_to: Option<&'a str>,
}

impl<'a> Sinks<'a> {
    pub fn of(raw: &'a raw::Root) -> Self {
        let entries = raw.sinks.as_ref().map_or(&[][..], |sinks| &sinks.value.0);
        let names: Vec<&str> = entries.iter().map(|(key, _)| key.text.as_str()).collect();
        let index = names.iter().enumerate().map(|(at, name)| (*name, SinkIndex(at))).collect();
        Self { names, index, known: raw.sinks.is_some(), copies_to: raw.copies_to() }
    }

    /// The indexes of the named sinks.
    pub fn find(&self, named: &[At<Text>], reader: &mut Reader<'_>) -> Option<Vec<SinkIndex>> {
        let mut found: Vec<SinkIndex> = Vec::new();
        let mut seen: HashSet<SinkIndex> = HashSet::new();
        let mut all = true;
        for at in named {
            if self.copies_to == Some(at.value.text.as_str()) {
                let message = format!("{} is the sink that dead letters are copied to", reader.quote(at.span));
                reader.report(Diagnostic::error("dead-letter-sink", at.span, message).help(
                    "name another sink here, or in `dead_letters.to`: the sink of dead letters gets nothing else",
                ));
                continue;
            }
            match self.index.get(at.value.text.as_str()) {
                Some(index) if !seen.insert(*index) => reader.report(
                    Diagnostic::warning("sink-twice", at.span, format!("{} is named twice", reader.quote(at.span)))
                        .help("once is enough: each sink gets an event once"),
                ),
                Some(index) => found.push(*index),
                // The mistakes in `sinks:` and unset variables are reported already.
                None if !self.known || at.value.placeholder => {}
                None => {
                    all = false;
                    unknown_name(reader, "unknown-sink", "sink", at, self.names.iter().copied());
                }
            }
        }
        all.then_some(found)
    }
}

fn routes(
    routes: &At<List<raw::Route>>,
    sinks: &Sinks<'_>,
    transforms: &Transforms<'_>,
    reader: &mut Reader<'_>,
) -> Option<Vec<Route>> {
    let mut names: HashMap<&str, Span> = HashMap::new();
    let mut all = Vec::new();
    for (place, at) in routes.value.0.iter().enumerate() {
        if let Some(name) = &at.value.name
            && let Some(first) = names.insert(&name.value.text, name.span)
        {
            let message = format!("there are two routes named {}", reader.quote(name.span));
            reader.report(
                Diagnostic::error("duplicate-route", name.span, message)
                    .also(first, "first here")
                    .help("give each route its own name: metrics and `explain` show it"),
            );
        }
        all.push(route(at, sinks, transforms.of_route(place), reader));
    }
    // All routes are checked, also after a wrong one.
    all.into_iter().collect()
}

fn route(
    at: &At<raw::Route>,
    sinks: &Sinks<'_>,
    transform: Option<&Transform>,
    reader: &mut Reader<'_>,
) -> Option<Route> {
    let raw = &at.value;
    let name = raw.name.as_ref().and_then(|name| route_name(name, reader));
    let when = match &raw.when {
        Some(when) => condition(when, reader),
        None => Some(Condition::default()),
    };
    let to = raw.to.as_ref().and_then(|to| sinks.find(&to.value.0, reader));
    // Without the wrong key the route would match other events, and further checks would mislead.
    if reader.lacks_value_in(at.span) {
        return None;
    }
    Some(Route {
        name: name?,
        when: when?,
        to: to?,
        transform: transform.cloned(),
        is_final: raw.r#final.as_ref().is_some_and(|is_final| is_final.value.0),
    })
}

fn route_name(name: &At<Text>, reader: &mut Reader<'_>) -> Option<RouteName> {
    let text = &name.value.text;
    if text.trim().is_empty() || text.len() > MAX_NAME || text.contains(char::is_control) {
        reader.report(
            Diagnostic::error(
                "illegal-name",
                name.span,
                format!("{} can't be the name of a route", reader.quote(name.span)),
            )
            .help(format!("write 1 to {MAX_NAME} bytes of text on one line")),
        );
        return None;
    }
    Some(RouteName::new(text))
}

pub(super) fn condition(at: &At<raw::When>, reader: &mut Reader<'_>) -> Option<Condition> {
    let raw = &at.value;
    let expression = raw.r#if.as_ref().map(|at| expression::compile(at, Expression::condition, reader));
    let mut fields = Vec::new();
    for (field, patterns) in fields_of(raw) {
        if patterns.value.0.is_empty() {
            reader.report(
                Diagnostic::error("empty-list", patterns.span, "an empty list matches nothing")
                    .help("remove the field to match everything"),
            );
        }
        let globs = patterns.value.0.iter().map(|pattern| glob(pattern, reader)).collect();
        fields.push((field, globs));
    }
    let not = raw.not.as_ref().map_or(&[][..], |not| &not.value.0);
    let blocks: Vec<_> = not
        .iter()
        .map(|block| {
            let When { r#if, not, .. } = &block.value;
            let is_empty = fields_of(&block.value).next().is_none() && not.is_none() && r#if.is_none();
            if is_empty && !reader.failed_in(block.span) {
                reader.report(
                    Diagnostic::error(
                        "empty-not",
                        block.head,
                        "this `not` has no field in it: nothing would ever match",
                    )
                    .help("write what must not match, as in `not: { session: \"test-*\" }`"),
                );
            }
            condition(block, reader)
        })
        .collect();
    let not = blocks.into_iter().collect::<Option<_>>()?;
    let expression = match expression {
        Some(expression) => Some(expression?),
        None => None,
    };
    Some(Condition { fields, not, expression })
}

/// The given fields with their patterns, in the order of the documentation.
pub(super) fn fields_of(raw: &raw::When) -> impl Iterator<Item = (Field, &At<OneOrMany<Text>>)> {
    [
        (Field::Tenant, &raw.tenant),
        (Field::Status, &raw.status),
        (Field::Outcome, &raw.outcome),
        (Field::Type, &raw.r#type),
        (Field::Source, &raw.source),
        (Field::Session, &raw.session),
        (Field::ProductId, &raw.productId),
        (Field::CorrelationId, &raw.correlationId),
    ]
    .into_iter()
    .filter_map(|(field, given)| Some((field, given.as_ref()?)))
}

fn glob(at: &At<Text>, reader: &mut Reader<'_>) -> Glob {
    // An empty pattern matches nothing, and in a `not:` excludes nothing.
    if at.value.text.is_empty() && !at.value.placeholder {
        let message = if at.value.inserted {
            "the value of `${…}` is empty, and matches no event"
        } else {
            "an empty text matches no event"
        };
        reader.report(
            Diagnostic::error("empty-pattern", at.span, message)
                .help("write a value, or remove the key to match all events; `if: \"session == null\"` matches events without one"),
        );
    }
    if at.value.text.len() > MAX_PATTERN {
        reader.report(
            Diagnostic::error("long-pattern", at.span, format!("a pattern is at most {MAX_PATTERN} bytes long"))
                .help("shorten it with `*`"),
        );
    }
    Glob::new(&at.value.text)
}

fn unrouted(at: &At<OneOrMany<Text>>, sinks: &Sinks<'_>, reader: &mut Reader<'_>) -> Option<Unrouted> {
    if let [one] = at.value.0.as_slice() {
        match one.value.text.as_str() {
            "drop" => return Some(Unrouted::Drop),
            "dead_letter" => return Some(Unrouted::DeadLetter),
            _ if one.value.placeholder => return Some(Unrouted::DeadLetter),
            text if !sinks.index.contains_key(text) && sinks.known => {
                let words = ["drop", "dead_letter"].into_iter().chain(sinks.names.iter().copied());
                unknown_name(reader, "unknown-sink", "sink", one, words);
                return None;
            }
            _ => {}
        }
    }
    if at.value.0.is_empty() {
        reader.report(
            Diagnostic::error(
                "empty-list",
                at.span,
                "`unrouted` is empty: it has to say what happens to events that no route matches",
            )
            .help("write `drop` (they are counted), `dead_letter`, or names of sinks"),
        );
        return None;
    }
    sinks.find(&at.value.0, reader).map(Unrouted::Sinks)
}
