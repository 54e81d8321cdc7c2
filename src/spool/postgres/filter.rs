//! The filter of dead letters as the conditions of a query.

use tokio_postgres::types::ToSql;

use super::text::escape;
use crate::event::Reason;
use crate::spool::{DeadLetterFilter, DeadLetterSummary};

/// The conditions of a query, and their values. Only fields that are given become conditions, so that an index can be chosen for them.
#[derive(Default)]
pub(super) struct Conditions {
    conditions: Vec<String>,
    values: Vec<Box<dyn ToSql + Sync + Send>>,
}

impl Conditions {
    pub(super) fn of(filter: &DeadLetterFilter) -> Self {
        let mut conditions = Self::default();
        let texts = [
            ("tenant = ", filter.tenant.as_deref()),
            ("status = ", filter.status.as_deref()),
            ("sink = ", filter.sink.as_deref()),
            ("reason = ", filter.reason.map(Reason::as_str)),
            ("correlation_id = ", filter.correlation_id.as_deref()),
        ];
        for (condition, value) in texts {
            if let Some(value) = value {
                conditions.add(condition, escape(value).into_owned());
            }
        }
        for (condition, value) in [("at >= ", filter.since), ("id > ", filter.above), ("id <= ", filter.up_to)] {
            if let Some(value) = value {
                conditions.add(condition, value);
            }
        }
        conditions
    }

    /// The order of one shard's dead letters.
    pub(super) fn order(filter: &DeadLetterFilter) -> &'static str {
        if filter.oldest_first { "ORDER BY id" } else { "ORDER BY id DESC" }
    }

    /// The order of all shards' dead letters: the numbers of each shard begin with its own.
    pub(super) fn order_of_all(filter: &DeadLetterFilter) -> &'static str {
        if filter.oldest_first { "ORDER BY at, id" } else { "ORDER BY at DESC, id DESC" }
    }

    /// Only what follows that dead letter in the order of all shards.
    pub(super) fn add_follows(&mut self, filter: &DeadLetterFilter, last: &DeadLetterSummary) {
        let [at, id] = [last.at.0, last.id].map(|value| self.value(value));
        let follows = if filter.oldest_first { '>' } else { '<' };
        self.conditions.push(format!("(at, id) {follows} ({at}, {id})"));
    }

    pub(super) fn add(&mut self, condition: &str, value: impl ToSql + Sync + Send + 'static) -> &mut Self {
        let value = self.value(value);
        self.conditions.push(format!("{condition}{value}"));
        self
    }

    /// The name of the value in a statement.
    pub(super) fn value(&mut self, value: impl ToSql + Sync + Send + 'static) -> String {
        self.values.push(Box::new(value));
        format!("${}", self.values.len())
    }

    pub(super) fn text(&self) -> String {
        if self.conditions.is_empty() { "true".to_owned() } else { self.conditions.join(" AND ") }
    }

    pub(super) fn values(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.values.iter().map(|value| -> &(dyn ToSql + Sync) { &**value }).collect()
    }
}
