//! Connecting to PostgreSQL, and errors of it in plain words. This module knows nothing of the tables that anyone keeps there.

mod blocking;
mod channel_binding;
mod connection;
mod error;
mod report;
mod schema;
mod sqlstate;
mod stream;
#[cfg(test)]
pub(crate) mod testing;

pub use blocking::{BlockingConnection, runtime};
pub use connection::{CONNECT_TIMEOUT, Connection, Values};
pub use error::{PostgresError, PostgresErrorKind};
pub use report::{ServerReport, inspect};
pub use schema::{create_schema, create_with_others};

use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_postgres::config::{SslMode, SslNegotiation};
use tokio_postgres::{AsyncMessage, Client, Notification, SimpleQueryMessage};

use crate::config::{Masks, PostgresConfig, PostgresPassword};
use crate::net::address::host_and_port;
use crate::tasks::{self, TaskKind};
use crate::telemetry::printable;

use stream::{Opened, Stream, StreamTls};

/// The oldest supported version, as `server_version_num` has it.
const OLDEST_VERSION: u32 = 140_000;
/// The notifications that wait for their reader. Further ones are dropped: whoever needs what they tell must also look for it.
const MAX_NOTIFICATIONS: usize = 64;
/// The time for saying goodbye to the server.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A server, the database and the user, without the password: for error messages and logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAddress {
    pub host: String,
    pub port: u16,
    pub database: String,
    pub user: String,
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, database {}, user {}", self.endpoint(), printable(&self.database), printable(&self.user))
    }
}

impl ServerAddress {
    #[must_use]
    pub fn endpoint(&self) -> String {
        host_and_port(&self.host, self.port)
    }
}

/// A connection to a server that takes writes.
pub struct Session {
    pub client: Client,
    pub connection: SessionConnection,
}

/// The task that moves the bytes of a connection. Dropping it closes the connection at once, whatever is in flight.
pub struct SessionConnection {
    address: ServerAddress,
    /// As in `server_version_num`: 150018 is 15.18.
    version: u32,
    is_secure: bool,
    notifications: mpsc::Receiver<Notification>,
    /// Why the connection ended, if it failed.
    failure: Arc<OnceLock<PostgresError>>,
    task: JoinHandle<()>,
}

/// Connects to the first server of the list that takes writes, `within` that time. The hosts share it, so that one that doesn't answer
/// leaves time for the next.
pub async fn connect(config: &PostgresConfig, within: Duration) -> Result<Session, PostgresError> {
    let deadline = Instant::now() + within;
    let tls = StreamTls::of(config).map_err(|error| PostgresError::configuration(error.to_string()))?;
    let login = login(config)?;
    let mut failed = Vec::new();
    for (place, (host, port)) in config.hosts.iter().enumerate() {
        let address = ServerAddress {
            host: host.clone(),
            port: *port,
            database: config.database.clone(),
            user: config.user.clone(),
        };
        let left = u32::try_from(config.hosts.len() - place).unwrap_or(u32::MAX);
        let limit = config.connect_timeout.min(deadline.duration_since(Instant::now()) / left);
        match connect_one(&address, &login, tls.as_ref(), limit).await {
            Ok(session) => {
                for (_, error) in failed {
                    tracing::debug!(%error, "an earlier PostgreSQL server of the list can't be used; connected to another one");
                }
                return Ok(session);
            }
            Err(error) => failed.push((address, error)),
        }
    }
    Err(PostgresError::of_all(failed))
}

struct Login {
    client: tokio_postgres::Config,
    masks: Masks,
}

/// Reads the file of the password, which blocks.
fn login(config: &PostgresConfig) -> Result<Login, PostgresError> {
    let mut client = tokio_postgres::Config::new();
    client.user(&config.user).dbname(&config.database).application_name(&config.application_name);
    let password = config.password.as_ref().map(PostgresPassword::reveal).transpose();
    let password = password.map_err(PostgresError::configuration)?.unwrap_or_default();
    if !password.is_empty() {
        client.password(&password);
    }
    Ok(Login { client, masks: [password.as_str()].into_iter().collect() })
}

async fn connect_one(
    address: &ServerAddress,
    login: &Login,
    tls: Option<&StreamTls>,
    limit: Duration,
) -> Result<Session, PostgresError> {
    let mut doing = "connecting";
    let connecting = async {
        let stream = Stream::open(&address.host, address.port, tls).await;
        let stream = stream.map_err(|error| PostgresError::of_stream(&error, address))?;
        doing = "logging in";
        let is_secure = stream.is_secure();
        let mut client = login.client.clone();
        if is_secure {
            // So it takes the stream as it is, and its channel binding.
            client.ssl_mode(SslMode::Require).ssl_negotiation(SslNegotiation::Direct);
        } else {
            client.ssl_mode(SslMode::Disable);
        }
        let connected = client.connect_raw(stream, Opened).await;
        let (client, connection) = connected.map_err(|error| PostgresError::of_login(&error, address))?;
        doing = "asking for its version";
        let mut session = Session { client, connection: SessionConnection::start(address, is_secure, connection) };
        session.connection.version = session.version_for_writes().await?;
        Ok(session)
    };
    match timeout(limit, connecting).await {
        Ok(connected) => connected.map_err(|error: PostgresError| error.masked(&login.masks)),
        Err(_) => Err(PostgresError::timeout(address, doing, limit)),
    }
}

