//! Creating schemas and tables, which several relays may do at the same time.

use super::{Connection, PostgresError};

/// How often the creation is tried.
const TRIES: u32 = 5;

/// The statement that creates the schema. A role may be allowed to use one that an administrator has created, but not to create one.
pub async fn create_schema(connection: &Connection, schema: &str) -> Result<String, PostgresError> {
    let exists = connection.row("SELECT 1 FROM pg_namespace WHERE nspname = $1", &[&schema]).await?.is_some();
    Ok(if exists { String::new() } else { format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\";") })
}

/// Does `create` again if another transaction got in its way.
pub async fn create_with_others<T, E: From<PostgresError>>(
    connection: &Connection,
    mut create: impl AsyncFnMut() -> Result<T, E>,
    is_race: fn(&E) -> bool,
) -> Result<T, E> {
    let mut tries = 0;
    loop {
        tries += 1;
        match create().await {
            Err(error) if tries < TRIES && is_race(&error) => {
                connection.batch("ROLLBACK").await?;
            }
            created => return created,
        }
    }
}
