//! What rows take in the file: their cells in the pages of their table, pages of their own where they are long, and their entries in the
//! indexes. Measured in the tests, for rows of all sizes: within a fifth.
//!
//! After "Database File Format" of SQLite (<https://www.sqlite.org/fileformat2.html>), sections 1.6 (B-tree pages), 1.5 (overflow
//! pages) and 2.1 (records).

/// A page of the file, all of which is used.
const PAGE: usize = 4_096;
/// What a page of a table has for cells.
const PAGE_ROOM: usize = PAGE - 8;
/// A record in a table that is longer goes on in overflow pages …
const MAX_IN_TABLE: usize = PAGE - 35;
/// … and so does one in an index.
const MAX_IN_INDEX: usize = (PAGE - 12) * 64 / 255 - 23;
/// What of a longer record stays in its page at least.
const MIN_LOCAL: usize = (PAGE - 12) * 32 / 255 - 23;
/// What an overflow page holds: the rest is the number of the next one.
const OVERFLOW_ROOM: usize = PAGE - 4;
/// Beside the record of a row: its length, its number, its place in the page.
const ROW_CELL: usize = 7;
/// Beside the record of an index entry: its length, its place in the page.
const ENTRY_CELL: usize = 5;

/// How full the pages of an index are, in percent.
#[derive(Debug, Clone, Copy)]
enum Fill {
    /// Entries come in no order: each page that is full becomes two.
    Random = 69,
    /// Entries come in order, behind those of the same sink.
    Grouped = 80,
}

/// What a row takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Footprint {
    /// In a page that it shares with other rows.
    cell: usize,
    /// In pages of its own, and in indexes.
    beside: usize,
}

/// The page that the next row of a table goes to: what is left of it when that row does not fit is lost, and counts as the row's.
#[derive(Debug, Default)]
pub(super) struct LastPage {
    left: usize,
}

impl LastPage {
    /// What that row takes in the file, in bytes, if it is the next one.
    pub(super) fn add(&mut self, row: &Footprint) -> u64 {
        let lost = if row.cell <= self.left { 0 } else { std::mem::replace(&mut self.left, PAGE_ROOM) };
        self.left = self.left.saturating_sub(row.cell);
        u64::try_from(lost + row.cell + row.beside).unwrap_or(u64::MAX)
    }
}

/// The lengths that matter of a delivery.
#[derive(Debug, Clone, Copy)]
pub(super) struct DeliveryLengths {
    pub(super) sink: usize,
    /// Of all texts but the sink's name, and of the body: a [`field`] each.
    pub(super) others: usize,
}

/// The lengths that matter of a dead letter.
#[derive(Debug, Clone, Copy)]
pub(super) struct LetterLengths {
    pub(super) sink: usize,
    pub(super) reason: usize,
    pub(super) correlation_id: usize,
    /// Of all other texts, and of the body: a [`field`] each.
    pub(super) others: usize,
}

impl Footprint {
    pub(super) fn of_delivery(lengths: DeliveryLengths) -> Self {
        let DeliveryLengths { sink, others } = lengths;
        // Ten columns with their types that are no texts: the event's id, the key, two times, the boot, the size, small numbers.
        let row = Self::row(field(sink) + others + 55);
        let by_key = entry(sink + 36, Fill::Random);
        let by_age = entry(sink + 14, Fill::Grouped);
        // Most are the only one of their key.
        let head = sink + 20;
        let heads_by_due = entry(sink + 14, Fill::Grouped);
        row.with(by_key + by_age + head + heads_by_due)
    }

    pub(super) fn of_letter(lengths: LetterLengths) -> Self {
        let LetterLengths { sink, reason, correlation_id, others } = lengths;
        // Eight columns with their types that are no texts: two ids, two times, the boot, the size, small numbers.
        let row = Self::row(field(sink) + field(reason) + field(correlation_id) + others + 61);
        let by_age = entry(13, Fill::Grouped) + entry(20, Fill::Grouped);
        let by_correlation_id = entry(correlation_id + 7, Fill::Random);
        let by_reason = entry(reason + sink + 12, Fill::Grouped);
        let by_identity = entry(23, Fill::Random);
        row.with(by_age + by_correlation_id + by_reason + by_identity)
    }

    fn row(record: usize) -> Self {
        let (local, overflow) = split(record, MAX_IN_TABLE);
        Self { cell: local + ROW_CELL, beside: overflow }
    }

    fn with(self, indexes: usize) -> Self {
        Self { beside: self.beside + indexes, ..self }
    }
}

/// What a text or a body takes in a record, its type included.
pub(super) fn field(length: usize) -> usize {
    let kind = match length {
        0..=57 => 1,
        58..=8_185 => 2,
        8_186..=1_048_569 => 3,
        _ => 4,
    };
    length + kind
}

/// What an entry of an index takes.
fn entry(record: usize, fill: Fill) -> usize {
    let (local, overflow) = split(record, MAX_IN_INDEX);
    (local + ENTRY_CELL) * 100 / fill as usize + overflow
}

/// How much of a record is in its page, and what its overflow pages take.
fn split(record: usize, most: usize) -> (usize, usize) {
    if record <= most {
        return (record, 0);
    }
    let even = MIN_LOCAL + (record - MIN_LOCAL) % OVERFLOW_ROOM;
    let local = if even <= most { even } else { MIN_LOCAL };
    (local, (record - local).div_ceil(OVERFLOW_ROOM) * PAGE)
}
