//! The latest schema of a subject, with the schemas that it refers to.

use std::collections::HashSet;

use super::client::{Reference, SchemaVersion};
use super::{RegisteredSchema, Registry, RegistryError};
use crate::event::{Schema, SchemaKind, SchemaReference, SchemaText};
use crate::tasks;

/// The largest number of schemas that one refers to, directly or by others.
const MAX_REFERENCES: usize = 32;

enum Step {
    Fetch(Reference),
    Add(SchemaReference),
}

impl Registry {
    /// None: the subject has no schema. A schema that is known is not compiled again.
    pub(super) async fn latest(
        &self,
        subject: &str,
        kind: SchemaKind,
        message: Option<&str>,
    ) -> Result<Option<RegisteredSchema>, RegistryError> {
        let Some(latest) = self.client.version(subject, "latest").await? else { return Ok(None) };
        let id = latest.id;
        if let Some(known) = self.known(subject).filter(|known| known.id == id) {
            return Ok(Some(known));
        }
        if latest.kind() != Some(kind) {
            return Err(RegistryError::other_kind(subject, &latest.schema_type, kind));
        }
        let version = latest.version;
        let references = self.references(subject, latest.references.unwrap_or_default()).await?;
        let text = SchemaText { kind, text: latest.schema, references };
        let message = message.map(str::to_owned);
        let compiling = tokio::task::spawn_blocking(move || Schema::compile(text, message.as_deref()));
        let unusable = |problem: String| RegistryError::unusable(subject, version, &problem);
        let compiled = compiling.await.map_err(|error| unusable(tasks::blocking_error("compiling it", &error)))?;
        let schema = compiled.map_err(|error| unusable(error.to_string()))?;
        Ok(Some(RegisteredSchema { id, schema }))
    }

    /// The schemas that are referred to, those that others refer to first.
    async fn references(&self, subject: &str, direct: Vec<Reference>) -> Result<Vec<SchemaReference>, RegistryError> {
        let mut steps: Vec<Step> = direct.into_iter().rev().map(Step::Fetch).collect();
        let (mut seen, mut found) = (HashSet::new(), Vec::new());
        while let Some(step) = steps.pop() {
            let reference = match step {
                Step::Add(reference) => {
                    found.push(reference);
                    continue;
                }
                Step::Fetch(reference) => reference,
            };
            if !seen.insert(reference.name.clone()) {
                continue;
            }
            if seen.len() > MAX_REFERENCES {
                return Err(RegistryError::too_many_references(subject, MAX_REFERENCES));
            }
            let fetched = self.client.version(&reference.subject, &reference.version.to_string()).await?;
            let Some(SchemaVersion { schema, references, .. }) = fetched else {
                return Err(RegistryError::no_reference(subject, &reference));
            };
            let Reference { name, subject, version } = reference;
            steps.push(Step::Add(SchemaReference {
                name,
                subject: Some(subject),
                version: Some(version),
                text: schema,
            }));
            steps.extend(references.unwrap_or_default().into_iter().rev().map(Step::Fetch));
        }
        Ok(found)
    }
}
