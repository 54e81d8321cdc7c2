//! A connection for threads that wait for its answers.

use tokio::runtime::{Builder, Handle, Runtime};

use super::{CONNECT_TIMEOUT, Connection, PostgresError};
use crate::config::PostgresConfig;

pub struct BlockingConnection {
    connection: Connection,
    /// None: the connection is being dropped.
    runtime: Option<Runtime>,
}

/// One thread runs the requests of a connection and the connection itself.
pub fn runtime() -> Result<Runtime, PostgresError> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| PostgresError::configuration(format!("no connection can be started: {error}")))
}

impl BlockingConnection {
    /// Connects as [`Connection::open`], and waits for it.
    pub fn open(config: &PostgresConfig, subject: &'static str) -> Result<Self, PostgresError> {
        apart(|| {
            let runtime = runtime()?;
            let connection = runtime.block_on(Connection::open(config, subject, CONNECT_TIMEOUT))?;
            Ok(Self { connection, runtime: Some(runtime) })
        })
    }

    /// Does `work`, and waits until it is done.
    pub fn run<T: Send, E: From<PostgresError> + Send>(
        &self,
        work: impl AsyncFnOnce(&Connection) -> Result<T, E> + Send,
    ) -> Result<T, E> {
        let Some(runtime) = &self.runtime else {
            return Err(PostgresError::configuration("the connection is closed").into());
        };
        apart(|| runtime.block_on(work(&self.connection)))
    }
}

impl Drop for BlockingConnection {
    fn drop(&mut self) {
        // A task may drop it, which must not block.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl std::fmt::Debug for BlockingConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockingConnection").finish_non_exhaustive()
    }
}

/// Does what runs a runtime: a thread that belongs to another one can't. The caller waits in any case.
fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    if Handle::try_current().is_err() {
        return work();
    }
    std::thread::scope(|scope| scope.spawn(work).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
