//! Rows that a relay wrote before version 7 of the file: the sizes in them are a guess of then, and what they take is less.

use rusqlite::Connection;

/// A delivery counted 1,024 bytes beside its properties and its body, and takes about 300.
const DELIVERY_EXCESS: i64 = 724;
/// A dead letter counted 512 bytes beside its texts, its properties and its body, and takes about 320.
const LETTER_EXCESS: i64 = 190;

/// The last of these rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct OldSizes {
    pub(super) deliveries: i64,
    letters: i64,
}

impl OldSizes {
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let is_there = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'old_sizes')";
        if !connection.query_row(is_there, [], |row| row.get(0))? {
            // The relay that has the file is an older one.
            return Ok(Self { deliveries: i64::MAX, letters: i64::MAX });
        }
        let read = "SELECT coalesce(max(deliveries), 0), coalesce(max(dead_letters), 0) FROM old_sizes";
        connection.query_row(read, [], |row| Ok(Self { deliveries: row.get(0)?, letters: row.get(1)? }))
    }

    /// What a delivery takes, by its columns.
    pub(super) fn delivery(self, id: i64, size: i64) -> i64 {
        less(size, DELIVERY_EXCESS, id <= self.deliveries)
    }

    /// What a dead letter takes, by its columns.
    pub(super) fn letter(self, id: i64, size: i64) -> i64 {
        less(size, LETTER_EXCESS, id <= self.letters)
    }

    /// The same of all deliveries of a query.
    pub(super) fn sum_of_deliveries(self) -> String {
        sum(DELIVERY_EXCESS, self.deliveries)
    }

    /// The same of all dead letters of a query.
    pub(super) fn sum_of_letters(self) -> String {
        sum(LETTER_EXCESS, self.letters)
    }
}

fn less(size: i64, excess: i64, is_old: bool) -> i64 {
    if is_old { size.saturating_sub(excess).max(0) } else { size }
}

fn sum(excess: i64, last: i64) -> String {
    format!("coalesce(sum(max(size - {excess} * (id <= {last}), 0)), 0)")
}
