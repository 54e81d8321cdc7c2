//! Who may write to the spool: the instance that has the lease of its shard.

use std::time::Duration;

use super::instances::register;
use super::transfer::Mark;
use crate::clock::{ClockBase, Uptime};
use crate::config::PostgresConfig;
use crate::failpoints::Failpoint;
use crate::postgres::{Connection, Values};
use crate::spool::SpoolError;
use crate::spool::instances::Instances;
use crate::spool::lease::Lease;

/// After an owner that ended without giving its lease up, attempts begin so long after the lease has expired: those that were in flight when
/// it expired have ended by then.
const UNCLEAN_PAUSE: Duration = Duration::from_secs(2);

/// The ids of an owner's rows begin with its epoch: its first id is the epoch times this.
const IDS_OF_EPOCH: i64 = 1 << 40;

const BEGIN: &str = "BEGIN";

/// The channel that announces that a spool was given up. The payload is its schema: channels belong to a database.
pub(super) const RELEASED: &str = "regards_relay_released";

/// What the owner does in a transaction.
#[derive(Debug, Clone, Copy)]
pub(super) enum Access {
    /// It only reads: its end writes nothing to the disk of the server.
    Read,
    Write,
    /// It writes the batch of this number, which is noted for a commit with an unknown outcome.
    WriteBatch(i64),
}

/// The ownership of a shard, from its taking on.
#[derive(Debug, Clone)]
pub(super) struct Ownership {
    pub(super) shard: i16,
    pub(super) instance: i64,
    pub(super) epoch: i64,
    pub(super) lease: Lease,
    /// The start of due times that the owner before has stored.
    pub(super) clock: Option<ClockBase>,
    /// No attempt begins before this moment.
    pub(super) begin: Uptime,
}

impl Ownership {
    /// Later owners' rows have higher ids.
    pub(super) fn last_row(&self) -> i64 {
        self.epoch.saturating_mul(IDS_OF_EPOCH)
    }

    /// Takes the shard if it has no owner, or if the owner's lease has expired.
    pub(super) async fn take(
        connection: &Connection,
        config: &PostgresConfig,
        shard: i16,
        instances: &Instances,
    ) -> Result<Self, SpoolError> {
        let in_use = |owner: &str| {
            let (database, schema) = (config.database.clone(), config.schema.clone());
            SpoolError::Owned { database, schema, owner: owner.to_owned() }
        };
        if let Some(previous) = Previous::read(connection, shard).await? {
            if !previous.is_free() {
                return Err(in_use(&previous.name));
            }
            // A transaction of the owner before would hold up this one.
            previous.terminate_backends(connection).await?;
        }
        let instance = register(connection, instances).await?;
        let asked = Uptime::now();
        connection.batch("BEGIN").await?;
        connection.rows("SELECT epoch FROM shards WHERE shard = $1 FOR UPDATE", &[&shard]).await?;
        // A move that begins locks the row, too.
        Mark::check_absent(connection, config).await?;
        // Since it was read first, another instance may have had the shard.
        let previous = Previous::read(connection, shard).await?;
        let found = Uptime::now();
        let take = "UPDATE shards SET epoch = nextval('epochs'), owner = $2, clean = false, \
                    expires_at = clock_timestamp() + $3 * interval '1 millisecond' \
                    WHERE shard = $1 AND (owner IS NULL OR expires_at < clock_timestamp()) RETURNING epoch";
        let taken = connection.rows(take, &[&shard, &instance, &millis(config.lease)]).await?;
        let taken: Option<i64> = connection.decode(&taken, |row| row.try_get(0))?.pop();
        let Some(epoch) = taken else {
            connection.batch("ROLLBACK").await?;
            return Err(in_use(previous.as_ref().map_or("another instance", |previous| &previous.name)));
        };
        let batches = "INSERT INTO shard_batches (shard, epoch, number) VALUES ($1, $2, 0) \
                       ON CONFLICT (shard) DO UPDATE SET epoch = excluded.epoch, number = 0";
        connection.execute(batches, &[&shard, &epoch]).await?;
        connection.batch("COMMIT").await?;
        let begin = previous.as_ref().map_or(found, |previous| previous.attempts_after(found));
        let lease = Lease::new(asked, config.lease);
        Ok(Self { shard, instance, epoch, lease, clock: previous.map(|previous| previous.clock), begin })
    }

    /// Begins a transaction of the owner. If the shard has another owner, it is an error, and nothing can be written.
    pub(super) async fn begin(&self, connection: &Connection, access: Access) -> Result<(), SpoolError> {
        if !self.lease.is_valid() {
            return Err(SpoolError::Fenced);
        }
        let read = "SELECT 1 FROM shards WHERE shard = $1 AND owner = $2 AND epoch = $3";
        let write = "SELECT 1 FROM shards WHERE shard = $1 AND owner = $2 AND epoch = $3 FOR KEY SHARE";
        let owner: &Values<'_> = &[&self.shard, &self.instance, &self.epoch];
        let lock = if matches!(access, Access::Read) { read } else { write };
        let fence = match access {
            Access::Write if Failpoint::FenceBeforeTheTransaction.is_enabled() => {
                connection.pipeline([(lock, owner), (BEGIN, &[])]).await.map(|[fence, _]| fence)
            }
            Access::Read | Access::Write => {
                connection.pipeline([(BEGIN, &[]), (lock, owner)]).await.map(|[_, fence]| fence)
            }
            Access::WriteBatch(number) => {
                // Of another epoch, the row must not be locked: its owner writes it.
                let note = "UPDATE shard_batches SET number = $3 WHERE shard = $1 AND epoch = $2";
                let batch: &Values<'_> = &[&self.shard, &self.epoch, &number];
                let begun = connection.pipeline([(BEGIN, &[]), (lock, owner), (note, batch)]).await;
                begun.map(|[_, fence, _]| fence)
            }
        };
        if !fence?.is_empty() || Failpoint::WriteWithoutTheFence.is_enabled() {
            return Ok(());
        }
        self.lease.end();
        connection.batch("ROLLBACK").await?;
        Err(SpoolError::Fenced)
    }

