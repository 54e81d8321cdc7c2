//! Compiles a .proto file and its imports, which are texts: nothing is read from disk.

use std::collections::{BTreeMap, HashMap};

use prost_reflect::{
    DescriptorPool, EnumDescriptor, FieldDescriptor, FileDescriptor, Kind as Described, MessageDescriptor, Syntax,
};
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

use super::well_known::WellKnown;
use super::{Enum, Field, Kind, Message, ProtoSchema, Scalar, Shape};
use crate::event::encoding::varint::write_length;
use crate::event::encoding::{SchemaError, SchemaText};

/// The name of the file itself, which no import has.
const MAIN: &str = "regards-relay/schema.proto";
/// Google's well-known types are built in.
const BUILT_IN: &str = "google/protobuf/";
/// The largest number of message types, and of enums, that a message may refer to.
const MAX_TYPES: usize = 5_000;
/// How deep blocks may be nested in a file.
const MAX_BLOCKS: usize = 64;

/// The files that a .proto file imports, but for those that are built in.
pub(in crate::event::encoding) fn imports(text: &str) -> Result<Vec<String>, SchemaError> {
    check_depth(text)?;
    let file = File::from_source(MAIN, text).map_err(|error| of_import(text, of_protox(&error)))?;
    let all = file.file_descriptor_proto().dependency.iter();
    Ok(all.filter(|name| !name.starts_with(BUILT_IN)).cloned().collect())
}

/// `message` is the full name of a message in the file itself; not needed if there is only one.
pub(in crate::event::encoding) fn compile(
    text: &SchemaText,
    message: Option<&str>,
) -> Result<ProtoSchema, SchemaError> {
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    for reference in &text.references {
        check_depth(&reference.text).map_err(|error| SchemaError { file: Some(reference.name.clone()), ..error })?;
        texts.insert(reference.name.clone(), reference.text.clone());
    }
    check_depth(&text.text)?;
    texts.insert(MAIN.to_owned(), text.text.clone());
    let mut resolver = ChainFileResolver::new();
    resolver.add(Texts(texts));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).open_file(MAIN).map_err(|error| of_protox(&error))?;
    let pool = compiler.descriptor_pool();
    let file = pool.get_file_by_name(MAIN).ok_or_else(|| SchemaError::of("the file is empty".to_owned()))?;
    let root = root(&pool, &file, message)?;
    let mut indexes = Vec::new();
    // The path alternates between the kind of a declaration and its index.
    let path: Vec<usize> =
        root.path().iter().skip(1).step_by(2).map(|index| usize::try_from(*index).unwrap_or_default()).collect();
    if path == [0] {
        indexes.push(0);
    } else {
        write_length(path.len(), &mut indexes);
        for index in path {
            write_length(index, &mut indexes);
        }
    }
    let mut builder = Builder::default();
    let root = builder.message(&root)?;
    let messages: Option<Vec<Message>> = builder.messages.into_iter().collect();
    let messages = messages.ok_or_else(|| SchemaError::of("a message is not defined".to_owned()))?;
    Ok(ProtoSchema { messages, enums: builder.enums, root, indexes })
}

fn root(pool: &DescriptorPool, file: &FileDescriptor, message: Option<&str>) -> Result<MessageDescriptor, SchemaError> {
    let names = || file.messages().map(|message| format!("`{}`", message.full_name())).collect::<Vec<_>>().join(", ");
    if let Some(name) = message {
        let found = pool.get_message_by_name(name).filter(|found| found.parent_file() == *file);
        return found.ok_or_else(|| SchemaError::of(format!("it has no message `{name}`, but {}", names())));
    }
    let mut all = file.messages();
    match (all.next(), all.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(SchemaError::of("it has no message".to_owned())),
        (Some(_), Some(_)) => {
            Err(SchemaError::of(format!("it has several messages, {}: name one by `message`", names())))
        }
    }
}

struct Texts(BTreeMap<String, String>);

impl FileResolver for Texts {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        let text = self.0.get(name).ok_or_else(|| protox::Error::file_not_found(name))?;
        File::from_source(name, text)
    }
}

/// Only its form for developers has the place: `a.proto:3:3: name 'strin' is not defined`.
fn of_protox(error: &protox::Error) -> SchemaError {
    let shown = format!("{error:?}");
    let shown = shown.lines().next().unwrap_or_default();
    let file = error.file().filter(|file| *file != MAIN).map(str::to_owned);
    let placed = error.file().and_then(|file| shown.strip_prefix(file)?.strip_prefix(':'));
    let parts: Vec<&str> = placed.map(|rest| rest.splitn(3, ':').collect()).unwrap_or_default();
    if let [line, column, detail] = parts.as_slice()
        && let (Ok(line), Ok(column)) = (line.parse(), column.parse())
    {
        return SchemaError { file, at: Some((line, column)), detail: detail.trim().to_owned() };
    }
    SchemaError { file, at: None, detail: error.to_string().replace(MAIN, "the file") }
}

