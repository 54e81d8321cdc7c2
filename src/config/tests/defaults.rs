//! The defaults in the JSON Schema are what the keys mean when they are left out.

use serde_json::{Value, json};

use super::{Strictness, parse};
use crate::config::Config;

#[test]
fn the_defaults_in_the_schema_are_those_of_the_check() {
    let schema = serde_json::to_value(crate::config::schema()).unwrap();
    let least = json!({
        "version": 1,
        "sources": {
            "regards": { "amqp": {
                "url": "amqp://localhost", "queue": "q", "declare": { "queue": {}, "bindings": [{ "exchange": "e" }] },
            } },
            "samples": { "recording": { "path": "src/cli/demo/samples.ndjson" } },
        },
        "sinks": {
            "pipeline": { "kafka": { "brokers": "localhost:9092", "topic": "t" }, "retry": {} },
            "on_call": { "webhook": { "url": "https://localhost" } },
            "partner": { "amqp": { "url": "amqp://localhost", "exchange": "f" } },
        },
        "routes": [{ "name": "all", "to": ["pipeline", "on_call", "partner"] }],
        "unrouted": "drop",
        "dead_letters": {}, "spool": {}, "delivery": {}, "admin": {},
    });
    let mut full = least.clone();
    let added = add_defaults(&mut full, &schema, &schema);
    assert!(added > 35, "only {added} defaults are in the schema");
    let config = |file: &Value| match parse(&file.to_string(), Strictness::Run, &[]) {
        Ok((config, _)) => format!("{:#?}", Config { hash: 0, ..config }),
        Err(errors) => panic!("{errors}"),
    };
    assert_eq!(config(&full), config(&least));
}

/// Adds each key that is missing and has a default. Returns their number.
fn add_defaults(value: &mut Value, schema: &Value, root: &Value) -> usize {
    if let Some(name) = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix("#/$defs/")) {
        return add_defaults(value, &root["$defs"][name], root);
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        return choices.iter().map(|choice| add_defaults(value, choice, root)).sum();
    }
    match value {
        Value::Array(items) => items.iter_mut().map(|item| add_defaults(item, &schema["items"], root)).sum(),
        Value::Object(members) => {
            let mut added = 0;
            for (key, schema) in schema["properties"].as_object().into_iter().flatten() {
                if let Some(member) = members.get_mut(key) {
                    added += add_defaults(member, schema, root);
                } else if let Some(default) = schema.get("default") {
                    members.insert(key.clone(), default.clone());
                    added += 1;
                }
            }
            let named = &schema["additionalProperties"];
            if named.is_object() {
                added += members.values_mut().map(|member| add_defaults(member, named, root)).sum::<usize>();
            }
            added
        }
        _ => 0,
    }
}
