//! The schema of the spool: it is made at the first start, and has a version.

use tokio_postgres::error::SqlState;

use super::connection::Connection;
use crate::config::PostgresConfig;
use crate::postgres::PostgresError;
use crate::spool::SpoolError;

pub(in crate::spool) const VERSION: i32 = 1;

const TABLES: &str = include_str!("schema.sql");

/// How often the creation is tried: two relays that start together can get in each other's way.
const TRIES: u32 = 5;

/// Creates the schema and its tables if they are missing.
pub(super) async fn migrate(connection: &Connection, config: &PostgresConfig) -> Result<(), SpoolError> {
    let mut tries = 0;
    loop {
        tries += 1;
        match create(connection, config).await {
            Err(SpoolError::Postgres(error)) if tries < TRIES && is_race(&error) => {
                connection.batch("ROLLBACK").await?;
            }
            created => return created,
        }
    }
}

/// `IF NOT EXISTS` fails if another transaction creates the same at the same time (PostgreSQL manual, Appendix A).
fn is_race(error: &PostgresError) -> bool {
    let races = [SqlState::UNIQUE_VIOLATION, SqlState::DUPLICATE_SCHEMA, SqlState::DUPLICATE_TABLE];
    races.iter().any(|race| error.sqlstate() == Some(race.code()))
}

async fn create(connection: &Connection, config: &PostgresConfig) -> Result<(), SpoolError> {
    // A role may be allowed to use a schema that an administrator has created, but not to create one.
    let exists = "SELECT 1 FROM pg_namespace WHERE nspname = $1";
    let exists = connection.row(exists, &[&config.schema]).await?.is_some();
    let schema = if exists { String::new() } else { format!("CREATE SCHEMA IF NOT EXISTS \"{}\";", config.schema) };
    connection
        .batch(&format!(
            "BEGIN; {schema} CREATE TABLE IF NOT EXISTS schema_version (version integer NOT NULL); \
             LOCK TABLE schema_version IN ACCESS EXCLUSIVE MODE"
        ))
        .await?;
    let versions = connection.rows("SELECT version FROM schema_version", &[]).await?;
    match connection.decode(&versions, |row| row.try_get::<_, i32>(0))?.first() {
        None => {
            connection.batch(TABLES).await?;
            connection.execute("INSERT INTO schema_version VALUES ($1)", &[&VERSION]).await?;
        }
        Some(&VERSION) => {}
        Some(&version) => {
            let (database, schema) = (config.database.clone(), config.schema.clone());
            return Err(SpoolError::PostgresVersion { database, schema, version });
        }
    }
    connection.batch("COMMIT").await?;
    Ok(())
}
