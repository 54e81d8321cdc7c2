//! The schema of the spool: it is made at the first start, and has a version.

use super::shard::{Shard, TABLES};
use super::transfer::Mark;
use crate::clock::ClockBase;
use crate::config::PostgresConfig;
use crate::postgres::Connection;
use crate::postgres::{create_schema, create_with_others};
use crate::spool::SpoolError;

pub(in crate::spool) const VERSION: i32 = 3;

/// It becomes version 3 by [`SINCE_VERSION_3`].
const VERSION_2: i32 = 2;

/// The tables that all shards share, and those of one shard.
const SHARED: &str = include_str!("shared.sql");
/// What version 3 has beside that.
const SINCE_VERSION_3: &str = concat!(include_str!("commands.sql"), include_str!("migration.sql"));
const SHARD: &str = include_str!("shard.sql");

/// Creates the schema and its tables if they are missing, and the shard. Afterwards the connection uses that shard. Fails if the spool was
/// moved to a file, or a move has not ended.
pub(super) async fn migrate(connection: &Connection, config: &PostgresConfig) -> Result<Shard, SpoolError> {
    migrate_if(connection, config, false).await
}

/// The same for a spool that was or is moved.
pub(super) async fn migrate_even_if_moved(
    connection: &Connection,
    config: &PostgresConfig,
) -> Result<Shard, SpoolError> {
    migrate_if(connection, config, true).await
}

async fn migrate_if(
    connection: &Connection,
    config: &PostgresConfig,
    even_if_moved: bool,
) -> Result<Shard, SpoolError> {
    let create = async || create(connection, config, even_if_moved).await;
    let shard = create_with_others(connection, create, SpoolError::is_race).await?;
    shard.use_in(connection).await?;
    Ok(shard)
}

async fn create(connection: &Connection, config: &PostgresConfig, even_if_moved: bool) -> Result<Shard, SpoolError> {
    let schema = create_schema(connection, &config.schema).await?;
    connection
        .batch(&format!(
            "BEGIN; {schema} CREATE TABLE IF NOT EXISTS schema_version (version integer NOT NULL); \
             LOCK TABLE schema_version IN ACCESS EXCLUSIVE MODE"
        ))
        .await?;
    let versions = connection.rows("SELECT version FROM schema_version", &[]).await?;
    match connection.decode(&versions, |row| row.try_get::<_, i32>(0))?.first() {
        None => {
            connection.batch(SHARED).await?;
            connection.batch(SINCE_VERSION_3).await?;
            connection.execute("INSERT INTO schema_version VALUES ($1)", &[&VERSION]).await?;
            create_first_shard(connection, config).await?;
        }
        Some(&VERSION) => {}
        Some(&VERSION_2) => {
            connection.batch(SINCE_VERSION_3).await?;
            connection.execute("UPDATE schema_version SET version = $1", &[&VERSION]).await?;
        }
        Some(&version) => {
            let (database, schema) = (config.database.clone(), config.schema.clone());
            return Err(SpoolError::PostgresVersion { database, schema, version });
        }
    }
    if !even_if_moved {
        Mark::check_absent(connection, config).await?;
    }
    let known = connection.row("SELECT shard FROM shards WHERE source = $1", &[&config.shard]).await?;
    let known = connection.decode(known.as_slice(), |row| row.try_get(0))?.pop();
    let shard = match known {
        Some(number) => Shard::new(&config.schema, number),
        None => add_shard(connection, config).await?,
    };
    connection.batch("COMMIT").await?;
    Ok(shard)
}

/// Creates the tables of shard 0, and the tables of all shards after their model.
async fn create_first_shard(connection: &Connection, config: &PostgresConfig) -> Result<(), SpoolError> {
    let shard = Shard::new(&config.schema, 0);
    connection.batch(&SHARD.replace("{shard}", "0")).await?;
    for table in TABLES {
        connection.batch(&format!("CREATE TABLE all_{table} (LIKE {table}) PARTITION BY LIST (shard)")).await?;
    }
    attach(connection, &shard).await
}

async fn add_shard(connection: &Connection, config: &PostgresConfig) -> Result<Shard, SpoolError> {
    // That of all sources with one queue is there from the beginning.
    let number = "SELECT CASE WHEN $1 = '' THEN 0 ELSE greatest((SELECT max(shard) FROM shards), 0) + 1 END::smallint";
    let number = connection.rows(number, &[&config.shard]).await?;
    let number = connection.decode(&number, |row| row.try_get(0))?.pop().unwrap_or_default();
    let shard = Shard::new(&config.schema, number);
    if number > 0 {
        let schema = create_schema(connection, &shard.schema).await?;
        connection.batch(&format!("{schema} SET LOCAL search_path TO {}", shard.search_path())).await?;
        connection.batch(&SHARD.replace("{shard}", &number.to_string())).await?;
        attach(connection, &shard).await?;
    }
    let insert = "INSERT INTO shards (shard, source, epoch, owner, clean, expires_at, boot, base) \
                  VALUES ($1, $2, 0, NULL, true, clock_timestamp(), $3, $4)";
    let base = ClockBase::now();
    connection.execute(insert, &[&number, &config.shard, &base.boot, &base.base]).await?;
    Ok(shard)
}

/// Makes the tables of a shard parts of those of all shards.
async fn attach(connection: &Connection, shard: &Shard) -> Result<(), SpoolError> {
    for table in TABLES {
        let Shard { shared, schema, number } = shard;
        let attach = format!(
            "ALTER TABLE \"{shared}\".all_{table} ATTACH PARTITION \"{schema}\".{table} FOR VALUES IN ({number})"
        );
        connection.batch(&attach).await?;
    }
    Ok(())
}
