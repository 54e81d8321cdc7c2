//! The spool in PostgreSQL, for relays on several machines: one of them has the lease and writes, the others wait for it.

mod apply;
mod commands;
mod compact;
mod filter;
mod instances;
mod migrate;
mod ownership;
mod reader;
mod renewal;
mod rows;
mod run;
mod shard;
mod standby;
mod statements;
mod text;
mod transfer;
mod watch;

use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

use tokio::runtime::Runtime;

use super::SpoolError;
use super::budget::Usage;
use super::change::{AppliedChange, Change};
use super::counts::DeadLetterTotals;
use super::delivery::RowId;
use super::instances::Instances;
use super::lease::Lease;
use super::purge::PurgeSelection;
use super::store::{FailedBatch, FailedChanges, Store, StoreContents};
use super::writer_state::WriterState;
use crate::clock::{self, Timestamp};
use crate::config::PostgresConfig;
use crate::failpoints::Failpoint;
use crate::postgres::{CONNECT_TIMEOUT, Connection, PostgresError, runtime};
use crate::rules::{AlertName, SinkName};
use crate::storage::DiskSpace;

use ownership::{Access, Ownership};
use renewal::{Renewal, RenewalConnection};
use shard::Shard;

pub(super) use commands::{PostgresCommandClient, PostgresCommandQueue};
pub(super) use migrate::VERSION;
pub(super) use reader::PostgresReader;
pub(super) use standby::wait_for_change;
pub(super) use transfer::{Mark, PostgresSide};
pub(super) use watch::PostgresWatch;

/// What its connections are for, as errors name it.
const SUBJECT: &str = "the spool";

pub(super) struct PostgresStore {
    config: PostgresConfig,
    shard: Shard,
    /// None: a request failed, and how it ended is unknown.
    connection: Option<Connection>,
    ownership: Ownership,
    instances: Arc<Instances>,
    is_same_boot: bool,
    /// The number of the last transaction.
    number: i64,
    /// When large tables were last looked for.
    compacted: Cell<Instant>,
    // Dropped before the runtime.
    renewal: Option<Renewal>,
    runtime: Runtime,
}

async fn connect(config: &PostgresConfig) -> Result<Connection, PostgresError> {
    Connection::open(config, SUBJECT, CONNECT_TIMEOUT).await
}

impl PostgresStore {
    /// Takes the spool, or a shard of it, and creates the tables if they are missing.
    pub(super) fn open(config: &PostgresConfig, instances: Arc<Instances>) -> Result<Self, SpoolError> {
        let runtime = runtime()?;
        let for_renewals = RenewalConnection::open(config)?;
        let (connection, shard, ownership) = runtime.block_on(async {
            let connection = connect(config).await?;
            let shard = migrate::migrate(&connection, config).await?;
            let ownership = Ownership::take(&connection, config, shard.number, &instances).await?;
            ownership.note_backend(&connection).await?;
            Ok::<_, SpoolError>((connection, shard, ownership))
        })?;
        let renewal = Renewal::start(for_renewals, ownership.clone(), config.clone(), Arc::clone(&instances))?;
        let is_same_boot = ownership.clock.is_some_and(clock::restore);
        let store = Self {
            config: config.clone(),
            shard,
            connection: Some(connection),
            ownership,
            instances,
            is_same_boot,
            number: 0,
            compacted: Cell::new(Instant::now()),
            renewal: Some(renewal),
            runtime,
        };
        store.begin_ownership()?;
        // Nothing is fetched, and no message taken, before the store is open.
        std::thread::sleep(store.ownership.begin.remaining());
        Ok(store)
    }

    fn begin_ownership(&self) -> Result<(), SpoolError> {
        let base = clock::ClockBase::now();
        let repaired = self.run(async |connection| {
            self.ownership.begin(connection, Access::Write).await?;
            let set = "UPDATE shards SET boot = $2, base = $3 WHERE shard = $1";
            connection.execute(set, &[&self.ownership.shard, &base.boot, &base.base]).await?;
            let repaired = connection.repair_heads().await?;
            connection.batch("COMMIT").await?;
            Ok(repaired)
        })?;
        if repaired > 0 {
            tracing::error!(
                "the spool had lost the oldest deliveries of some keys; {repaired} of them are repaired and delivered"
            );
        }
        Ok(())
    }

