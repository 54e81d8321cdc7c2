//! The filter of dead letters as the conditions of a query.

use rusqlite::types::ToSql;

use crate::event::Reason;
use crate::spool::DeadLetterFilter;

impl DeadLetterFilter {
    pub(in crate::spool) fn order(&self) -> &'static str {
        if self.oldest_first { "ORDER BY id" } else { "ORDER BY id DESC" }
    }

    /// The conditions of a query, without the limit, and their values. Only fields that are given become conditions, so that SQLite
    /// can choose an index for them.
    pub(in crate::spool) fn conditions(&self) -> (String, Vec<Box<dyn ToSql>>) {
        let texts = [
            ("tenant = ?", self.tenant.as_deref()),
            ("status = ?", self.status.as_deref()),
            ("sink = ?", self.sink.as_deref()),
            ("reason = ?", self.reason.map(Reason::as_str)),
            ("correlation_id = ?", self.correlation_id.as_deref()),
        ];
        let numbers = [("at >= ?", self.since), ("id > ?", self.above), ("id <= ?", self.up_to)];
        let mut conditions = Vec::new();
        let mut values: Vec<Box<dyn ToSql>> = Vec::new();
        for (condition, value) in texts {
            if let Some(value) = value {
                conditions.push(condition);
                values.push(Box::new(value.to_owned()));
            }
        }
        for (condition, value) in numbers {
            if let Some(value) = value {
                conditions.push(condition);
                values.push(Box::new(value));
            }
        }
        if conditions.is_empty() { ("true".to_owned(), values) } else { (conditions.join(" AND "), values) }
    }
}
