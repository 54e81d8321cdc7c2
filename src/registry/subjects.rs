//! What is known, by subject. If there are too many, the one that was unused for longest is forgotten.

use std::collections::HashMap;

use super::RegisteredSchema;

pub(super) struct KnownSubjects {
    max: usize,
    /// Counts uses, to tell which subject was unused for longest.
    uses: u64,
    subjects: HashMap<String, KnownSubject>,
}

struct KnownSubject {
    schema: RegisteredSchema,
    last_use: u64,
}

impl KnownSubjects {
    pub(super) fn new(max: usize) -> Self {
        Self { max, uses: 0, subjects: HashMap::new() }
    }

    pub(super) fn get(&mut self, subject: &str) -> Option<RegisteredSchema> {
        let known = self.subjects.get_mut(subject)?;
        self.uses += 1;
        known.last_use = self.uses;
        Some(known.schema.clone())
    }

    pub(super) fn insert(&mut self, subject: &str, schema: RegisteredSchema) {
        if self.subjects.len() >= self.max && !self.subjects.contains_key(subject) {
            let by_use = self.subjects.iter().min_by_key(|(_, known)| known.last_use);
            if let Some(oldest) = by_use.map(|(subject, _)| subject.clone()) {
                self.subjects.remove(&oldest);
            }
        }
        self.uses += 1;
        self.subjects.insert(subject.to_owned(), KnownSubject { schema, last_use: self.uses });
    }

    pub(super) fn remove(&mut self, subject: &str) {
        self.subjects.remove(subject);
    }

    pub(super) fn subjects(&self) -> Vec<String> {
        self.subjects.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Schema, SchemaKind};

    #[test]
    fn the_subject_that_was_unused_for_longest_is_forgotten() {
        let with_id = |id| RegisteredSchema { id, schema: Schema::of_event(SchemaKind::Avro) };
        let mut subjects = KnownSubjects::new(2);
        let get = |subjects: &mut KnownSubjects, subject| subjects.get(subject).map(|known| known.id);
        subjects.insert("a", with_id(1));
        subjects.insert("b", with_id(2));
        assert_eq!(get(&mut subjects, "a"), Some(1));
        subjects.insert("c", with_id(3));
        assert_eq!(["a", "b", "c"].map(|subject| get(&mut subjects, subject)), [Some(1), None, Some(3)]);
        subjects.insert("c", with_id(4));
        assert_eq!(["a", "c"].map(|subject| get(&mut subjects, subject)), [Some(1), Some(4)]);
    }
}
