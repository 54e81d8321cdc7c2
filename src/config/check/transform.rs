//! The key `transform:` of routes, and the fields that the sinks see after them.

use std::collections::HashMap;
use std::sync::Arc;

use super::expression;
use crate::config::raw;
use crate::config::text::decode::{At, List, NamedEntries, OneOrMany};
use crate::config::text::diagnostic::Diagnostic;
use crate::config::text::reader::Reader;
use crate::config::text::scalar::Text;
use crate::config::text::tree::{Key, Span};
use crate::config::values::SetValue;
use crate::event::{
    EventSchema, Expression, FieldValue, Fields, Step, StepError, Transform, alert_fields, event_fields, merge_fields,
};

/// The longest name of a field, in bytes.
const MAX_FIELD: usize = 100;
/// Names in templates that are no fields of the event. A field can't have one of them.
const RESERVED: [&str; 2] = ["headers", "properties"];

/// The transforms of all routes.
#[derive(Default)]
pub(super) struct Transforms<'a> {
    /// The transform of each route, in the order of the routes.
    of_routes: Vec<Option<Transform>>,
    /// The events that come to each sink, by its name.
    incoming: HashMap<&'a str, IncomingFields>,
}

/// The events that come to one sink.
#[derive(Default)]
struct IncomingFields {
    /// The fields of the events of each route to the sink.
    fields: Vec<Fields>,
    /// Whether one of the routes has a transform.
    transformed: bool,
    /// Whether alerts that are about no request come to it, too.
    has_alerts: bool,
}

impl<'a> Transforms<'a> {
    pub fn of(raw: &'a raw::Root, reader: &mut Reader<'_>) -> Self {
        let mut all = Self::default();
        let events = event_fields();
        for route in raw.routes.iter().flat_map(|routes| &routes.value.0) {
            let raw::Route { to, transform: steps, .. } = &route.value;
            let (transform, fields) = steps.as_ref().and_then(|steps| transform(steps, reader)).unzip();
            for sink in to.iter().flat_map(|to| &to.value.0) {
                let incoming = all.incoming.entry(sink.value.text.as_str()).or_default();
                incoming.transformed |= transform.is_some();
                incoming.fields.push(fields.as_ref().unwrap_or(&events).clone());
            }
            all.of_routes.push(transform);
        }
        for sink in raw.unrouted.iter().flat_map(|unrouted| &unrouted.value.0) {
            all.incoming.entry(sink.value.text.as_str()).or_default().fields.push(events.clone());
        }
        for alert in raw.alerts.iter().flat_map(|alerts| &alerts.value.0) {
            let is_about_requests = alert.value.overdue.is_some();
            for sink in alert.value.to.iter().flat_map(|to| &to.value.0) {
                let incoming = all.incoming.entry(sink.value.text.as_str()).or_default();
                incoming.has_alerts |= !is_about_requests;
                incoming.fields.push(if is_about_requests { events.clone() } else { alert_fields() });
            }
        }
        all
    }

    /// The transform of the route with that index.
    pub fn of_route(&self, place: usize) -> Option<&Transform> {
        self.of_routes.get(place)?.as_ref()
    }

    /// The names that the sink's templates may use.
    pub fn schema(&self, sink: &str) -> EventSchema {
        match self.incoming.get(sink) {
            Some(incoming) if incoming.transformed => {
                EventSchema::Transformed(Arc::new(merge_fields(&incoming.fields)))
            }
            Some(incoming) if incoming.has_alerts => EventSchema::EventOrAlert,
            _ => EventSchema::Event,
        }
    }
}

