//! A shard: the part of the spool that one owner has. Its tables are in a schema of their own.

use crate::postgres::{Connection, PostgresError};

/// The tables that each shard has, and that exist for all of them as `all_TABLE`.
pub(super) const TABLES: [&str; 6] = ["deliveries", "heads", "dead_letters", "states", "requests", "raised_alerts"];

#[derive(Debug, Clone)]
pub(super) struct Shard {
    pub(super) number: i16,
    /// With the tables of all shards.
    pub(super) shared: String,
    /// With the tables of this one.
    pub(super) schema: String,
}

impl Shard {
    /// `shared` is the schema of the spool.
    pub(super) fn new(shared: &str, number: i16) -> Self {
        // A spool that was never divided needs no second schema.
        let schema = if number == 0 { shared.to_owned() } else { format!("{shared}_shard_{number}") };
        Self { number, shared: shared.to_owned(), schema }
    }

    /// From now on statements of the connection name the tables of this shard.
    pub(super) async fn use_in(&self, connection: &Connection) -> Result<(), PostgresError> {
        connection.batch(&format!("SET search_path TO {}", self.search_path())).await
    }

    /// Where statements find the tables that they name.
    pub(super) fn search_path(&self) -> String {
        if self.number == 0 {
            format!("\"{}\"", self.shared)
        } else {
            format!("\"{}\", \"{}\"", self.schema, self.shared)
        }
    }
}