    fn run<T>(&self, work: impl AsyncFnOnce(&Connection) -> Result<T, SpoolError>) -> Result<T, SpoolError> {
        let Some(connection) = &self.connection else { return Err(SpoolError::NotConnected) };
        self.runtime.block_on(work(connection))
    }

    /// Does `work` in a transaction of the owner.
    fn transact<T>(&self, work: impl AsyncFnOnce(&Connection) -> Result<T, SpoolError>) -> Result<T, SpoolError> {
        self.run(async |connection| {
            self.ownership.begin(connection, Access::Write).await?;
            let done = work(connection).await?;
            connection.batch("COMMIT").await?;
            Ok(done)
        })
    }

    /// Applies the changes, and leaves the transaction open. An error comes with all changes.
    fn apply_all(
        &self,
        changes: Vec<Change>,
        state: &mut WriterState,
    ) -> Result<Vec<AppliedChange>, Box<(SpoolError, Vec<Change>)>> {
        let Some(connection) = &self.connection else { return Err(Box::new((SpoolError::NotConnected, changes))) };
        self.runtime.block_on(async {
            let is_read_only = changes.iter().all(Change::is_read_only);
            let access = if is_read_only { Access::Read } else { Access::WriteBatch(self.number) };
            if let Err(error) = self.ownership.begin(connection, access).await {
                return Err(Box::new((error, changes)));
            }
            apply::apply_all(connection, changes, state).await.map_err(|failed| {
                let (error, changes) = *failed;
                Box::new((error.into(), changes))
            })
        })
    }
}

impl Store for PostgresStore {
    fn name(&self) -> String {
        self.config.to_string()
    }

    fn is_same_boot(&self) -> bool {
        self.is_same_boot
    }

    fn lease(&self) -> Option<Lease> {
        Some(self.ownership.lease.clone())
    }

    fn disk_space(&self) -> DiskSpace {
        DiskSpace::Plenty
    }

    fn contents(&self) -> Result<StoreContents, SpoolError> {
        self.run(async |connection| {
            let (last_dead_letter, last_row) = connection.last_ids().await?;
            Ok(StoreContents {
                last_dead_letter,
                last_row: if Failpoint::RestartIds.is_enabled() {
                    RowId(0)
                } else {
                    RowId(last_row.max(self.ownership.last_row()))
                },
                usage: connection.usage().await?,
                requests: connection.count_requests().await?,
                next_due_request: connection.next_due_request().await?,
                dead_letters: connection.dead_letter_totals().await?,
            })
        })
    }

    fn states(&self) -> Result<Vec<(String, String, String)>, SpoolError> {
        self.run(async |connection| Ok(connection.states().await?))
    }

    fn raised_alerts(&self) -> Result<Vec<(AlertName, String, String)>, SpoolError> {
        self.run(async |connection| Ok(connection.raised_alerts().await?))
    }

    fn oldest(&self, sink: &SinkName) -> Result<Option<Timestamp>, SpoolError> {
        self.run(async |connection| Ok(connection.oldest(sink).await?))
    }

    fn usage(&self) -> Result<Vec<(SinkName, Usage)>, SpoolError> {
        self.run(async |connection| Ok(connection.usage().await?))
    }

    fn dead_letter_totals(&self) -> Result<DeadLetterTotals, SpoolError> {
        self.run(async |connection| Ok(connection.dead_letter_totals().await?))
    }

