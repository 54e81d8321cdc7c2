//! What becomes of one message by one configuration and by another.

use serde::Serialize;
use serde_json::Value;

use super::{DeadLetter, DryRun, DryRunDelivery};
use crate::config::{SinkConfig, SinkKind, WebhookUrl};

/// Of one delivery at most so many changed values are told.
const MAX_CHANGED: usize = 50;

/// How two dry runs of one message differ. These names are relied on.
#[derive(Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Why nothing was delivered, and why nothing is; none, where that is the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<Changed<Option<DeadLetter>>>,
    /// The sinks that get something else, in the order of the first configuration.
    pub sinks: Vec<SinkDifference>,
}

/// What is different for one sink.
#[derive(Debug, PartialEq, Serialize)]
pub struct SinkDifference {
    /// Its name.
    pub sink: String,
    /// How.
    #[serde(flatten)]
    pub change: Change,
}

/// How what one sink gets differs.
#[derive(Debug, PartialEq, Serialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// It gets the event now.
    Added {
        /// By this route; none: by `unrouted:`.
        route: Option<String>,
    },
    /// It no longer does.
    Removed {
        /// By this route it did.
        route: Option<String>,
    },
    /// What it gets is another.
    Changed {
        /// Which values are; none, where it is what is not shown: spaces in JSON, or secrets.
        values: Vec<ChangedValue>,
    },
}

/// One value of a delivery.
#[derive(Debug, PartialEq, Serialize)]
pub struct ChangedValue {
    /// Its path: `topic`, `body.team`.
    pub path: String,
    /// What it was and what it is.
    #[serde(flatten)]
    pub changed: Changed<Value>,
}

/// A value by the one configuration and by the other.
#[derive(Debug, PartialEq, Serialize)]
pub struct Changed<T> {
    pub before: T,
    pub after: T,
}

impl Difference {
    /// Between what becomes of one message by two configurations; none, where every sink gets the same. By which route makes no
    /// difference.
    #[must_use]
    pub fn between(before: &DryRun<'_>, after: &DryRun<'_>) -> Option<Self> {
        let of = |dry_run: &DryRun<'_>| dry_run.dead_letter.clone();
        let dead_letter =
            (before.dead_letter != after.dead_letter).then(|| Changed { before: of(before), after: of(after) });
        let mut sinks = Vec::new();
        for planned in &before.deliveries {
            let name = &planned.sink.name;
            let change = match after.deliveries.iter().find(|other| other.sink.name == *name) {
                None => Some(Change::Removed { route: planned.route_name() }),
                Some(other) => planned.change_to(other),
            };
            sinks.extend(change.map(|change| SinkDifference { sink: name.to_string(), change }));
        }
        for planned in &after.deliveries {
            let name = &planned.sink.name;
            if !before.deliveries.iter().any(|other| other.sink.name == *name) {
                let change = Change::Added { route: planned.route_name() };
                sinks.push(SinkDifference { sink: name.to_string(), change });
            }
        }
        (dead_letter.is_some() || !sinks.is_empty()).then_some(Self { dead_letter, sinks })
    }
}

impl DryRunDelivery<'_> {
    fn route_name(&self) -> Option<String> {
        self.route.map(|route| route.name.to_string())
    }

    fn change_to(&self, other: &Self) -> Option<Change> {
        if self.outgoing == other.outgoing && has_same_address(self.sink, other.sink) {
            return None;
        }
        let as_value = |planned: &Self| {
            let mut value = serde_json::to_value(planned.explain()).unwrap_or_default();
            if let Some(members) = value.as_object_mut() {
                members.remove("route");
                // What differs of a body that is JSON is a part of it.
                let body = members.get("body").and_then(Value::as_str).and_then(|body| serde_json::from_str(body).ok());
                if let Some(body @ (Value::Object(_) | Value::Array(_))) = body {
                    members.insert("body".to_owned(), body);
                }
                if let Some(Value::Object(destination)) = members.remove("destination") {
                    members.extend(destination);
                }
            }
            value
        };
        let mut values = Vec::new();
        compare(String::new(), &as_value(self), &as_value(other), &mut values);
        Some(Change::Changed { values })
    }
}

/// Whether what has no template leads to the same address.
fn has_same_address(one: &SinkConfig, other: &SinkConfig) -> bool {
    match (&one.kind, &other.kind) {
        (SinkKind::Webhook(one), SinkKind::Webhook(other)) => match (&one.url, &other.url) {
            (WebhookUrl::Fixed { url: one, .. }, WebhookUrl::Fixed { url: other, .. }) => one == other,
            _ => true,
        },
        _ => true,
    }
}

fn compare(path: String, before: &Value, after: &Value, values: &mut Vec<ChangedValue>) {
    if before == after || values.len() >= MAX_CHANGED {
        return;
    }
    let (Value::Object(one), Value::Object(other)) = (before, after) else {
        values.push(ChangedValue { path, changed: Changed { before: before.clone(), after: after.clone() } });
        return;
    };
    let names = one.keys().chain(other.keys().filter(|name| !one.contains_key(*name)));
    for name in names {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let value = |members: &serde_json::Map<String, Value>| members.get(name).cloned().unwrap_or_default();
        compare(path, &value(one), &value(other), values);
    }
}
