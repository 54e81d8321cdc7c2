//! How much of the file a row takes: its cell in a page of the table, its overflow pages, and its entries in the indexes. Tests compare it
//! with the pages that are used, for rows of all sizes: the difference is less than a fifth.
//!
//! The formulas follow SQLite's "Database File Format" (<https://www.sqlite.org/fileformat2.html>), sections 1.6 (B-tree pages), 1.5
//! (overflow pages) and 2.1 (records).

/// The size of a page, all of which is usable.
const PAGE: usize = 4_096;
/// The space for cells in a page of a table.
const PAGE_ROOM: usize = PAGE - 8;
/// A longer record in a table continues in overflow pages.
const MAX_IN_TABLE: usize = PAGE - 35;
/// A longer record in an index continues in overflow pages.
const MAX_IN_INDEX: usize = (PAGE - 12) * 64 / 255 - 23;
/// At least this much of a record with overflow pages stays in the page itself.
const MIN_LOCAL: usize = (PAGE - 12) * 32 / 255 - 23;
/// The content of an overflow page: the rest is the number of the next one.
const OVERFLOW_ROOM: usize = PAGE - 4;
/// The size of a row in addition to its record: its length, its number and its place in the page.
const ROW_CELL: usize = 7;
/// The size of an index entry in addition to its record: its length and its place in the page.
const ENTRY_CELL: usize = 5;

/// The number of a digest with its type, in bytes.
const DIGEST_NUMBER: usize = 5;

/// How full the pages of an index are, in percent.
#[derive(Debug, Clone, Copy)]
enum Fill {
    /// Entries come in random order: each full page is split in two.
    Random = 69,
    /// Entries of one sink come in order, behind each other.
    Grouped = 80,
}

/// The size of a row in the file, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowSize {
    /// In a page that the row shares with others.
    cell: usize,
    /// In overflow pages and in indexes.
    beside: usize,
}

/// The free space of the page to which a table's next row goes. A row that doesn't fit starts a new page; the free space that it leaves
/// behind is lost, and counts as a part of the row.
#[derive(Debug, Default)]
pub(super) struct CurrentPage {
    left: usize,
}

impl CurrentPage {
    /// Adds the table's next row. Returns its size, in bytes.
    pub(super) fn add(&mut self, row: &RowSize) -> u64 {
        let lost = if row.cell <= self.left { 0 } else { std::mem::replace(&mut self.left, PAGE_ROOM) };
        self.left = self.left.saturating_sub(row.cell);
        u64::try_from(lost + row.cell + row.beside).unwrap_or(u64::MAX)
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct DeliveryLengths {
    /// It gets the number of a digest.
    pub(super) is_grouped: bool,
    pub(super) sink: usize,
    /// Of all other texts and the body: the sum of their [`field_size`]s.
    pub(super) others: usize,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct DeadLetterLengths {
    pub(super) sink: usize,
    pub(super) reason: usize,
    pub(super) correlation_id: usize,
    /// Of all other texts and the body: the sum of their [`field_size`]s.
    pub(super) others: usize,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct RequestLengths {
    pub(super) alert: usize,
    /// Of all texts: the sum of their [`field_size`]s.
    pub(super) others: usize,
}

impl RowSize {
    pub(super) fn of_request(lengths: RequestLengths) -> Self {
        let RequestLengths { alert, others } = lengths;
        // The columns that are no texts, with their types: the hash, the boot, three times, the state.
        let row = Self::row(others + 46);
        // Requests come in the order of their due times, more or less.
        let by_due = index_entry_size(alert + 24, Fill::Grouped);
        let by_request = index_entry_size(14, Fill::Random);
        row.with(by_due + by_request)
    }

    /// What it takes on average, in bytes: the space lost at the end of a page is left out.
    pub(super) fn bytes(self) -> u64 {
        u64::try_from(self.cell + self.beside).unwrap_or(u64::MAX)
    }

    pub(super) fn of_delivery(lengths: DeliveryLengths) -> Self {
        let DeliveryLengths { is_grouped, sink, others } = lengths;
        let digest = if is_grouped { DIGEST_NUMBER } else { 1 };
        // The columns that are no texts, with their types: the event's id, the key, two times, the boot, the size, the attempts, whether it is replayed.
        let row = Self::row(field_size(sink) + others + digest + 54);
        let by_key = index_entry_size(sink + 36, Fill::Random);
        let by_age = index_entry_size(sink + 14, Fill::Grouped);
        // Most deliveries are the only one of their key, so each has a head.
        let head = sink + 20;
        let heads_by_due = index_entry_size(sink + 14, Fill::Grouped);
        row.with(by_key + by_age + head + heads_by_due)
    }

    pub(super) fn of_dead_letter(lengths: DeadLetterLengths) -> Self {
        let DeadLetterLengths { sink, reason, correlation_id, others } = lengths;
        // The columns that are no texts, with their types: two ids, two times, the boot, the size, the attempts.
        let row = Self::row(field_size(sink) + field_size(reason) + field_size(correlation_id) + others + 61);
        let by_age = index_entry_size(13, Fill::Grouped) + index_entry_size(20, Fill::Grouped);
        let by_correlation_id = index_entry_size(correlation_id + 7, Fill::Random);
        let by_reason = index_entry_size(reason + sink + 12, Fill::Grouped);
        let by_identity = index_entry_size(23, Fill::Random);
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

/// The size of a text or a body of that length in a record, with its type, in bytes.
pub(super) fn field_size(length: usize) -> usize {
    let kind = match length {
        0..=57 => 1,
        58..=8_185 => 2,
        8_186..=1_048_569 => 3,
        _ => 4,
    };
    length + kind
}

fn index_entry_size(record: usize, fill: Fill) -> usize {
    let (local, overflow) = split(record, MAX_IN_INDEX);
    (local + ENTRY_CELL) * 100 / fill as usize + overflow
}

/// The size of a record's part in its page, and the size of its overflow pages.
fn split(record: usize, most: usize) -> (usize, usize) {
    if record <= most {
        return (record, 0);
    }
    let even = MIN_LOCAL + (record - MIN_LOCAL) % OVERFLOW_ROOM;
    let local = if even <= most { even } else { MIN_LOCAL };
    (local, (record - local).div_ceil(OVERFLOW_ROOM) * PAGE)
}
