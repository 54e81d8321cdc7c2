//! The tables that a file and a database have in common.

use super::{Row, Value};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::spool) enum ColumnKind {
    Integer,
    /// 0 or 1 in a file.
    Boolean,
    Text,
    /// A text from messages, which can have NUL.
    MessageText,
    Bytes,
}

#[derive(Debug)]
pub(in crate::spool) struct Table {
    pub(in crate::spool) name: &'static str,
    pub(in crate::spool) columns: &'static [(&'static str, ColumnKind)],
    /// How many of the first columns are the primary key.
    pub(in crate::spool) key: usize,
}

impl Table {
    pub(super) fn key_of(&self, row: &Row) -> Vec<Value> {
        row.iter().take(self.key).cloned().collect()
    }

    /// The names of the columns, for a statement.
    pub(in crate::spool) fn names(&self) -> String {
        join(self.columns)
    }

    pub(in crate::spool) fn key_names(&self) -> String {
        join(self.columns.get(..self.key).unwrap_or(self.columns))
    }
}

fn join(columns: &[(&str, ColumnKind)]) -> String {
    columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

use ColumnKind::{Boolean, Bytes, Integer, MessageText, Text};

pub(super) static DELIVERIES: Table = Table {
    name: "deliveries",
    columns: &[
        ("id", Integer),
        ("digest", Integer),
        ("sink", Text),
        ("key", Integer),
        ("received", Integer),
        ("boot", Integer),
        ("uptime", Integer),
        ("attempts", Integer),
        ("replayed", Boolean),
        ("last_error", MessageText),
        ("route", Text),
        ("type", Text),
        ("tenant", MessageText),
        ("event_id", Bytes),
        ("source", Text),
        ("size", Integer),
        ("properties", Text),
        ("body", Bytes),
        ("group_by", Text),
    ],
    key: 1,
};

pub(super) static HEADS: Table = Table {
    name: "heads",
    columns: &[("id", Integer), ("sink", Text), ("due", Integer), ("refusals", Integer)],
    key: 1,
};

pub(super) static DEAD_LETTERS: Table = Table {
    name: "dead_letters",
    columns: &[
        ("id", Integer),
        ("at", Integer),
        ("boot", Integer),
        ("uptime", Integer),
        ("reason", Text),
        ("detail", MessageText),
        ("sink", Text),
        ("source", Text),
        ("tenant", MessageText),
        ("status", MessageText),
        ("correlation_id", MessageText),
        ("event_id", Bytes),
        ("identity", Bytes),
        ("route", Text),
        ("type", Text),
        ("attempts", Integer),
        ("size", Integer),
        ("properties", MessageText),
        ("body", Bytes),
    ],
    key: 1,
};

pub(super) static STATES: Table =
    Table { name: "states", columns: &[("kind", Text), ("name", Text), ("state", Text)], key: 2 };

pub(super) static REQUESTS: Table = Table {
    name: "requests",
    columns: &[
        ("id", Integer),
        ("request", Integer),
        ("alert", Text),
        ("state", Integer),
        ("boot", Integer),
        ("due", Integer),
        ("tenant", MessageText),
        ("correlation_id", MessageText),
        ("product_id", MessageText),
        ("session", MessageText),
        ("expires", MessageText),
        ("status", MessageText),
        ("received", Integer),
        ("time_limit", Text),
        ("overdue", Integer),
        ("receivers", Text),
    ],
    key: 1,
};

pub(super) static RAISED_ALERTS: Table = Table {
    name: "raised_alerts",
    columns: &[("alert", Text), ("subject", MessageText), ("state", MessageText)],
    key: 2,
};

#[cfg(test)]
mod tests {
    use super::*;

    /// A column that is added to one of the schemas has to be moved, too.
    #[test]
    fn all_columns_of_both_schemas_are_moved() {
        let files = [include_str!("../sqlite/schema.sql"), include_str!("../sqlite/alerts.sql")].concat();
        let databases = include_str!("../postgres/shard.sql");
        for table in [&DELIVERIES, &HEADS, &DEAD_LETTERS, &STATES, &REQUESTS, &RAISED_ALERTS] {
            let mut moved: Vec<_> = table.columns.iter().map(|(name, _)| (*name).to_owned()).collect();
            moved.sort();
            for (schema, others) in [(files.as_str(), &[][..]), (databases, &["shard"])] {
                assert_eq!(columns(schema, table.name, others), moved, "{}", table.name);
            }
        }
    }

    fn columns(schema: &str, table: &str, but: &[&str]) -> Vec<String> {
        let begin = schema.find(&format!(" {table} (\n")).expect("the table");
        let lines = schema[begin..].lines().skip(1).take_while(|line| !line.starts_with(')'));
        let names = lines.map(|line| line.split_whitespace().next().expect("a word").to_owned());
        let mut names: Vec<_> = names.filter(|name| name != "PRIMARY" && !but.contains(&name.as_str())).collect();
        names.sort();
        names
    }
}
