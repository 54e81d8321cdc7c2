//! JSON Schemas (drafts 4 to 2020-12). JSON is validated and sent as it is.

use std::error::Error;

use boon::{Compiler, ErrorKind, SchemaIndex, Schemas, UrlLoader, ValidationError};
use serde_json::Value;

use super::misfit::Misfit;
use super::{SchemaError, SchemaText};

/// A compiled schema, with those that it refers to.
pub(super) struct JsonSchema {
    schemas: Schemas,
    root: SchemaIndex,
}

/// Where the schema is, as far as its references can tell. Nothing is read from there.
const BASE: &str = "regards-relay:///";
const MAIN: &str = "regards-relay:///schema.json";

/// The library would read `file://`.
struct Refuse;

impl UrlLoader for Refuse {
    fn load(&self, url: &str) -> Result<Value, Box<dyn Error>> {
        Err(format!("a reference to `{url}`, which is not part of the schema").into())
    }
}

impl JsonSchema {
    pub(super) fn compile(text: &SchemaText) -> Result<Self, SchemaError> {
        let parse = |text: &str| serde_json::from_str::<Value>(text).map_err(|error| SchemaError::of_json(&error));
        let mut compiler = Compiler::new();
        compiler.use_loader(Box::new(Refuse));
        for reference in &text.references {
            let in_file = |error: SchemaError| SchemaError { file: Some(reference.name.clone()), ..error };
            let value = parse(&reference.text).map_err(in_file)?;
            let url =
                if reference.name.contains(':') { reference.name.clone() } else { format!("{BASE}{}", reference.name) };
            compiler.add_resource(&url, value).map_err(|error| in_file(SchemaError::of(error.to_string())))?;
        }
        let unusable = |error: boon::CompileError| SchemaError::of(error.to_string().replace(MAIN, ""));
        compiler.add_resource(MAIN, parse(&text.text)?).map_err(unusable)?;
        let mut schemas = Schemas::new();
        let root = compiler.compile(MAIN, &mut schemas).map_err(unusable)?;
        Ok(Self { schemas, root })
    }

    pub(super) fn validate(&self, json: &[u8]) -> Result<(), Misfit> {
        // Its limit of nesting is that of messages.
        let value: Value =
            serde_json::from_slice(json).map_err(|_| Misfit::new("JSON that is nested too deep", "less"))?;
        self.schemas.validate(&value, self.root).map_err(|error| misfit(&error))
    }
}

impl std::fmt::Debug for JsonSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JsonSchema").finish_non_exhaustive()
    }
}

/// The first of the causes, without the value.
fn misfit(error: &ValidationError<'_, '_>) -> Misfit {
    let mut error = error;
    // The branches of a union fail for reasons of their own, none of which is the one that was meant.
    while !matches!(error.kind, ErrorKind::AnyOf | ErrorKind::OneOf(_) | ErrorKind::Not)
        && let Some(cause) = error.causes.first()
    {
        error = cause;
    }
    let rule = error.schema_url.strip_prefix(MAIN).unwrap_or(error.schema_url);
    let (found, expected) = match &error.kind {
        ErrorKind::Type { got, want } => {
            let want: Vec<String> = want.iter().map(|kind| kind.to_string()).collect();
            (kind_of(&got.to_string()), want.join(" or "))
        }
        ErrorKind::Required { want } => ("an object", format!("one with {}", want.join(" and "))),
        ErrorKind::AdditionalProperties { got } => {
            let names = got.iter().map(|name| name.chars().take(MAX_NAME).collect::<String>()).take(MAX_NAMES);
            ("an object", format!("one without {}", names.collect::<Vec<_>>().join(", ")))
        }
        kind => ("a value against a rule", format!("`{}` at {rule}", keyword(kind))),
    };
    let mut path = Misfit::new(found, expected);
    let steps = error.instance_location.tokens.iter().rev();
    for step in steps {
        path = match step {
            boon::InstanceToken::Prop(name) => path.in_member(name),
            boon::InstanceToken::Item(index) => path.in_item(*index),
        };
    }
    path
}

/// How many members that a schema forbids are named, and how many characters of each.
const MAX_NAMES: usize = 5;
const MAX_NAME: usize = 60;

fn kind_of(got: &str) -> &'static str {
    match got {
        "null" => "null",
        "boolean" => "a boolean",
        "number" | "integer" => "a number",
        "string" => "text",
        "array" => "an array",
        _ => "an object",
    }
}

