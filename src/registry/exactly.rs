//! The id of exactly one schema under a subject.
//!
//! A schema of Protobuf names the files that it imports by their subjects and versions. Each import is under the subject of its own
//! name (`demo/units.proto`), as Confluent's serializers register it.

use super::client::Reference;
use super::{RegisteredSchema, Registry, RegistryError};
use crate::event::{Schema, SchemaKind, SchemaText, proto_imports};

impl Registry {
    /// `registers`: a schema that isn't there is registered, with the files that it imports.
    pub(super) async fn look_up(
        &self,
        subject: &str,
        schema: &Schema,
        registers: bool,
    ) -> Result<Option<RegisteredSchema>, RegistryError> {
        let imports = self.imports(schema.text(), registers).await;
        let Some(references) = imports.map_err(|error| error.of_import(subject))? else { return Ok(None) };
        let found = self.client.look_up(subject, schema.text(), &references).await?;
        let id = match found {
            Some(found) => Some(found.id),
            None if registers => Some(self.client.register(subject, schema.text(), &references).await?),
            None => None,
        };
        Ok(id.map(|id| RegisteredSchema { id, schema: schema.clone() }))
    }

    /// The files that the schema itself imports, as the registry has them. None: it doesn't have one that the relay may register.
    async fn imports(&self, schema: &SchemaText, registers: bool) -> Result<Option<Vec<Reference>>, RegistryError> {
        if schema.kind != SchemaKind::Protobuf || schema.references.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let mut known: Vec<Reference> = Vec::with_capacity(schema.references.len());
        // Those that others import come first.
        for import in &schema.references {
            let text = SchemaText { kind: schema.kind, text: import.text.clone(), references: Vec::new() };
            let references = of(&text, &known);
            let subject = &import.name;
            let found = self.client.look_up(subject, &text, &references).await?;
            let found = match found {
                None if registers => {
                    self.client.register(subject, &text, &references).await?;
                    self.client.look_up(subject, &text, &references).await?
                }
                found => found,
            };
            match found {
                Some(found) => known.push(Reference::new(subject, found.version)),
                None if registers => return Err(RegistryError::lost(subject)),
                None if self.register => return Ok(None),
                None => return Err(RegistryError::missing_import(subject)),
            }
        }
        Ok(Some(of(schema, &known)))
    }
}

/// Of the known files, those that this one imports.
fn of(schema: &SchemaText, known: &[Reference]) -> Vec<Reference> {
    // The schema was compiled, so that its imports can be read.
    let imports = proto_imports(&schema.text).unwrap_or_default();
    known.iter().filter(|reference| imports.contains(&reference.name)).cloned().collect()
}