impl Session {
    /// The server's version. It is an error if that is too old, or if the server is a standby.
    async fn version_for_writes(&self) -> Result<u32, PostgresError> {
        const QUESTION: &str = "SELECT current_setting('server_version_num'), pg_is_in_recovery()";
        let address = &self.connection.address;
        let answer = self.client.simple_query(QUESTION).await;
        let answer = answer.map_err(|error| self.connection.error("asking for its version", &error))?;
        let row = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some((row.get(0)?.parse::<u32>().ok()?, row.get(1)? == "t")),
            _ => None,
        });
        match row {
            None => {
                Err(PostgresError::new(PostgresErrorKind::Protocol, address, "the server doesn't tell its version"))
            }
            Some((version, is_standby)) => check_server(address, version, is_standby).map(|()| version),
        }
    }

    /// Closes the connection after what is in flight.
    pub async fn close(self) {
        let Self { client, mut connection } = self;
        drop(client);
        // If the server doesn't take the goodbye, the connection is dropped.
        let _ = timeout(CLOSE_TIMEOUT, &mut connection.task).await;
    }
}

fn check_server(address: &ServerAddress, version: u32, is_standby: bool) -> Result<(), PostgresError> {
    if version < OLDEST_VERSION {
        // Up to 9.6, the second number belongs to the major version.
        let major = if version < 100_000 {
            format!("{}.{}", version / 10_000, version / 100 % 100)
        } else {
            (version / 10_000).to_string()
        };
        let least = OLDEST_VERSION / 10_000;
        let meaning =
            format!("the server has PostgreSQL {major}, and the relay needs {least} or later: use a newer server");
        return Err(PostgresError::new(PostgresErrorKind::Version, address, &meaning));
    }
    if is_standby {
        let meaning = "the server is a standby, which takes no writes: name the primary in the URL, or all servers of the cluster";
        return Err(PostgresError::new(PostgresErrorKind::Standby, address, meaning));
    }
    Ok(())
}

impl SessionConnection {
    fn start(address: &ServerAddress, is_secure: bool, connection: tokio_postgres::Connection<Stream, Stream>) -> Self {
        let (to, notifications) = mpsc::channel(MAX_NOTIFICATIONS);
        let failure = Arc::<OnceLock<PostgresError>>::default();
        let driving = drive(connection, address.clone(), to, Arc::clone(&failure));
        let task = tasks::spawn(TaskKind::PostgresConnection, driving);
        Self { address: address.clone(), version: 0, is_secure, notifications, failure, task }
    }

    #[must_use]
    pub fn address(&self) -> &ServerAddress {
        &self.address
    }

    /// As in `server_version_num`: 150018 is 15.18.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// The next notification of a channel that the client listens to. None when the connection has ended.
    pub async fn notification(&mut self) -> Option<Notification> {
        self.notifications.recv().await
    }

    /// Explains the error of a request of this connection's client. `doing` names the request.
    #[must_use]
    pub fn error(&self, doing: &str, error: &tokio_postgres::Error) -> PostgresError {
        // A client whose connection has ended only says so.
        let ended = error.is_closed().then(|| self.failure.get().cloned()).flatten();
        ended.unwrap_or_else(|| PostgresError::of_request(error, &self.address)).while_doing(doing)
    }
}

impl Drop for SessionConnection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("address", &self.connection.address).finish_non_exhaustive()
    }
}

/// Moves the bytes of a connection until it ends.
async fn drive(
    mut connection: tokio_postgres::Connection<Stream, Stream>,
    address: ServerAddress,
    notifications: mpsc::Sender<Notification>,
    failure: Arc<OnceLock<PostgresError>>,
) {
    while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
        match message {
            Ok(AsyncMessage::Notification(notification)) => {
                // A reader that is behind knows that there is something new.
                let _ = notifications.try_send(notification);
            }
            Ok(AsyncMessage::Notice(notice)) => {
                tracing::debug!("a notice of PostgreSQL {address}: {}", printable(notice.message()));
            }
            Ok(_) => {}
            Err(error) => {
                // Before the connection is dropped, which ends the waiting requests.
                let _ = failure.set(PostgresError::of_request(&error, &address));
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_too_old_or_a_standby_is_refused() {
        let [host, database, user] = ["db", "relay", "relay"].map(str::to_owned);
        let address = ServerAddress { host, port: 5432, database, user };
        let refused = |version, is_standby| check_server(&address, version, is_standby).unwrap_err();
        assert_eq!(check_server(&address, 140_000, false), Ok(()));
        for (version, is_standby, major) in [(130_023, false, "13"), (130_023, true, "13"), (90_624, false, "9.6")] {
            let error = refused(version, is_standby);
            assert_eq!((error.kind, error.is_transient()), (PostgresErrorKind::Version, false));
            let text = format!("the server has PostgreSQL {major}, and the relay needs 14 or later");
            assert!(error.to_string().starts_with(&text), "{error}");
        }
        let standby = refused(180_000, true);
        assert_eq!((standby.kind, standby.is_transient()), (PostgresErrorKind::Standby, true));
    }
}
