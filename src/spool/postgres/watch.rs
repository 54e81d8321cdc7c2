//! Looks who has which shard.

use super::connect;
use super::instances::{register, seen};
use super::migrate::migrate;
use super::ownership::RELEASED;
use super::standby::LOOK_INTERVAL;
use crate::config::PostgresConfig;
use crate::postgres::{Connection, Values};
use crate::spool::SpoolError;
use crate::spool::instances::Instances;
use crate::spool::shard_watch::{ShardState, ShardView};

const SHARDS: &str = "SELECT source, name, owner IS NULL OR expires_at < clock_timestamp() \
                      FROM shards LEFT JOIN instances ON instances.id = owner ORDER BY shard";
/// The relays that were seen within a lease: by their numbers, because two containers can have the same name. A command has no
/// configuration, and wants no shard.
const RELAYS: &str = "SELECT count(*) FROM instances WHERE config_hash <> 0 \
                      AND seen_at > clock_timestamp() - $1 * interval '1 millisecond'";

pub(in crate::spool) struct PostgresWatch {
    config: PostgresConfig,
    /// None: nothing was seen yet, or the last request failed.
    open: Option<Connection>,
}

impl PostgresWatch {
    pub(in crate::spool) fn new(config: PostgresConfig) -> Self {
        Self { config, open: None }
    }

    /// Looks about each second, and when a shard is given up.
    pub(in crate::spool) async fn next(&mut self, instances: &Instances) -> Result<ShardView, SpoolError> {
        let connection = match self.open.take() {
            None => self.connect().await?,
            Some(mut connection) => {
                // A connection that has ended fails at the next look.
                let announced = connection.announcement(&self.config.schema);
                let _ = tokio::time::timeout(LOOK_INTERVAL, announced).await;
                connection
            }
        };
        register(&connection, instances).await?;
        instances.update(seen(&connection).await?);
        let lease = self.config.lease.as_secs_f64() * 1_000.0;
        let values: &Values<'_> = &[&lease];
        let [shards, relays] = connection.pipeline([(SHARDS, &[]), (RELAYS, values)]).await?;
        let shards = connection.decode(&shards, |row| {
            let (owner, is_free): (Option<String>, bool) = (row.try_get(1)?, row.try_get(2)?);
            let owner = (!is_free).then(|| owner.unwrap_or_else(|| "another relay".to_owned()));
            Ok(ShardState { source: row.try_get(0)?, owner })
        })?;
        let relays: i64 = connection.decode(&relays, |row| row.try_get(0))?.pop().unwrap_or_default();
        self.open = Some(connection);
        Ok(ShardView { shards, relays: usize::try_from(relays).unwrap_or(0) })
    }

    async fn connect(&self) -> Result<Connection, SpoolError> {
        let connection = connect(&self.config).await?;
        // Which shards there are is asked before the first one is taken.
        migrate(&connection, &self.config).await?;
        connection.batch(&format!("LISTEN {RELEASED}")).await?;
        Ok(connection)
    }
}
