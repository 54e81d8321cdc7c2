//! Message types of Protobuf in the form that JSON is encoded by. protox and prost-reflect compile .proto files; encoding is our own,
//! because their errors have no path, and because they ignore a word that an enum doesn't have.

mod compile;
mod encode;
#[cfg(test)]
mod tests;
mod well_known;

pub(super) use compile::{compile, imports};

use std::collections::HashMap;

use well_known::WellKnown;

/// A message type with all types that it refers to, compiled. Types refer to each other by their place.
#[derive(Debug)]
pub(super) struct ProtoSchema {
    messages: Vec<Message>,
    enums: Vec<Enum>,
    root: usize,
    /// The place of the message in its file, as Confluent's wire format has it.
    pub(super) indexes: Vec<u8>,
}

#[derive(Debug)]
struct Message {
    name: String,
    /// In the order of their numbers.
    fields: Vec<Field>,
    /// The places of the fields, by their names in JSON and in the .proto file.
    by_name: HashMap<String, usize>,
    well_known: Option<WellKnown>,
}

#[derive(Debug)]
struct Field {
    name: String,
    number: u32,
    shape: Shape,
    /// The `oneof` that it belongs to.
    oneof: Option<String>,
}

#[derive(Debug, Clone, Copy)]
enum Shape {
    One {
        kind: Kind,
        /// Whether the default of the type is written, too: a reader can tell it from an absent one.
        presence: bool,
        required: bool,
    },
    List {
        kind: Kind,
        packed: bool,
    },
    Map {
        key: Scalar,
        value: Kind,
    },
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Scalar(Scalar),
    /// The place of the enum.
    Enum(usize),
    /// The place of the message.
    Message(usize),
    /// A message between two tags, instead of after its length.
    Group(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scalar {
    Double,
    Float,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Sint64,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Bool,
    String,
    Bytes,
}

#[derive(Debug)]
struct Enum {
    name: String,
    values: HashMap<String, i32>,
    /// Whether it takes numbers without a name.
    is_open: bool,
}

impl Scalar {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Double => "double",
            Self::Float => "float",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::Uint32 => "uint32",
            Self::Uint64 => "uint64",
            Self::Sint32 => "sint32",
            Self::Sint64 => "sint64",
            Self::Fixed32 => "fixed32",
            Self::Fixed64 => "fixed64",
            Self::Sfixed32 => "sfixed32",
            Self::Sfixed64 => "sfixed64",
            Self::Bool => "bool",
            Self::String => "string",
            Self::Bytes => "bytes",
        }
    }
}
