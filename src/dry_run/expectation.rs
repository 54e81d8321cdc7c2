//! Compares the dry run of a message with the expectation of a test case.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::{DeadLetterReason, ExplainedDelivery, Explanation};
use crate::config::{Config, Expectation};

/// Longer values are cut in a message, in characters.
const MAX_SHOWN: usize = 500;

impl Explanation<'_> {
    /// The differences in words; empty if everything is as expected.
    #[must_use]
    pub fn differences(&self, expected: &Expectation, config: &Config) -> Vec<String> {
        match (expected, self.dead_letter) {
            (Expectation::DeadLetter(reason), Some(letter)) if *reason == letter.reason => Vec::new(),
            (Expectation::DeadLetter(reason), Some(DeadLetterReason { reason: real, detail })) => {
                vec![format!("it is a dead letter, {real}, not {reason}: {detail}")]
            }
            (Expectation::DeadLetter(reason), None) => {
                let sinks: Vec<_> = self.deliveries.iter().map(|delivery| delivery.sink).collect();
                let to = if sinks.is_empty() { "no sink".to_owned() } else { sinks.join(", ") };
                vec![format!("it is not a dead letter ({reason}); it goes to {to}")]
            }
            (Expectation::Sinks(_), Some(DeadLetterReason { reason, detail })) => {
                vec![format!("it is a dead letter, {reason}: {detail}")]
            }
            (Expectation::Sinks(sinks), None) => self.sinks_differ(sinks, config),
        }
    }

    /// How the matching alerts differ from those expected, in words.
    #[must_use]
    pub fn alerts_differ(&self, expected: &[String]) -> Vec<String> {
        let mut differences = Vec::new();
        for alert in &self.alerts {
            match (expected.iter().any(|name| name == alert.name), alert.matched) {
                (true, false) => differences.push(format!("the alert {} doesn't match: {}", alert.name, alert.because)),
                (false, true) => differences.push(format!("the alert {} matches, too: {}", alert.name, alert.because)),
                _ => {}
            }
        }
        differences
    }

    fn sinks_differ(&self, expected: &[(String, Map<String, Value>)], config: &Config) -> Vec<String> {
        let mut differences = Vec::new();
        for (sink, fields) in expected {
            match self.deliveries.iter().find(|delivery| delivery.sink == sink) {
                None => differences.push(format!("{sink} doesn't get it{}", self.why_not(sink, config))),
                Some(delivery) => differences.extend(delivery.differs(fields)),
            }
        }
        for delivery in &self.deliveries {
            let sink = &delivery.sink;
            if !expected.iter().any(|(name, _)| name == sink) {
                let by = delivery.by();
                differences.push(format!("{sink} gets it too, by {by}"));
            }
        }
        differences
    }

    /// Why the routes that lead to that sink don't match.
    fn why_not(&self, sink: &str, config: &Config) -> String {
        let names = |place: usize| {
            let route = config.rules.routes().get(place);
            let mut sinks = route.iter().flat_map(|route| &route.to).filter_map(|index| config.sinks.get(index.0));
            sinks.any(|named| named.name.as_str() == sink)
        };
        let routes = self.routes.iter().enumerate().filter(|(place, route)| !route.matched && names(*place));
        let reasons: Vec<_> = routes.map(|(_, route)| format!("{}: {}", route.name, route.because)).collect();
        if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join("; ")) }
    }
}

impl ExplainedDelivery<'_> {
    fn differs(&self, expected: &Map<String, Value>) -> Vec<String> {
        if let Some(DeadLetterReason { reason, detail }) = &self.dead_letter
            && !(expected.len() == 1 && expected.get("dead_letter").is_some_and(|expected| expected == reason.as_str()))
        {
            return vec![format!("{}: a dead letter, {reason}: {detail}", self.sink)];
        }
        let real = self.fields();
        let mut differences = Vec::new();
        for (name, expected) in expected {
            let real = real.get(name).unwrap_or(&Value::Null);
            let parsed = match (name.as_str(), expected, real) {
                // A case can expect some members of a body that is JSON.
                ("body", Value::Object(_) | Value::Array(_), Value::String(body)) => {
                    serde_json::from_str(body).map_or(Cow::Borrowed(real), Cow::Owned)
                }
                _ => Cow::Borrowed(real),
            };
            compare(name, expected, &parsed, &mut differences);
        }
        differences.iter().map(|difference| format!("{}: {difference}", self.sink)).collect()
    }

    /// Everything that a case can expect, by name.
    fn fields(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        if let Ok(Value::Object(mut rendered)) = serde_json::to_value(&self.rendered) {
            if let Some(Value::Object(destination)) = rendered.remove("destination") {
                fields.extend(destination);
            }
            fields.extend(rendered);
        }
        fields.insert("route".to_owned(), self.route.into());
        fields.insert("group".to_owned(), serde_json::to_value(self.group).unwrap_or_default());
        let reason = self.dead_letter.as_ref().map(|letter| letter.reason.as_str());
        fields.insert("dead_letter".to_owned(), reason.into());
        fields
    }
}

/// Members that are not expected are ignored; all other values must be equal.
fn compare(path: &str, expected: &Value, real: &Value, differences: &mut Vec<String>) {
    match (expected, real) {
        (Value::Object(members), Value::Object(real)) => {
            for (name, expected) in members {
                compare(&format!("{path}.{name}"), expected, real.get(name).unwrap_or(&Value::Null), differences);
            }
        }
        (Value::Array(elements), Value::Array(real)) if elements.len() == real.len() => {
            for (place, (expected, real)) in elements.iter().zip(real).enumerate() {
                compare(&format!("{path}[{place}]"), expected, real, differences);
            }
        }
        // 4 and 4.0 are the same number.
        (Value::Number(one), Value::Number(other)) if one.as_f64() == other.as_f64() => {}
        _ if expected == real => {}
        _ => differences.push(format!("{path} is {}, not {}", shown(real), shown(expected))),
    }
}

fn shown(value: &Value) -> String {
    let text = match value {
        Value::Null => "null".to_owned(),
        Value::String(text) => format!("{text:?}"),
        other => other.to_string(),
    };
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
