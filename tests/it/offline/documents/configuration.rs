//! docs/configuration.md is written from the JSON Schema of routes.yaml: `UPDATE_EXPECT=1 cargo test --test it offline::documents`.

use std::fmt::Write;

use expect_test::expect_file;
use serde_json::{Map, Value};

const INTRODUCTION: &str = "\
# Configuration reference

This page lists every key of routes.yaml. It is generated from the JSON Schema that `regards-relay schema config` prints
for editors. `NAME` stands for a name that you choose, `[]` for an item of a list. Keys in bold are required.

In every value, `${VAR}` is replaced by an environment variable, `${VAR:-default}` by a default if it is not set, and
`${file:PATH}` by the content of a file. `$$` is a dollar sign. Paths of files that are read are relative to the
configuration file, paths of files that are written to the data directory.
";

const HEADER: &str = "\n| key | type | unit | default | meaning |\n|---|---|---|---|---|\n";

#[test]
fn the_configuration_reference_is_up_to_date() {
    let printed = super::regards_relay(&["schema", "config"], &[]);
    let schema: Value = serde_json::from_slice(&printed.stdout).expect("a JSON Schema");
    expect_file!["../../../../docs/configuration.md"].assert_eq(&page(&schema));
}

/// A mapping of the file: its name in the schema, and all paths that use it.
struct Section {
    name: String,
    paths: Vec<String>,
}

fn page(schema: &Value) -> String {
    let root = Section { name: String::new(), paths: Vec::new() };
    let mut sections = vec![root];
    let mut text = INTRODUCTION.to_owned();
    let mut at = 0;
    let mut tables = Vec::new();
    while let Some(path) = sections.get(at).map(|section| section.paths.first().cloned().unwrap_or_default()) {
        let mapping = if at == 0 { schema } else { &schema["$defs"][&sections[at].name] };
        tables.push(table(mapping, &path, &mut sections));
        at += 1;
    }
    let mut written: Vec<_> = sections.iter().zip(tables).collect();
    written.sort_by_key(|(section, _)| &section.paths);
    for (section, table) in written {
        if section.paths.is_empty() {
            text.push_str("\n## Top level\n");
        } else {
            let quoted: Vec<String> = section.paths.iter().map(|path| format!("`{path}`")).collect();
            let about =
                schema["$defs"][&section.name]["description"].as_str().expect("every mapping has a description");
            let _ = writeln!(text, "\n## {}\n\n{about}", quoted.join(", "));
        }
        text.push_str(&table);
    }
    text
}

/// The table of one mapping. The mappings in its values are added to the sections.
fn table(mapping: &Value, path: &str, sections: &mut Vec<Section>) -> String {
    let empty = Map::new();
    let keys = mapping["properties"].as_object().unwrap_or(&empty);
    let is_required = |key: &str| mapping["required"].as_array().is_some_and(|all| all.iter().any(|one| one == key));
    let mut sorted: Vec<(&String, &Value)> = keys.iter().collect();
    sorted.sort_by_key(|(key, _)| !is_required(key));
    let mut text = if keys.is_empty() { String::new() } else { HEADER.to_owned() };
    for (key, value) in sorted {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        add_sections(value, &path, sections);
        let shown = if is_required(key) { format!("**`{key}`**") } else { format!("`{key}`") };
        let (kind, unit) = kind(value);
        let unit = value["$comment"].as_str().map_or(unit, |comment| comment.trim_start_matches("unit: "));
        let default = match &value["default"] {
            Value::Null => String::new(),
            Value::String(text) if text.is_empty() => "`\"\"`".to_owned(),
            Value::String(text) => format!("`{text}`"),
            other => format!("`{other}`"),
        };
        let meaning = value["description"].as_str().expect("every key has a description");
        let cells = [shown, kind, unit.to_owned(), default, meaning.to_owned()];
        let _ = writeln!(text, "|{}|", cells.map(|cell| format!(" {} ", cell.replace('|', "\\|"))).join("|"));
    }
    text
}

/// Adds the mappings that a value refers to, each with its path.
fn add_sections(value: &Value, path: &str, sections: &mut Vec<Section>) {
    if let Some(name) = value["$ref"].as_str().and_then(|reference| reference.strip_prefix("#/$defs/")) {
        match sections.iter_mut().find(|section| section.name == name) {
            Some(section) => {
                if !section.paths.iter().any(|known| known == path) {
                    section.paths.push(path.to_owned());
                }
            }
            None => sections.push(Section { name: name.to_owned(), paths: vec![path.to_owned()] }),
        }
    }
    for choice in value["anyOf"].as_array().into_iter().flatten() {
        add_sections(choice, path, sections);
    }
    if value["items"].is_object() && value.get("anyOf").is_none() {
        add_sections(&value["items"], &format!("{path}[]"), sections);
    }
    if value["additionalProperties"].is_object() {
        add_sections(&value["additionalProperties"], &format!("{path}.NAME"), sections);
    }
}

/// The type of a value, and its unit if the description has one.
fn kind(value: &Value) -> (String, &'static str) {
    if value["$ref"].is_string() {
        return ("mapping".to_owned(), "");
    }
    if let Some(words) = value["enum"].as_array() {
        let words: Vec<String> = words.iter().filter_map(Value::as_str).map(|word| format!("`{word}`")).collect();
        return (words.join(", "), "");
    }
    if let Some(word) = value["const"].as_str() {
        return (format!("`{word}`"), "");
    }
    if let Some(choices) = value["anyOf"].as_array() {
        let choices: Vec<_> =
            choices.iter().filter(|one| one["type"] != "null" && !is_reference(one)).map(kind).collect();
        let unit = choices.first().map_or("", |(_, unit)| unit);
        let kinds: Vec<String> = choices.into_iter().map(|(kind, _)| kind).collect();
        return (kinds.join(" or "), unit);
    }
    if let Some(pattern) = value["pattern"].as_str() {
        return of_pattern(pattern);
    }
    let first = value["type"].as_array().and_then(|types| types.first()).unwrap_or(&value["type"]);
    match first.as_str() {
        Some("integer") => ("whole number".to_owned(), ""),
        Some("boolean") => ("`true`, `false`".to_owned(), ""),
        Some("array") => (format!("list of {}s", kind(&value["items"]).0), ""),
        Some("object") => (format!("mapping of names to {}s", kind(&value["additionalProperties"]).0), ""),
        Some(_) => ("text".to_owned(), ""),
        None => ("value".to_owned(), ""),
    }
}

/// Whether this alternative accepts `${…}` in place of the value.
fn is_reference(value: &Value) -> bool {
    value["pattern"].as_str().is_some_and(|pattern| pattern.starts_with(r"\$"))
}

fn of_pattern(pattern: &str) -> (String, &'static str) {
    let (kind, unit) = match pattern {
        _ if pattern.contains("ms|s|m|h|d") => ("duration", "ms, s, m, h, d"),
        _ if pattern.contains("KiB") => ("size", "B, KiB, MiB, GiB, TiB"),
        _ if pattern.contains("/(s|m|h)") => ("rate", "/s, /m, /h"),
        _ if pattern.contains('%') => ("share", "%"),
        _ => panic!("a type of value that this test does not know: {pattern}"),
    };
    let word = ["never", "forever", "expires"].into_iter().find(|word| pattern.contains(&format!("({word}|")));
    (word.map_or(kind.to_owned(), |word| format!("{kind} or `{word}`")), unit)
}
