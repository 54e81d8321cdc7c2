//! Which deliveries of a key belong to one digest, and how many digests are fetched at once.

use std::ops::ControlFlow;

use super::delivery::{DigestLimit, DueDeliveries, FetchLimit, RowId, SpooledDelivery};
use super::outcome::FetchedDeliveries;
use super::unreadable::UnreadableDelivery;
use crate::clock::MonotonicTime;

/// Between two deliveries of a digest there are at most so many others: redriven ones whose numbers were given before, and damaged ones.
const MAX_BETWEEN: usize = 100;

/// Whether a head, a row of `heads`, waits for more events of its group: a condition in SQL.
pub(super) const WAITS_FOR_GROUP: &str = "EXISTS (SELECT 1 FROM deliveries d \
                                          WHERE d.id = heads.id AND d.group_by IS NOT NULL AND d.digest IS NULL)";

/// The digests of one fetch.
#[derive(Default)]
pub(super) struct FetchedDigests {
    rows: Vec<(RowId, SpooledDelivery)>,
    unreadable: Vec<UnreadableDelivery>,
    bytes: usize,
}

impl FetchedDigests {
    /// Whether the digest is within the limit. A first one always is.
    pub(super) fn has_room_for(&self, digest: &Digest, limit: FetchLimit) -> bool {
        let count = self.rows.len() + digest.rows.len();
        self.rows.is_empty() || (count <= limit.count && self.bytes.saturating_add(digest.size()) <= limit.bytes)
    }

    /// Adds a digest whose first delivery was refused so often.
    pub(super) fn push(&mut self, mut digest: Digest, refusals: u32) {
        self.bytes = self.bytes.saturating_add(digest.size());
        if let Some((_, first)) = digest.rows.first_mut() {
            first.refusals = refusals;
        }
        self.rows.append(&mut digest.rows);
        self.unreadable.append(&mut digest.unreadable);
    }

    /// `next` is the due time of the first digest that is not among them.
    pub(super) fn into_deliveries(self, next: Option<MonotonicTime>) -> FetchedDeliveries {
        FetchedDeliveries { due: DueDeliveries { rows: self.rows, next }, unreadable: self.unreadable }
    }
}

/// The deliveries of one digest.
#[derive(Default)]
pub(super) struct Digest {
    /// In the order of receipt.
    pub(super) rows: Vec<(RowId, SpooledDelivery)>,
    unreadable: Vec<UnreadableDelivery>,
    /// Of the rows, as the limits of the spool count them.
    bytes: u64,
    /// How many others were between its deliveries.
    between: usize,
}

impl Digest {
    /// In bytes: what it takes in memory, as the limit of a fetch counts it.
    fn size(&self) -> usize {
        let readable = self.rows.iter().map(|(_, row)| row.message.size());
        readable.chain(self.unreadable.iter().map(UnreadableDelivery::size)).fold(0, usize::saturating_add)
    }

    /// It was put together before, and stays as it is.
    fn is_fixed(&self) -> bool {
        self.rows.first().is_some_and(|(_, first)| first.digest.is_some())
    }

    /// Puts it together for good. Returns the first of its deliveries, by which the others are stored, and all of them; `None`: nothing has
    /// to be stored.
    pub(super) fn fix(&mut self) -> Option<(RowId, Vec<RowId>)> {
        if self.is_fixed() {
            return None;
        }
        let first = self.rows.first()?.0;
        for (_, row) in &mut self.rows {
            row.digest = Some(first);
        }
        Some((first, self.rows.iter().map(|(id, _)| *id).collect()))
    }

    /// Adds the next delivery of the key, which takes `size` bytes in the spool, if it belongs to the digest. Breaks if no later one does.
    pub(super) fn push(
        &mut self,
        id: RowId,
        found: Result<SpooledDelivery, UnreadableDelivery>,
        size: u64,
        limit: DigestLimit,
    ) -> ControlFlow<()> {
        match found {
            Err(unreadable) if self.unreadable.len() < MAX_BETWEEN => self.unreadable.push(unreadable),
            Ok(delivery) if self.takes(&delivery, size, limit) => {
                self.bytes = self.bytes.saturating_add(size);
                self.rows.push((id, delivery));
            }
            Ok(_) if self.is_fixed() && self.between < MAX_BETWEEN => self.between += 1,
            Ok(_) | Err(_) => return ControlFlow::Break(()),
        }
        ControlFlow::Continue(())
    }

    /// Whether the next delivery of the key, which has `size` bytes, belongs to it.
    fn takes(&self, row: &SpooledDelivery, size: u64, limit: DigestLimit) -> bool {
        let Some((_, first)) = self.rows.first() else { return true };
        if first.digest.is_some() {
            return row.digest == first.digest;
        }
        first.group.is_some()
            && row.group == first.group
            && row.digest.is_none()
            && self.rows.len() < limit.count
            && self.bytes.saturating_add(size) <= limit.bytes
    }
}