fn transform(steps: &At<List<raw::Step>>, reader: &mut Reader<'_>) -> Option<(Transform, Fields)> {
    let mut made = Vec::new();
    for at in &steps.value.0 {
        let raw::Step { set, remove, rename } = &at.value;
        let given = [set.is_some(), remove.is_some(), rename.is_some()].into_iter().filter(|given| *given).count();
        if given != 1 && !reader.failed_in(at.span) {
            let message = if given == 0 { "this step changes nothing" } else { "a step makes one change" };
            reader.report(Diagnostic::error("transform-step", at.span, message).help(
                "write a list of `{ set: … }`, `{ remove: … }` and `{ rename: … }`: they are applied in that order",
            ));
        }
        made.extend(sets(set.as_ref(), reader));
        made.extend(removes(remove.as_ref()));
        made.extend(renames(rename.as_ref(), reader));
    }
    // Failed steps keep their places, so that mistakes in later steps are reported too.
    let (places, made): (Vec<_>, Vec<_>) = made.into_iter().unzip();
    match Transform::new(made.clone()) {
        Ok(_) if reader.failed_in(steps.span) => None,
        Ok(made) => Some(made),
        Err(all) => {
            for (place, error) in all {
                if let (Some(span), Some(step)) = (places.get(place), made.get(place)) {
                    reader.report(step_error(*span, step, error));
                }
            }
            None
        }
    }
}

fn sets(at: Option<&At<NamedEntries<SetValue>>>, reader: &mut Reader<'_>) -> Vec<(Span, Step)> {
    let entries = at.map_or(&[][..], |at| &at.value.0);
    let set = |(key, at): &(Key, At<SetValue>)| {
        check_name(&key.text, key.span, reader);
        let set = match &at.value {
            SetValue::Literal(json) => FieldValue::Literal(json.clone()),
            SetValue::Computed(source) => match expression::compile(source, Expression::computed, reader) {
                Some(expression) => FieldValue::Computed(expression),
                None => FieldValue::Literal("null".to_owned()),
            },
        };
        (key.span, Step::Set(key.text.clone(), set))
    };
    entries.iter().map(set).collect()
}

fn removes(at: Option<&At<OneOrMany<Text>>>) -> Vec<(Span, Step)> {
    let names = at.map_or(&[][..], |at| &at.value.0);
    names.iter().map(|name| (name.span, Step::Remove(name.value.text.clone()))).collect()
}

fn renames(at: Option<&At<NamedEntries<Text>>>, reader: &mut Reader<'_>) -> Vec<(Span, Step)> {
    let entries = at.map_or(&[][..], |at| &at.value.0);
    let rename = |(from, to): &(Key, At<Text>)| {
        check_name(&to.value.text, to.span, reader);
        (from.span, Step::Rename(from.text.clone(), to.value.text.clone()))
    };
    entries.iter().map(rename).collect()
}

/// Reports an invalid name of a field.
fn check_name(name: &str, span: Span, reader: &mut Reader<'_>) {
    let is_identifier = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.chars().all(|char| char.is_ascii_alphanumeric() || char == '_');
    if !is_identifier || name.len() > MAX_FIELD || RESERVED.contains(&name) {
        reader.report(
            Diagnostic::error("illegal-name", span, format!("{} can't be the name of a field", reader.quote(span)))
                .help(format!("write 1 to {MAX_FIELD} letters, digits and `_`, no digit first; `headers` and `properties` are taken")),
        );
    }
}

fn step_error(span: Span, step: &Step, error: StepError) -> Diagnostic {
    let (Step::Set(name, _) | Step::Remove(name) | Step::Rename(name, _)) = step;
    if let (StepError::NameTaken, Step::Rename(_, to)) = (error, step) {
        return Diagnostic::error("field-twice", span, format!("there is a field `{to}` already"))
            .help("remove that field in an earlier step, or choose another name");
    }
    let events = event_fields();
    if events.contains_key(name) {
        return Diagnostic::error("unknown-field", span, format!("there is no field `{name}` any more at this step"))
            .help("an earlier step of this route removed or renamed it");
    }
    let diagnostic = Diagnostic::error("unknown-field", span, format!("there is no field `{name}`"));
    let help = "see `schema event` for the fields of an event";
    diagnostic.suggest(name, events.keys().map(String::as_str), help)
}
