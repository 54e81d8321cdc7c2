//! How many deliveries wait in each group for their digest, so that a full group is delivered at once.
//!
//! They wait in the spool. A group that is not counted here, as after a restart, is delivered when it has waited long enough.

use foldhash::HashMap;

/// More groups are not counted.
const MAX_OPEN_GROUPS: usize = 65_536;

/// By the key of the group.
#[derive(Debug, Default)]
pub(super) struct OpenGroups(HashMap<u64, usize>);

impl OpenGroups {
    /// One more delivery waits. True: with it the group has `max`.
    pub(super) fn add(&mut self, key: u64, max: usize) -> bool {
        if self.0.len() >= MAX_OPEN_GROUPS && !self.0.contains_key(&key) {
            return false;
        }
        let count = self.0.entry(key).or_default();
        *count += 1;
        *count == max
    }

    /// A delivery was put into a digest.
    pub(super) fn remove(&mut self, key: u64) {
        let Some(count) = self.0.get_mut(&key) else { return };
        *count = count.saturating_sub(1);
        if *count == 0 {
            self.0.remove(&key);
        }
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_full_once_and_the_number_of_groups_is_bounded() {
        let mut groups = OpenGroups::default();
        let full: Vec<_> = (0..5).map(|_| groups.add(1, 3)).collect();
        assert_eq!(full, [false, false, true, false, false]);
        for _ in 0..3 {
            groups.remove(1);
        }
        assert!(groups.add(1, 3), "two were left");
        for key in 0..=MAX_OPEN_GROUPS as u64 {
            groups.add(key, 3);
        }
        assert_eq!(groups.0.len(), MAX_OPEN_GROUPS);
        groups.remove(0);
        assert!(!groups.0.contains_key(&0));
    }
}
