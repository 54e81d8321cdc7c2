//! Which dead letters are meant.

use rusqlite::types::ToSql;
use serde::{Deserialize, Serialize};

use crate::event::Reason;

/// Which dead letters: all that is given must be so.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Exactly this tenant.
    pub tenant: Option<String>,
    /// Exactly this status.
    pub status: Option<String>,
    /// Exactly this sink.
    pub sink: Option<String>,
    /// This reason.
    pub reason: Option<Reason>,
    /// Exactly this correlation id.
    pub correlation_id: Option<String>,
    /// Not older than this, in milliseconds since 1970.
    pub since: Option<i64>,
    /// None newer than the one of this id.
    pub up_to: Option<i64>,
    /// At most so many, the first in order.
    pub limit: Option<u64>,
    /// In the order in which they became dead letters; otherwise the newest come first.
    pub oldest_first: bool,
}

impl Filter {
    /// The order of a query.
    pub(super) fn order(&self) -> &'static str {
        if self.oldest_first { "ORDER BY id" } else { "ORDER BY id DESC" }
    }

    /// What a query says after `WHERE`, but for the limit, with its values. Only what is given becomes a condition, so that
    /// SQLite can choose an index for it.
    pub(super) fn conditions(&self) -> (String, Vec<Box<dyn ToSql>>) {
        let texts = [
            ("tenant = ?", self.tenant.as_deref()),
            ("status = ?", self.status.as_deref()),
            ("sink = ?", self.sink.as_deref()),
            ("reason = ?", self.reason.map(Reason::as_str)),
            ("correlation_id = ?", self.correlation_id.as_deref()),
        ];
        let numbers = [("at >= ?", self.since), ("id <= ?", self.up_to)];
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