    pub(super) async fn renew(&self, connection: &Connection, config: &PostgresConfig) -> Result<(), SpoolError> {
        let asked = Uptime::now();
        let renew = "UPDATE shards SET expires_at = clock_timestamp() + $4 * interval '1 millisecond' \
                     WHERE shard = $1 AND owner = $2 AND epoch = $3";
        let values: &Values<'_> = &[&self.shard, &self.instance, &self.epoch, &millis(config.lease)];
        if connection.execute(renew, values).await? == 0 {
            self.lease.end();
            return Err(SpoolError::Fenced);
        }
        let asked = if Failpoint::CountTheLeaseFromTheAnswer.is_enabled() { Uptime::now() } else { asked };
        if self.lease.renew(asked, config.lease) { Ok(()) } else { Err(SpoolError::Fenced) }
    }

    /// Gives the shard up, and announces it to those who stand by. `is_clean`: nothing of it is in flight.
    pub(super) async fn release(
        &self,
        connection: &Connection,
        schema: &str,
        is_clean: bool,
    ) -> Result<(), SpoolError> {
        let release = "UPDATE shards SET owner = CASE WHEN $4 THEN NULL ELSE owner END, clean = $4, expires_at = clock_timestamp() \
                       WHERE shard = $1 AND owner = $2 AND epoch = $3";
        let owner: &Values<'_> = &[&self.shard, &self.instance, &self.epoch, &is_clean];
        let announce: &Values<'_> = &[&RELEASED, &schema];
        connection.pipeline([(release, owner), ("SELECT pg_notify($1, $2)", announce)]).await?;
        self.lease.end();
        Ok(())
    }

    /// Notes that a transaction of the instance comes by this connection, so that a later owner can end it.
    pub(super) async fn note_backend(&self, connection: &Connection) -> Result<(), SpoolError> {
        // Only those that are still there, and this one.
        let note = "UPDATE instances SET seen_at = clock_timestamp(), backends = \
                    (SELECT jsonb_agg(jsonb_build_object('pid', pid, 'start', backend_start)) FROM pg_stat_activity activity \
                    WHERE pid = pg_backend_pid() OR EXISTS (SELECT 1 FROM jsonb_array_elements(backends) backend \
                    WHERE activity.pid = (backend->>'pid')::integer AND activity.backend_start = (backend->>'start')::timestamptz)) \
                    WHERE id = $1";
        connection.execute(note, &[&self.instance]).await?;
        Ok(())
    }
}

/// The shard as its last owner left it.
pub(super) struct Previous {
    pub(super) owner: Option<i64>,
    name: String,
    is_clean: bool,
    /// Since when its lease has expired; negative: until when it lasts. In milliseconds.
    expired: i64,
    clock: ClockBase,
}

impl Previous {
    pub(super) async fn read(connection: &Connection, shard: i16) -> Result<Option<Self>, SpoolError> {
        let read = "SELECT owner, coalesce(name, 'another instance'), clean, \
                    (extract(epoch FROM clock_timestamp() - expires_at) * 1000)::bigint, boot, base \
                    FROM shards LEFT JOIN instances ON instances.id = owner WHERE shard = $1";
        let read = connection.rows(read, &[&shard]).await?;
        let mut read = connection.decode(&read, |row| {
            Ok(Self {
                owner: row.try_get(0)?,
                name: row.try_get(1)?,
                is_clean: row.try_get(2)?,
                expired: row.try_get(3)?,
                clock: ClockBase { boot: row.try_get(4)?, base: row.try_get(5)? },
            })
        })?;
        Ok(read.pop())
    }

    pub(super) fn is_free(&self) -> bool {
        self.owner.is_none() || self.expired > 0
    }

    /// Until its lease has expired.
    pub(super) fn remaining(&self) -> Duration {
        // The next millisecond: now it may still last.
        Duration::from_millis(u64::try_from(1_i64.saturating_sub(self.expired)).unwrap_or(0))
    }

    async fn terminate_backends(&self, connection: &Connection) -> Result<(), SpoolError> {
        let terminate = "SELECT pg_terminate_backend(activity.pid) FROM instances, jsonb_array_elements(backends) backend \
                         JOIN pg_stat_activity activity ON activity.pid = (backend->>'pid')::integer \
                         AND activity.backend_start = (backend->>'start')::timestamptz \
                         WHERE instances.id = $1 AND activity.usename = current_user";
        if let Some(owner) = self.owner.filter(|_| !Failpoint::LeaveOldTransactionsOpen.is_enabled()) {
            connection.rows(terminate, &[&owner]).await?;
        }
        Ok(())
    }

    /// When attempts may begin, of a shard that was found at `found`.
    fn attempts_after(&self, found: Uptime) -> Uptime {
        if self.is_clean || Failpoint::BeginBeforeOldAttemptsEnd.is_enabled() {
            return found;
        }
        let expired = Duration::from_millis(u64::try_from(self.expired).unwrap_or(0));
        found.after(UNCLEAN_PAUSE.saturating_sub(expired))
    }
}

fn millis(length: Duration) -> f64 {
    length.as_secs_f64() * 1_000.0
}