const fn keyword(kind: &ErrorKind<'_, '_>) -> &'static str {
    match kind {
        ErrorKind::Enum { .. } => "enum",
        ErrorKind::Const { .. } => "const",
        ErrorKind::Format { .. } => "format",
        ErrorKind::Pattern { .. } => "pattern",
        ErrorKind::PropertyName { .. } => "propertyNames",
        ErrorKind::MinProperties { .. } => "minProperties",
        ErrorKind::MaxProperties { .. } => "maxProperties",
        ErrorKind::Dependency { .. } => "dependencies",
        ErrorKind::DependentRequired { .. } => "dependentRequired",
        ErrorKind::MinItems { .. } => "minItems",
        ErrorKind::MaxItems { .. } => "maxItems",
        ErrorKind::Contains | ErrorKind::MinContains { .. } | ErrorKind::MaxContains { .. } => "contains",
        ErrorKind::UniqueItems { .. } => "uniqueItems",
        ErrorKind::AdditionalItems { .. } => "additionalItems",
        ErrorKind::MinLength { .. } => "minLength",
        ErrorKind::MaxLength { .. } => "maxLength",
        ErrorKind::Minimum { .. } => "minimum",
        ErrorKind::Maximum { .. } => "maximum",
        ErrorKind::ExclusiveMinimum { .. } => "exclusiveMinimum",
        ErrorKind::ExclusiveMaximum { .. } => "exclusiveMaximum",
        ErrorKind::MultipleOf { .. } => "multipleOf",
        ErrorKind::Not => "not",
        ErrorKind::AnyOf => "anyOf",
        ErrorKind::OneOf(_) => "oneOf",
        _ => "schema",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::needless_raw_string_hashes, reason = "expect-test writes them so")]

    use expect_test::expect;
    use serde_json::json;

    use super::*;
    use crate::event::encoding::{SchemaKind, SchemaReference};

    fn compile(schema: &Value, references: Vec<SchemaReference>) -> Result<JsonSchema, SchemaError> {
        JsonSchema::compile(&SchemaText { kind: SchemaKind::JsonSchema, text: schema.to_string(), references })
    }

    #[test]
    fn what_does_not_fit_has_a_path_and_no_value() {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {
                "id": { "type": "string", "pattern": "^c-" },
                "list": { "type": "array", "items": { "type": ["integer", "null"] } },
                "color": { "enum": ["RED", "BLUE"] },
                "either": { "oneOf": [{ "type": "string" }, { "type": "integer" }] },
                "inner": { "$ref": "#/$defs/inner" },
            },
            "required": ["id"],
            "additionalProperties": false,
            "$defs": { "inner": { "type": "object", "properties": { "n": { "minimum": 3 } } } },
        });
        let compiled = compile(&schema, Vec::new()).unwrap();
        let check = |value: Value| match compiled.validate(value.to_string().as_bytes()) {
            Ok(()) => "fits".to_owned(),
            Err(misfit) => misfit.to_string(),
        };
        let found = [
            check(json!({ "id": "c-1", "list": [1, null], "color": "RED", "either": 1, "inner": { "n": 3 } })),
            check(json!({})),
            check(json!([])),
            check(json!({ "id": "secret" })),
            check(json!({ "id": "c-1", "list": [1, "secret"] })),
            check(json!({ "id": "c-1", "color": "secret" })),
            check(json!({ "id": "c-1", "either": ["secret"] })),
            check(json!({ "id": "c-1", "inner": { "n": 2 } })),
            check(json!({ "id": "c-1", "other": "secret" })),
        ];
        expect![[r#"
            fits
            found an object, expected one with id
            found an array, expected object
            id: found a value against a rule, expected `pattern` at #/properties/id
            list[1]: found text, expected null or integer
            color: found a value against a rule, expected `enum` at #/properties/color
            either: found a value against a rule, expected `oneOf` at #/properties/either
            inner.n: found a value against a rule, expected `minimum` at #/$defs/inner/properties/n
            found an object, expected one without other"#]]
        .assert_eq(&found.join("\n"));
        assert!(!found.concat().contains("secret"));
    }

    #[test]
    fn a_schema_refers_only_to_what_it_is_compiled_with() {
        let error = |schema: &Value| compile(schema, Vec::new()).map(|_| ()).unwrap_err().to_string();
        let errors = [
            error(&json!({ "$ref": "file:///etc/passwd" })),
            error(&json!({ "$ref": "other.json" })),
            error(&json!({ "$ref": "https://example.org/schema.json" })),
            error(&json!({ "type": "strin" })),
            error(&json!({ "pattern": "(" })),
        ];
        expect![[r#"
            error loading file:///etc/passwd
            error loading regards-relay:///other.json
            error loading https://example.org/schema.json
            # is not valid against metaschema
            # is not valid against metaschema"#]]
        .assert_eq(&errors.join("\n"));
        let other = SchemaReference {
            name: "other.json".to_owned(),
            subject: None,
            version: None,
            text: json!({ "type": "string" }).to_string(),
        };
        let compiled = compile(&json!({ "properties": { "a": { "$ref": "other.json" } } }), vec![other]).unwrap();
        assert!(compiled.validate(br#"{"a":"x"}"#).is_ok());
        assert_eq!(compiled.validate(br#"{"a":1}"#).unwrap_err().to_string(), "a: found a number, expected string");
    }
}
