//! The tables of the journal: they are made when it is first written, and have a version.

use crate::config::PostgresConfig;
use crate::journal::JournalError;
use crate::postgres::{Connection, PostgresError, create_schema, create_with_others};

pub(in crate::journal) const VERSION: i32 = 1;

const TABLES: &str = include_str!("tables.sql");
/// It has one row, which a relay locks while it writes.
const EXTENT: &str = "CREATE TABLE IF NOT EXISTS journal (version integer NOT NULL, first bigint NOT NULL, last bigint NOT NULL, \
                      records bigint NOT NULL, bytes bigint NOT NULL) WITH (fillfactor = 10)";

/// Creates the schema and the tables that are missing.
pub(super) async fn create(connection: &Connection, config: &PostgresConfig) -> Result<(), JournalError> {
    if check(connection, config).await? {
        return Ok(());
    }
    let create = async || -> Result<(), PostgresError> {
        let schema = create_schema(connection, &config.schema).await?;
        connection.batch(&format!("BEGIN; {schema} {EXTENT}; LOCK TABLE journal IN ACCESS EXCLUSIVE MODE")).await?;
        if connection.rows("SELECT FROM journal", &[]).await?.is_empty() {
            connection.batch(TABLES).await?;
            connection.execute("INSERT INTO journal VALUES ($1, 1, 0, 0, 0)", &[&VERSION]).await?;
        }
        connection.batch("COMMIT").await
    };
    create_with_others(connection, create, PostgresError::is_race).await?;
    // Another relay may have created them, of another version.
    check(connection, config).await.map(|_| ())
}

/// False: nothing was ever written. Fails if another version has written it.
pub(super) async fn check(connection: &Connection, config: &PostgresConfig) -> Result<bool, JournalError> {
    match version(connection).await? {
        None => Ok(false),
        Some(VERSION) => Ok(true),
        Some(version) => Err(JournalError::PostgresVersion { journal: config.to_string(), version }),
    }
}

async fn version(connection: &Connection) -> Result<Option<i32>, JournalError> {
    let exists = connection.rows("SELECT to_regclass('journal') IS NOT NULL", &[]).await?;
    if !connection.decode(&exists, |row| row.try_get(0))?.pop().unwrap_or(false) {
        return Ok(None);
    }
    let version = connection.rows("SELECT version FROM journal", &[]).await?;
    Ok(connection.decode(&version, |row| row.try_get(0))?.pop())
}
