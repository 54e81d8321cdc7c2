//! The relays of the spool: each shows that it is there, and sees the others.

use std::time::Duration;

use tokio_postgres::Row;

use crate::postgres::{Connection, Values};
use crate::spool::SpoolError;
use crate::spool::instances::{Instance, Instances, LeaseOfInstance, hostname};

const SHOW: &str = "UPDATE instances SET seen_at = clock_timestamp(), config_hash = $2 WHERE id = $1";
/// The relays that have a lease, or were seen within that time in milliseconds, with their shards: of each name the last one first.
const SEEN: &str = "SELECT instances.id, name, config_hash, source, epoch, \
                    (extract(epoch FROM expires_at - clock_timestamp()) * 1000)::bigint \
                    FROM instances LEFT JOIN shards ON owner = instances.id \
                    WHERE seen_at > clock_timestamp() - $1 * interval '1 millisecond' \
                    OR expires_at > clock_timestamp() ORDER BY name, instances.id DESC, shard LIMIT $2";
const SEEN_VALUES: &Values<'_> = &[&15_000_f64, &MAX_SEEN];
/// The bound of what an answer shows.
const MAX_SEEN: i64 = 256;

/// Adds this process to the instances, once, and removes those that were not seen for a day.
pub(super) async fn register(connection: &Connection, instances: &Instances) -> Result<i64, SpoolError> {
    if let Some(known) = instances.registered()
        && connection.execute(SHOW, &[&known, &instances.configuration()]).await? > 0
    {
        return Ok(known);
    }
    let forget = "DELETE FROM instances WHERE seen_at < clock_timestamp() - interval '1 day' \
                  AND NOT EXISTS (SELECT 1 FROM shards WHERE owner = instances.id)";
    connection.execute(forget, &[]).await?;
    let name = format!("{} (process {})", hostname(), std::process::id());
    let add = "INSERT INTO instances (name, seen_at, config_hash, backends) VALUES ($1, clock_timestamp(), $2, '[]') \
               RETURNING id";
    let added = connection.rows(add, &[&name, &instances.configuration()]).await?;
    let added = connection.decode(&added, |row| row.try_get(0))?.pop().unwrap_or_default();
    instances.set_registered(added);
    Ok(added)
}

/// Removes this process from the instances, unless it has a shard.
pub(super) async fn leave(connection: &Connection, instance: i64) -> Result<(), SpoolError> {
    let leave = "DELETE FROM instances WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM shards WHERE owner = instances.id)";
    connection.execute(leave, &[&instance]).await?;
    Ok(())
}

/// Shows the other relays of the spool that this one is there, and notes who they are.
pub(super) async fn meet(connection: &Connection, instance: i64, instances: &Instances) -> Result<(), SpoolError> {
    let shown: &Values<'_> = &[&instance, &instances.configuration()];
    let [_, seen] = connection.pipeline([(SHOW, shown), (SEEN, SEEN_VALUES)]).await?;
    instances.update(instances_of(&connection.decode(&seen, decode_seen)?));
    Ok(())
}

/// The relays that were seen lately.
pub(super) async fn seen(connection: &Connection) -> Result<Vec<Instance>, SpoolError> {
    let seen = connection.rows(SEEN, SEEN_VALUES).await?;
    Ok(instances_of(&connection.decode(&seen, decode_seen)?))
}

/// A relay with one of its shards, if it has any.
struct Seen {
    id: i64,
    name: String,
    configuration: i64,
    lease: Option<LeaseOfInstance>,
}

fn decode_seen(row: &Row) -> Result<Seen, tokio_postgres::Error> {
    let (source, epoch, remaining): (Option<String>, Option<i64>, Option<i64>) =
        (row.try_get(3)?, row.try_get(4)?, row.try_get(5)?);
    let lease = epoch.zip(remaining).map(|(epoch, remaining)| LeaseOfInstance {
        source: source.filter(|source| !source.is_empty()),
        epoch,
        remaining: Duration::from_millis(u64::try_from(remaining).unwrap_or(0)),
    });
    Ok(Seen { id: row.try_get(0)?, name: row.try_get(1)?, configuration: row.try_get(2)?, lease })
}

fn instances_of(seen: &[Seen]) -> Vec<Instance> {
    // Rows of one name are of several runs.
    let runs = seen.chunk_by(|one, next| one.name == next.name);
    let of = |rows: &[Seen]| {
        let last = rows.first()?;
        let leases = rows.iter().filter(|row| row.id == last.id).filter_map(|row| row.lease.clone()).collect();
        Some(Instance::new(last.name.clone(), leases, last.configuration))
    };
    runs.filter_map(of).collect()
}