    fn commit(
        &mut self,
        changes: Vec<Change>,
        state: &mut WriterState,
        _: DiskSpace,
    ) -> Result<Vec<AppliedChange>, Box<FailedBatch>> {
        self.number += 1;
        let applied = self.apply_all(changes, state).map_err(|failed| {
            let (error, changes) = *failed;
            Box::new(FailedBatch { error, changes: FailedChanges::Unstored(changes) })
        })?;
        match self.run(async |connection| Ok(connection.batch("COMMIT").await?)) {
            Ok(()) => Ok(applied),
            Err(error) => Err(Box::new(FailedBatch { error, changes: FailedChanges::Unknown(applied) })),
        }
    }

    fn purge_dead_letters(&self, selection: &PurgeSelection<'_>, limit: u64) -> Result<u64, SpoolError> {
        self.transact(async |connection| Ok(connection.purge_dead_letters(selection, limit).await?))
    }

    fn purge_deliveries(&self, sink: &SinkName, limit: u64) -> Result<u64, SpoolError> {
        self.transact(async |connection| Ok(connection.purge_deliveries(sink, limit).await?))
    }

    fn release_free_space(&self, _: DiskSpace, all: bool) -> Result<bool, SpoolError> {
        if all || self.compacted.get().elapsed() >= compact::INTERVAL {
            self.run(async |connection| compact::compact(connection, &self.ownership).await)?;
            self.compacted.set(Instant::now());
        }
        Ok(false)
    }

    fn is_open(&self) -> bool {
        self.connection.is_some()
    }

    fn close(&mut self) {
        self.connection = None;
    }

    fn recover(&mut self) -> Result<bool, SpoolError> {
        if !self.ownership.lease.is_valid() {
            return Err(SpoolError::Fenced);
        }
        let (config, shard, ownership) = (&self.config, &self.shard, &self.ownership);
        let (connection, number) = self.runtime.block_on(async {
            let connection = connect(config).await?;
            shard.use_in(&connection).await?;
            ownership.note_backend(&connection).await?;
            ownership.begin(&connection, Access::Write).await?;
            // Waits for a transaction of the last connection that has not ended yet.
            let number = if Failpoint::AskWithoutWaitingForTheCommit.is_enabled() {
                "SELECT number FROM shard_batches WHERE shard = $1"
            } else {
                "SELECT number FROM shard_batches WHERE shard = $1 FOR UPDATE"
            };
            let number = connection.rows(number, &[&ownership.shard]).await?;
            let number: Option<i64> = connection.decode(&number, |row| row.try_get(0))?.pop();
            connection.batch("COMMIT").await?;
            Ok::<_, SpoolError>((connection, number))
        })?;
        self.connection = Some(connection);
        let is_stored = number == Some(self.number) && !Failpoint::TakeUnknownCommitsForFailed.is_enabled();
        Ok(is_stored || Failpoint::TakeUnknownCommitsForDone.is_enabled())
    }

    fn give_up(&mut self, is_clean: bool) {
        self.renewal = None;
        // Attempts that were aborted when the lease ended may still be at their receivers.
        let is_clean = is_clean && self.ownership.lease.is_valid();
        let released = self.run(async |connection| {
            self.ownership.release(connection, &self.config.schema, is_clean).await?;
            if self.instances.is_leaving() {
                instances::leave(connection, self.ownership.instance).await?;
            }
            Ok(())
        });
        if let Err(error) = released {
            tracing::warn!(%error, "the spool was not given up; another relay takes it when its lease has expired");
        }
        if let Some(connection) = self.connection.take() {
            self.runtime.block_on(connection.close());
        }
    }
}

/// Executes statements on the tables, for tests.
#[cfg(test)]
pub(super) fn execute(config: &PostgresConfig, statements: &str) -> Result<(), SpoolError> {
    let (config, statements) = (config.clone(), statements.to_owned());
    // Tests are tasks, which must not block.
    let work = move || {
        runtime()?.block_on(async {
            let connection = connect(&config).await?;
            connection.batch(&statements).await?;
            connection.close().await;
            Ok(())
        })
    };
    std::thread::scope(|scope| scope.spawn(work).join()).expect("no panic")
}
