//! The relays of the spool: each shows that it is there, and sees the others.

use std::time::Duration;

use tokio_postgres::Row;

use super::connection::{Connection, Values};
use crate::spool::SpoolError;
use crate::spool::instances::{Instance, Instances, LeaseOfInstance};

const SHOW: &str = "UPDATE instances SET seen_at = clock_timestamp(), config_hash = $2 WHERE id = $1";
/// The relays that have the lease, or were seen within that time in milliseconds: of each name the last one.
const SEEN: &str = "SELECT DISTINCT ON (name) name, config_hash, epoch, \
                               (extract(epoch FROM expires_at - clock_timestamp()) * 1000)::bigint \
                               FROM instances LEFT JOIN shards ON owner = instances.id \
                               WHERE seen_at > clock_timestamp() - $1 * interval '1 millisecond' \
                               OR expires_at > clock_timestamp() ORDER BY name, id DESC LIMIT $2";
const SEEN_VALUES: &Values<'_> = &[&15_000_f64, &MAX_SEEN];
/// The bound of what an answer shows.
const MAX_SEEN: i64 = 64;

/// Adds this process to the instances, and removes those that were not seen for a day.
pub(super) async fn register(connection: &Connection, instances: &Instances) -> Result<i64, SpoolError> {
    let forget = "DELETE FROM instances WHERE seen_at < clock_timestamp() - interval '1 day' \
                  AND NOT EXISTS (SELECT 1 FROM shards WHERE owner = instances.id)";
    connection.execute(forget, &[]).await?;
    let name = format!("{} (process {})", hostname(), std::process::id());
    let add = "INSERT INTO instances (name, seen_at, config_hash, backends) VALUES ($1, clock_timestamp(), $2, '[]') \
               RETURNING id";
    let added = connection.rows(add, &[&name, &instances.configuration()]).await?;
    Ok(connection.decode(&added, |row| row.try_get(0))?.pop().unwrap_or_default())
}

/// Shows the other relays of the spool that this one is there, and notes who they are.
pub(super) async fn meet(connection: &Connection, instance: i64, instances: &Instances) -> Result<(), SpoolError> {
    let shown: &Values<'_> = &[&instance, &instances.configuration()];
    let [_, seen] = connection.pipeline([(SHOW, shown), (SEEN, SEEN_VALUES)]).await?;
    instances.update(connection.decode(&seen, decode_instance)?);
    Ok(())
}

/// The relays that were seen lately.
pub(super) async fn seen(connection: &Connection) -> Result<Vec<Instance>, SpoolError> {
    let seen = connection.rows(SEEN, SEEN_VALUES).await?;
    Ok(connection.decode(&seen, decode_instance)?)
}

fn decode_instance(row: &Row) -> Result<Instance, tokio_postgres::Error> {
    let (epoch, remaining): (Option<i64>, Option<i64>) = (row.try_get(2)?, row.try_get(3)?);
    let lease = epoch.zip(remaining).map(|(epoch, remaining)| LeaseOfInstance {
        epoch,
        remaining: Duration::from_millis(u64::try_from(remaining).unwrap_or(0)),
    });
    Ok(Instance::new(row.try_get(0)?, lease, row.try_get(1)?))
}

fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
