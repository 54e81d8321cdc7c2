//! Renews the lease, on a thread and a connection of its own: a long transaction must not delay it.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;

use tokio::runtime::Runtime;

use super::instances::meet;
use super::ownership::Ownership;
use super::{SUBJECT, connect};
use crate::config::PostgresConfig;
use crate::postgres::{Connection, runtime};
use crate::spool::SpoolError;
use crate::spool::instances::Instances;
use crate::tasks::{self, TaskKind};

/// The lease is renewed so often while it lasts.
const RENEWALS_PER_LEASE: u32 = 5;

/// A connection for renewals, made before there is a lease: connecting may take longer than a short lease lasts.
pub(super) struct RenewalConnection {
    runtime: Runtime,
    connection: Connection,
}

impl RenewalConnection {
    pub(super) fn open(config: &PostgresConfig) -> Result<Self, SpoolError> {
        let runtime = runtime()?;
        let connection = runtime.block_on(connect(config))?;
        Ok(Self { runtime, connection })
    }
}

/// Renews until it is dropped or the lease has ended.
pub(super) struct Renewal {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Renewal {
    pub(super) fn start(
        by: RenewalConnection,
        ownership: Ownership,
        config: PostgresConfig,
        instances: Arc<Instances>,
    ) -> Result<Self, SpoolError> {
        let (stop, stopped) = mpsc::channel();
        let renew = move || {
            let RenewalConnection { runtime, connection } = by;
            let mut renewer = Renewer { ownership, config, instances, runtime, connection: Some(connection) };
            let interval = renewer.config.lease / RENEWALS_PER_LEASE;
            while renewer.ownership.lease.is_valid() {
                match stopped.recv_timeout(interval) {
                    Err(RecvTimeoutError::Timeout) => renewer.renew(),
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
                }
            }
            renewer.close();
        };
        let thread = tasks::spawn_thread(TaskKind::LeaseRenewal, "lease".to_owned(), renew).map_err(|error| {
            SpoolError::thread("in PostgreSQL", "the thread that renews its lease can't be started", error)
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Renewal {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread ends the relay by itself.
            let _ = thread.join();
        }
    }
}

struct Renewer {
    ownership: Ownership,
    config: PostgresConfig,
    instances: Arc<Instances>,
    runtime: Runtime,
    /// None: the last request failed.
    connection: Option<Connection>,
}

impl Renewer {
    fn renew(&mut self) {
        TaskKind::LeaseRenewal.panic_if_requested();
        let Self { ownership, config, instances, runtime, connection } = self;
        let limit = config.lease / 2;
        let renewed = runtime.block_on(async {
            let open = match connection.take() {
                Some(open) => open,
                None => Connection::open(config, SUBJECT, limit).await?,
            };
            tokio::time::timeout(limit, ownership.renew(&open, config))
                .await
                .unwrap_or(Err(SpoolError::LeaseTimeout))?;
            // It must not delay the next renewal. A late answer is passed over.
            let meeting = meet(&open, ownership.instance, instances);
            tokio::time::timeout(config.lease / RENEWALS_PER_LEASE / 2, meeting).await.unwrap_or(Ok(()))?;
            *connection = Some(open);
            Ok::<_, SpoolError>(())
        });
        if let Err(error) = renewed {
            let remaining = ownership.lease.remaining().as_millis();
            tracing::warn!(%error, "the lease of the spool was not renewed; it lasts for {remaining} ms more");
        }
    }

    fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            // The connection closes itself if the server doesn't take the goodbye.
            self.runtime.block_on(connection.close());
        }
    }
}
