//! The ids that are known, by subject. If there are too many, the one that was unused for longest is forgotten.

use std::collections::HashMap;

pub(super) struct KnownIds {
    max: usize,
    /// Counts uses, to tell which id was unused for longest.
    uses: u64,
    ids: HashMap<String, KnownId>,
}

struct KnownId {
    id: u32,
    last_use: u64,
}

impl KnownIds {
    pub(super) fn new(max: usize) -> Self {
        Self { max, uses: 0, ids: HashMap::new() }
    }

    pub(super) fn get(&mut self, subject: &str) -> Option<u32> {
        let known = self.ids.get_mut(subject)?;
        self.uses += 1;
        known.last_use = self.uses;
        Some(known.id)
    }

    pub(super) fn insert(&mut self, subject: &str, id: u32) {
        if self.ids.len() >= self.max && !self.ids.contains_key(subject) {
            let oldest = self.ids.iter().min_by_key(|(_, known)| known.last_use).map(|(subject, _)| subject.clone());
            if let Some(oldest) = oldest {
                self.ids.remove(&oldest);
            }
        }
        self.uses += 1;
        self.ids.insert(subject.to_owned(), KnownId { id, last_use: self.uses });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_that_was_unused_for_longest_is_forgotten() {
        let mut ids = KnownIds::new(2);
        ids.insert("a", 1);
        ids.insert("b", 2);
        assert_eq!(ids.get("a"), Some(1));
        ids.insert("c", 3);
        assert_eq!([ids.get("a"), ids.get("b"), ids.get("c")], [Some(1), None, Some(3)]);
        ids.insert("c", 4);
        assert_eq!([ids.get("a"), ids.get("c")], [Some(1), Some(4)]);
    }
}
