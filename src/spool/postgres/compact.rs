//! Gives the space of large tables back that are almost empty. VACUUM frees the rows of a drained backlog, but it shortens no index, and
//! a table only up to its last row.

use std::time::Duration;

use tokio_postgres::error::SqlState;

use super::ownership::{Access, Ownership};
use crate::postgres::Connection;
use crate::postgres::PostgresError;
use crate::spool::SpoolError;

/// How often the tables are looked at.
pub(super) const INTERVAL: Duration = Duration::from_mins(1);

/// Smaller tables are left alone. In bytes, with their indexes.
const MIN_SIZE: i64 = 32 << 20;

/// A table with more rows, also dead ones, is not written anew: the writer waits for that.
const MAX_ROWS: i64 = 10_000;

/// Writes large tables with few rows anew. Tables that somebody else reads at this moment are left for the next time.
pub(super) async fn compact(connection: &Connection, ownership: &Ownership) -> Result<(), SpoolError> {
    let large = "SELECT relid::regclass::text, indexrelid::regclass::text FROM pg_stat_user_tables \
                 JOIN pg_index ON indrelid = relid AND indisprimary \
                 WHERE schemaname = current_schema() AND n_live_tup + n_dead_tup <= $1 \
                 AND pg_total_relation_size(relid) >= $2";
    let large = connection.rows(large, &[&MAX_ROWS, &MIN_SIZE]).await?;
    let large: Vec<(String, String)> = connection.decode(&large, |row| Ok((row.try_get(0)?, row.try_get(1)?)))?;
    for (table, key) in large {
        ownership.begin(connection, Access::Write).await?;
        match rewrite(connection, &table, &key).await {
            Ok(()) => connection.batch("COMMIT").await?,
            Err(error) if error.sqlstate() == Some(SqlState::LOCK_NOT_AVAILABLE.code()) => {
                connection.batch("ROLLBACK").await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn rewrite(connection: &Connection, table: &str, key: &str) -> Result<(), PostgresError> {
    connection.batch(&format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE NOWAIT")).await?;
    // The index still has the entries of all removed rows: it reads the table and sorts.
    connection.batch(&format!("SET LOCAL enable_seqscan TO on; CLUSTER {table} USING {key}")).await
}
