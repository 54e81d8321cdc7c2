//! From the tree of a file to structs. Decoding records a mistake and continues, so that one run reports all of them.
//!
//! A wrong value becomes `None`, like one that is absent. Its mistake has been recorded: code that finds `None` where a value
//! is required has nothing to report.

use std::borrow::Cow;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::diagnostic::Diagnostic;
use super::reader::{MISSING_VALUE, Reader};

use super::tree::{Key, Kind, Node, Span};
use super::words::lower;

/// A value with its place in the file.
#[derive(Debug, Clone)]
pub struct At<T> {
    pub value: T,
    pub span: Span,
    /// The place to mark for the whole value.
    pub head: Span,
}

/// A type that can be decoded from a node of the tree.
pub trait Decode: Sized {
    /// The value. None if it is wrong; the mistake is recorded.
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self>;
}

/// Decodes a value, and keeps its place.
pub fn at<T: Decode>(node: &Node, reader: &mut Reader<'_>) -> Option<At<T>> {
    T::decode(node, reader).map(|value| At { value, span: node.span, head: node.head })
}

/// Whether a key is required, and whether it may be null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// The key has to be there, with a value.
    Required,
    /// The key may be absent, but not null.
    Optional,
    /// Null is the same as no such key.
    Nullable,
}

/// The entries of a mapping, each key once.
pub struct Fields<'n> {
    head: Span,
    entries: Vec<&'n (Key, Arc<Node>)>,
}

impl<'n> Fields<'n> {
    /// The entries of a mapping node. Unknown and repeated keys are reported.
    pub fn of(node: &'n Node, known: &[&str], reader: &mut Reader<'_>) -> Option<Self> {
        let entries = reader.mapping(node)?;
        let mut before: Option<&(Key, Arc<Node>)> = None;
        for entry in &entries {
            if !known.contains(&entry.0.text.as_str()) && !reader.is_full() {
                let empty = before.filter(|(_, value)| value.is_null()).map(|(key, _)| key);
                reader.unknown_key(&entry.0, known, empty);
            }
            before = Some(entry);
        }
        Some(Self { head: node.head, entries })
    }

    /// Decodes the value of a key. `about` describes the key when it is missing.
    pub fn take<T: Decode>(
        &self,
        reader: &mut Reader<'_>,
        key: &'static str,
        presence: Presence,
        about: &str,
    ) -> Option<At<T>> {
        let entry = self.entries.iter().find(|(known, _)| known.text == key);
        match entry {
            Some((_, node)) if !node.is_null() => {
                reader.keys.push(key);
                let value = at(node, reader);
                reader.keys.pop();
                value
            }
            Some((key, _)) if presence != Presence::Nullable => {
                let help = match presence {
                    Presence::Required => format!("write it after the colon: {}", lower(about)),
                    _ => format!("write it after the colon ({}), or remove `{}:`", lower(about), key.text),
                };
                reader.report(
                    Diagnostic::error(MISSING_VALUE, key.span, format!("`{}` has no value", key.text)).help(help),
                );
                None
            }
            None if presence == Presence::Required => {
                reader.report(
                    Diagnostic::error("missing-key", self.head, format!("`{key}` is missing"))
                        .label(format!("needs `{key}`"))
                        .help(format!("add `{key}:`, {}", lower(about))),
                );
                None
            }
            _ => None,
        }
    }
}

