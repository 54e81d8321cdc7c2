//! From the tree of the file to raw types: every mistake is recorded, and reading goes on after it.
//!
//! A value that is wrong becomes `None`, as one that is absent; by then its mistake is recorded, so whoever finds `None`
//! where something is required has nothing more to say.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::reader::Reader;
use super::yaml::{Key, Kind, Node, Span};

/// A value with its place.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    pub value: T,
    /// Where it is.
    pub span: Span,
    /// Where to point at when all of it is meant.
    pub head: Span,
}

/// What can be read from a node.
pub(super) trait Decode: Sized {
    /// The value; `None` when it is wrong, which is recorded.
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self>;
}

/// A value and its place.
pub(super) fn at<T: Decode>(node: &Node, reader: &mut Reader<'_>) -> Option<At<T>> {
    T::decode(node, reader).map(|value| At { value, span: node.span, head: node.head })
}

/// A struct of the file: its keys with their types; `= required` ones have to be there, `= skip` ones are not in the schema.
/// `[…]` is the default that the schema shows, and for a number its unit.
/// A key without a value is an error, as it could be read as "anything" or "nothing"; only for `| null` ones it is the same as
/// no such key. What documents a key is also what the schema says of it, and its first line the help when it is missing.
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
                #[schemars(transform = $crate::config::decode::mapping!(@schema $($null)?))]
                pub $key: Option<$crate::config::decode::At<$type>>,
            )*
        }

        impl $crate::config::decode::Decode for $name {
            fn decode(
                node: &$crate::config::yaml::Node,
                reader: &mut $crate::config::reader::Reader<'_>,
            ) -> Option<Self> {
                #[allow(unused_variables, reason = "a struct may have no keys")]
                let fields = reader.fields(node, &[$( $crate::config::decode::bare(stringify!($key)) ),*])?;
                Some(Self {
                    $( $key: fields.take(
                        reader,
                        $crate::config::decode::bare(stringify!($key)),
                        mapping!(@presence $($null)? $($mark)?),
                        [$($doc),+][0],
                    ), )*
                })
            }
        }
    };
    (@schema null) => { $crate::config::decode::with_null };
    (@schema) => { $crate::config::decode::without_null };
    (@presence required) => { $crate::config::reader::Presence::Required };
    (@presence null) => { $crate::config::reader::Presence::Nullable };
    (@presence $($other:ident)?) => { $crate::config::reader::Presence::Optional };
}
pub(super) use mapping;

/// The schema of a key whose value may be null stays as it is.
pub(super) fn with_null(_: &mut Schema) {}

/// That of any other key takes no null, as an `Option` does.
pub(super) fn without_null(schema: &mut Schema) {
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

/// A key as the file has it: Rust's `r#type` is `type`.
pub(super) fn bare(key: &str) -> &str {
    key.strip_prefix("r#").unwrap_or(key)
}

/// One value, or a list of them.
#[derive(Debug)]
pub(super) struct OneOrMany<T>(pub Vec<At<T>>);

impl<T: Decode> Decode for OneOrMany<T> {
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.kind {
            Kind::Sequence(_) => List::decode(node, reader).map(|list| Self(list.0)),
            _ => Some(Self(vec![at(node, reader)?])),
        }
    }
}

/// A list.
#[derive(Debug)]
pub(super) struct List<T>(pub Vec<At<T>>);

impl<T: Decode> Decode for List<T> {
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let Kind::Sequence(items) = &node.kind else {
            reader.wrong_type(node, "a list");
            return None;
        };
        Some(Self(items.iter().filter_map(|item| at(item, reader)).collect()))
    }
}

/// A mapping whose keys are names, in the order of the file.
#[derive(Debug)]
pub(super) struct Named<T>(pub Vec<(Key, At<T>)>);

impl<T: Decode> Decode for Named<T> {
    fn decode(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let entries = reader.mapping(node)?;
        Some(Self(entries.iter().filter_map(|(key, value)| Some((key.clone(), at(value, reader)?))).collect()))
    }
}

/// The schema of a value that can be written as a reference, too.
pub(super) fn or_reference(schema: &Schema) -> Schema {
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
transparent!(List, |inner| json_schema!({ "type": "array", "items": inner }));
transparent!(Named, |inner| json_schema!({ "type": "object", "additionalProperties": inner }));
