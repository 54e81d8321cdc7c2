//! How the dry runs of one message with two configurations differ.

use serde::Serialize;
use serde_json::Value;

use super::{DeadLetterReason, DryRun, DryRunDelivery};
use crate::config::{SinkConfig, SinkKind, WebhookUrl};

/// Limit of the listed changes of one delivery.
const MAX_CHANGED: usize = 50;

/// The difference as the JSON of `compare`. The field names are part of the contract.
#[derive(Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Set if the message becomes a dead letter with one configuration only, or for different reasons.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<BeforeAfter<Option<DeadLetterReason>>>,
    /// The sinks that get something else: those of the first configuration in its order, then the added ones.
    pub sinks: Vec<SinkDifference>,
}

#[derive(Debug, PartialEq, Serialize)]
pub struct SinkDifference {
    pub sink: String,
    #[serde(flatten)]
    pub change: SinkChange,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum SinkChange {
    /// Only the second configuration delivers to this sink. No route means `unrouted:`.
    Added { route: Option<String> },
    /// Only the first configuration delivers to this sink.
    Removed { route: Option<String> },
    /// No values are listed if the difference is not visible: white space in JSON, or secrets.
    Changed { values: Vec<ChangedValue> },
}

#[derive(Debug, PartialEq, Serialize)]
pub struct ChangedValue {
    /// For example `topic` or `body.team`.
    pub path: String,
    #[serde(flatten)]
    pub changed: BeforeAfter<Value>,
}

/// A value with the first and with the second configuration.
#[derive(Debug, PartialEq, Serialize)]
pub struct BeforeAfter<T> {
    pub before: T,
    pub after: T,
}

impl Difference {
    /// None if every sink gets the same, even if another route leads to it.
    #[must_use]
    pub fn between(before: &DryRun<'_>, after: &DryRun<'_>) -> Option<Self> {
        let of = |dry_run: &DryRun<'_>| dry_run.dead_letter.clone();
        let dead_letter =
            (before.dead_letter != after.dead_letter).then(|| BeforeAfter { before: of(before), after: of(after) });
        let mut sinks = Vec::new();
        for planned in &before.deliveries {
            let name = &planned.sink.name;
            let change = match after.deliveries.iter().find(|other| other.sink.name == *name) {
                None => Some(SinkChange::Removed { route: planned.route_name() }),
                Some(other) => planned.change_to(other),
            };
            sinks.extend(change.map(|change| SinkDifference { sink: name.to_string(), change }));
        }
        for planned in &after.deliveries {
            let name = &planned.sink.name;
            if !before.deliveries.iter().any(|other| other.sink.name == *name) {
                let change = SinkChange::Added { route: planned.route_name() };
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

    fn change_to(&self, other: &Self) -> Option<SinkChange> {
        if self.outgoing == other.outgoing && self.group == other.group && has_same_address(self.sink, other.sink) {
            return None;
        }
        let as_value = |planned: &Self| {
            let mut value = serde_json::to_value(planned.explain()).unwrap_or_default();
            if let Some(members) = value.as_object_mut() {
                members.remove("route");
                // Compare the members of a body that is JSON.
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
        // Other bytes are only worth a line if they encode the same body, by another schema.
        if values.iter().any(|changed| changed.path.starts_with("body")) {
            values.retain(|changed| changed.path != "encoded.bytes");
        }
        Some(SinkChange::Changed { values })
    }
}

/// Whether addresses without a template are the same; those with one are part of [`DryRunDelivery::outgoing`].
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
        values.push(ChangedValue { path, changed: BeforeAfter { before: before.clone(), after: after.clone() } });
        return;
    };
    let names = one.keys().chain(other.keys().filter(|name| !one.contains_key(*name)));
    for name in names {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let value = |members: &serde_json::Map<String, Value>| members.get(name).cloned().unwrap_or_default();
        compare(path, &value(one), &value(other), values);
    }
}