/// Defines a struct for a mapping: its keys with their types. `= required` keys have to be there, `= skip` keys are not in the
/// schema. `[…]` is the default that the schema shows and, for a number, its unit. A key without a value is an error, as it could
/// mean "anything" or "nothing"; for `| null` keys it is the same as no such key. The doc comment of a key is also its description
/// in the schema, and its first line the help when it is missing.
macro_rules! mapping {
    (
        $(#[$about:meta])*
        $name:ident { $(
            $(#[doc = $doc:literal])+
            $key:ident : $type:ty $(| $null:ident)? $(= $mark:ident)? $([ $default:literal $(, $unit:literal)? ])?
        ),* $(,)? }
    ) => {
        $(#[$about])*
        #[derive(Debug, schemars::JsonSchema)]
        #[allow(non_snake_case, reason = "the keys as the file has them")]
        #[schemars(deny_unknown_fields)]
        pub(in crate::config) struct $name {
            $(
                $(#[doc = $doc])+
                $(#[schemars($mark)])?
                $(#[schemars(extend("default" = $default $(, "$comment" = concat!("unit: ", $unit))?))])?
                #[schemars(transform = $crate::config::text::decode::mapping!(@schema $($null)?))]
                pub $key: Option<$crate::config::text::decode::At<$type>>,
            )*
        }

        impl $crate::config::text::decode::Decode for $name {
            fn decode(
                node: &$crate::config::text::tree::Node,
                reader: &mut $crate::config::text::reader::Reader<'_>,
            ) -> Option<Self> {
                #[allow(unused_variables, reason = "a struct may have no keys")]
                let fields = $crate::config::text::decode::Fields::of(
                    node,
                    &[$( $crate::config::text::decode::bare(stringify!($key)) ),*],
                    reader,
                )?;
                Some(Self {
                    $( $key: fields.take(
                        reader,
                        $crate::config::text::decode::bare(stringify!($key)),
                        mapping!(@presence $($null)? $($mark)?),
                        [$($doc),+][0],
                    ), )*
                })
            }
        }
    };
    (@schema null) => { $crate::config::text::decode::with_null };
    (@schema) => { $crate::config::text::decode::without_null };
    (@presence required) => { $crate::config::text::decode::Presence::Required };
    (@presence null) => { $crate::config::text::decode::Presence::Nullable };
    (@presence $($other:ident)?) => { $crate::config::text::decode::Presence::Optional };
}
pub(crate) use mapping;

/// Leaves the schema of a key that may be null as it is.
pub fn with_null(_: &mut Schema) {}

/// Removes null from the schema of a key: schemars adds it to every `Option`.
pub fn without_null(schema: &mut Schema) {
    let Some(members) = schema.as_object_mut() else { return };
    if let Some(Value::Array(types)) = members.get_mut("type") {
        types.retain(|name| name != "null");
        if let [one] = types.as_slice() {
            let one = one.clone();
            members.insert("type".to_owned(), one);
        }
    }
    let Some(Value::Array(choices)) = members.get_mut("anyOf") else { return };
    choices.retain(|choice| choice.get("type").is_none_or(|name| name != "null"));
    if let [Value::Object(one)] = choices.as_slice() {
        let one = one.clone();
        members.remove("anyOf");
        members.extend(one);
    }
}

/// A key as it is written in the file: `type` for Rust's `r#type`.
pub fn bare(key: &str) -> &str {
    key.strip_prefix("r#").unwrap_or(key)
}

/// One value, or a list of such values.
#[derive(Debug)]
pub struct OneOrMany<T>(pub Vec<At<T>>);

impl<T: Decode> Decode for OneOrMany<T> {
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.kind {
            Kind::Sequence(_) => List::decode(node, reader).map(|list| Self(list.0)),
            _ => Some(Self(vec![at(node, reader)?])),
        }
    }
}

/// `none`, or a mapping.
#[derive(Debug)]
pub enum NoneOr<T> {
    None,
    Some(T),
}

impl<T: Decode> Decode for NoneOr<T> {
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.kind {
            Kind::Scalar(_) if reader.fill(node, "`none` or a mapping")?.text == "none" => Some(Self::None),
            Kind::Mapping(_) => T::decode(node, reader).map(Self::Some),
            _ => {
                reader.wrong_type(node, "`none` or a mapping");
                None
            }
        }
    }
}

#[derive(Debug)]
pub struct List<T>(pub Vec<At<T>>);

impl<T: Decode> Decode for List<T> {
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let Kind::Sequence(items) = &node.kind else {
            reader.wrong_type(node, "a list");
            return None;
        };
        Some(Self(items.iter().filter_map(|item| at(item, reader)).collect()))
    }
}

/// A mapping whose keys are names that the user chose, in the order of the file.
#[derive(Debug)]
pub struct NamedEntries<T>(pub Vec<(Key, At<T>)>);

impl<T: Decode> Decode for NamedEntries<T> {
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let entries = reader.mapping(node)?;
        Some(Self(entries.iter().filter_map(|(key, value)| Some((key.clone(), at(value, reader)?))).collect()))
    }
}

/// The schema of a value that may also be written as a `${…}`.
pub fn or_reference(schema: &Schema) -> Schema {
    json_schema!({ "anyOf": [schema, { "type": "string", "pattern": r"\$\{.+\}" }] })
}

macro_rules! transparent {
    ($wrapper:ident, |$inner:ident| $schema:expr) => {
        impl<T: JsonSchema> JsonSchema for $wrapper<T> {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                format!(concat!(stringify!($wrapper), "_{}"), T::schema_name()).into()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                let $inner = generator.subschema_for::<T>();
                $schema
            }
        }
    };
}

transparent!(At, |inner| inner);
transparent!(OneOrMany, |inner| json_schema!({ "anyOf": [inner, { "type": "array", "items": inner }] }));
transparent!(NoneOr, |inner| json_schema!({ "anyOf": [{ "const": "none" }, inner] }));
transparent!(List, |inner| json_schema!({ "type": "array", "items": inner }));
transparent!(NamedEntries, |inner| json_schema!({ "type": "object", "additionalProperties": inner }));
