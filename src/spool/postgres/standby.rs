//! A relay that stands by: it waits until the owner gives the spool up, or loses it.

use std::time::Duration;

use super::connect;
use super::instances::{meet, register};
use super::ownership::{Previous, RELEASED};
use crate::config::PostgresConfig;
use crate::spool::SpoolError;
use crate::spool::instances::Instances;

/// How often a relay looks who has what. That something was given up is also announced.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Returns when the spool, or the shard of it, has no owner, or another one, or when the owner's lease has expired.
pub(in crate::spool) async fn wait_for_change(
    config: &PostgresConfig,
    instances: &Instances,
) -> Result<(), SpoolError> {
    let mut connection = connect(config).await?;
    // First: of what is announced from now on, nothing is missed.
    connection.batch(&format!("LISTEN {RELEASED}")).await?;
    let instance = register(&connection, instances).await?;
    let shard = connection.rows("SELECT shard FROM shards WHERE source = $1", &[&config.shard]).await?;
    let shard = connection.decode(&shard, |row| row.try_get(0))?.pop().unwrap_or_default();
    let mut first_owner = None;
    while let Some(owner) = Previous::read(&connection, shard).await?.filter(|owner| !owner.is_free()) {
        if *first_owner.get_or_insert(owner.owner) != owner.owner {
            break;
        }
        meet(&connection, instance, instances).await?;
        let look_again = LOOK_INTERVAL.min(owner.remaining());
        let announced = tokio::time::timeout(look_again, connection.announcement(&config.schema)).await;
        // A connection that has ended fails at the next look.
        let _ = announced;
    }
    connection.close().await;
    Ok(())
}