/// The same error; an import of a file elsewhere has one that says what is wrong.
fn of_import(text: &str, error: SchemaError) -> SchemaError {
    let line = error.at.and_then(|(line, _)| text.lines().nth(line.checked_sub(1)?)).unwrap_or_default();
    let leaves = line.trim_start().starts_with("import") && (line.contains("..") || line.contains("\"/"));
    if leaves {
        return SchemaError { detail: "this import leaves the folder of the file".to_owned(), ..error };
    }
    error
}

/// The parser of protox recurses into blocks.
fn check_depth(text: &str) -> Result<(), SchemaError> {
    let mut depth = 0_usize;
    for byte in text.bytes() {
        match byte {
            b'{' | b'[' | b'<' => depth += 1,
            b'}' | b']' | b'>' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_BLOCKS {
            return Err(SchemaError::of(format!("blocks are nested deeper than {MAX_BLOCKS}")));
        }
    }
    Ok(())
}

#[derive(Default)]
struct Builder {
    /// None: referred to, and not finished.
    messages: Vec<Option<Message>>,
    enums: Vec<Enum>,
    places: HashMap<String, usize>,
}

impl Builder {
    fn message(&mut self, described: &MessageDescriptor) -> Result<usize, SchemaError> {
        if let Some(place) = self.places.get(described.full_name()) {
            return Ok(*place);
        }
        let place = self.messages.len();
        if place >= MAX_TYPES {
            return Err(SchemaError::of(format!("it refers to more than {MAX_TYPES} messages")));
        }
        self.messages.push(None);
        self.places.insert(described.full_name().to_owned(), place);
        let mut fields: Vec<_> = described.fields().collect();
        fields.sort_by_key(FieldDescriptor::number);
        let mut by_name = HashMap::new();
        for (index, field) in fields.iter().enumerate() {
            by_name.insert(field.name().to_owned(), index);
            by_name.insert(field.json_name().to_owned(), index);
        }
        let fields = fields.iter().map(|field| self.field(field)).collect::<Result<_, _>>()?;
        let name = described.full_name().to_owned();
        let message = Message { well_known: WellKnown::named(&name), name, fields, by_name };
        if let Some(slot) = self.messages.get_mut(place) {
            *slot = Some(message);
        }
        Ok(place)
    }

    fn field(&mut self, field: &FieldDescriptor) -> Result<Field, SchemaError> {
        let shape = match field.kind() {
            Described::Message(entry) if field.is_map() => {
                let Kind::Scalar(key) = self.kind(&entry.map_entry_key_field())? else {
                    return Err(SchemaError::of(format!("the keys of the map {} have no text", field.full_name())));
                };
                Shape::Map { key, value: self.kind(&entry.map_entry_value_field())? }
            }
            _ if field.is_list() => Shape::List { kind: self.kind(field)?, packed: field.is_packed() },
            _ => Shape::One {
                kind: self.kind(field)?,
                presence: field.supports_presence(),
                required: field.cardinality() == prost_reflect::Cardinality::Required,
            },
        };
        let oneof = field.containing_oneof().filter(|oneof| !oneof.is_synthetic());
        let oneof = oneof.map(|oneof| oneof.name().to_owned());
        Ok(Field { name: field.json_name().to_owned(), number: field.number(), shape, oneof })
    }

    fn kind(&mut self, field: &FieldDescriptor) -> Result<Kind, SchemaError> {
        Ok(Kind::Scalar(match field.kind() {
            Described::Message(message) if field.is_group() => return Ok(Kind::Group(self.message(&message)?)),
            Described::Message(message) => return Ok(Kind::Message(self.message(&message)?)),
            Described::Enum(described) => return Ok(Kind::Enum(self.enumeration(&described))),
            Described::Double => Scalar::Double,
            Described::Float => Scalar::Float,
            Described::Int32 => Scalar::Int32,
            Described::Int64 => Scalar::Int64,
            Described::Uint32 => Scalar::Uint32,
            Described::Uint64 => Scalar::Uint64,
            Described::Sint32 => Scalar::Sint32,
            Described::Sint64 => Scalar::Sint64,
            Described::Fixed32 => Scalar::Fixed32,
            Described::Fixed64 => Scalar::Fixed64,
            Described::Sfixed32 => Scalar::Sfixed32,
            Described::Sfixed64 => Scalar::Sfixed64,
            Described::Bool => Scalar::Bool,
            Described::String => Scalar::String,
            Described::Bytes => Scalar::Bytes,
        }))
    }

    fn enumeration(&mut self, described: &EnumDescriptor) -> usize {
        if let Some(place) = self.enums.iter().position(|known| known.name == described.full_name()) {
            return place;
        }
        let values = described.values().map(|value| (value.name().to_owned(), value.number())).collect();
        let is_open = described.parent_file().syntax() != Syntax::Proto2;
        self.enums.push(Enum { name: described.full_name().to_owned(), values, is_open });
        self.enums.len() - 1
    }
}
