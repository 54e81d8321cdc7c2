//! The schema of a format in a file: it is read with the files that it imports, and compiled, when the configuration is loaded.

use std::collections::HashSet;
use std::io::Read as _;
use std::path::{Component, Path};

use super::common::named_file;
use crate::config::text::decode::At;
use crate::config::text::diagnostic::Diagnostic;
use crate::config::text::reader::Reader;
use crate::config::text::scalar::Text;
use crate::config::text::words::clean;
use crate::event::{Schema, SchemaError, SchemaKind, SchemaReference, SchemaText, proto_imports};

/// The largest file of a schema, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// The largest number of files that a schema imports, those that they import included.
const MAX_IMPORTS: usize = 32;

/// What became of the file.
pub(super) enum SchemaFile {
    Compiled(Schema),
    /// It is missing, which the commands without a connection only warn of.
    Missing,
    Unusable,
}

/// The extension of the files of that kind.
pub(super) const fn extension(kind: SchemaKind) -> &'static str {
    match kind {
        SchemaKind::Avro => "avsc",
        SchemaKind::JsonSchema => "json",
        SchemaKind::Protobuf => "proto",
    }
}

pub(super) fn read(kind: SchemaKind, at: &At<Text>, message: Option<&At<Text>>, reader: &mut Reader<'_>) -> SchemaFile {
    let path = named_file(reader, at);
    if !path.is_file() {
        return SchemaFile::Missing;
    }
    let compiled = compile(kind, &path, message.map(|at| at.value.text.as_str()), reader);
    compiled.map_or_else(
        |error| {
            let name = reader.quote(at.span);
            let message = format!("the schema {name} can't be used: {}", clean(&error.to_string()));
            reader.report(Diagnostic::error("schema-file", at.span, message).help(help(kind)));
            SchemaFile::Unusable
        },
        SchemaFile::Compiled,
    )
}

const fn help(kind: SchemaKind) -> &'static str {
    match kind {
        SchemaKind::Avro => "the file has one Avro schema as JSON; named types are defined before they are used",
        SchemaKind::JsonSchema => "the file has one JSON Schema, which refers to no other file",
        SchemaKind::Protobuf => "imports are relative to the folder of the file; `google/protobuf/…` is built in",
    }
}

fn compile(
    kind: SchemaKind,
    path: &Path,
    message: Option<&str>,
    reader: &mut Reader<'_>,
) -> Result<Schema, SchemaError> {
    let text = text_of(path)?;
    let references = match kind {
        SchemaKind::Protobuf => imports(&text, path.parent().unwrap_or(Path::new("")), reader)?,
        SchemaKind::Avro | SchemaKind::JsonSchema => Vec::new(),
    };
    Schema::compile(SchemaText { kind, text, references }, message)
}

/// The files that a .proto file imports, those that others import first.
fn imports(text: &str, folder: &Path, reader: &mut Reader<'_>) -> Result<Vec<SchemaReference>, SchemaError> {
    let mut imports = Imports { folder, seen: HashSet::new(), found: Vec::new() };
    for name in proto_imports(text)? {
        imports.add(name, reader)?;
    }
    Ok(imports.found)
}

struct Imports<'a> {
    folder: &'a Path,
    seen: HashSet<String>,
    found: Vec<SchemaReference>,
}

impl Imports<'_> {
    fn add(&mut self, name: String, reader: &mut Reader<'_>) -> Result<(), SchemaError> {
        if !self.seen.insert(name.clone()) {
            return Ok(());
        }
        let in_file = |error: SchemaError| SchemaError { file: error.file.or_else(|| Some(name.clone())), ..error };
        if self.seen.len() > MAX_IMPORTS {
            return Err(SchemaError::of(format!("it imports more than {MAX_IMPORTS} files")));
        }
        if !Path::new(&name).components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(in_file(SchemaError::of("this import leaves the folder of the schema".to_owned())));
        }
        let path = self.folder.join(&name);
        reader.files.push(path.clone());
        let text = text_of(&path).map_err(in_file)?;
        for import in proto_imports(&text).map_err(in_file)? {
            self.add(import, reader)?;
        }
        self.found.push(SchemaReference { name, subject: None, version: None, text });
        Ok(())
    }
}

fn text_of(path: &Path) -> Result<String, SchemaError> {
    let unreadable = |error: std::io::Error| SchemaError::of(format!("it can't be read: {error}"));
    // Opening a pipe could block forever.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(SchemaError::of("it is no regular file".to_owned()));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(SchemaError::of(format!("it is larger than {} MiB", MAX_FILE >> 20)));
    }
    String::from_utf8(bytes).map_err(|_| SchemaError::of("it is not UTF-8".to_owned()))
}
