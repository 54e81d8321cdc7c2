//! Connections to PostgreSQL: how they end, and what is said then.

use std::path::Path;
use std::time::Duration;

use regards_relay::config::{Config, Options, PostgresConfig, StoreConfig, Strictness};
use regards_relay::postgres::{PostgresError, PostgresErrorKind, Session, connect};
use tokio::time::timeout;

use crate::support::wait::PATIENCE;
use crate::support::{Postgres, Services, unique, until};

/// The database at a URL that has this application name, so that its connections can be told apart.
fn config(services: &Services, application: &str) -> PostgresConfig {
    let text = format!(
        "
version: 1
sources: {{ samples: {{ recording: {{ path: Cargo.toml }} }} }}
sinks: {{ screen: {{ stdout: {{}} }} }}
routes: [{{ name: all, to: screen }}]
unrouted: drop
spool: {{ postgres: {{ url: 'postgresql://{}:{}@localhost:{}/{}?application_name={application}' }} }}
",
        services.postgres_user(),
        services.postgres_password(),
        services.postgres_port(),
        services.postgres_database(),
    );
    let options = Options::of_process(Strictness::Run, None);
    let (config, _) =
        Config::parse(&text, Path::new("routes.yaml"), &options).unwrap_or_else(|errors| panic!("{errors}"));
    match config.spool.store {
        StoreConfig::Postgres(postgres) => *postgres,
        StoreConfig::Sqlite(_) => panic!("the spool is in PostgreSQL"),
    }
}

async fn connected(config: &PostgresConfig) -> Session {
    connect(config, PATIENCE).await.unwrap()
}

/// Waits until the server has that many connections of that name.
async fn until_connections(admin: &Postgres, application: &str, count: usize) {
    let question = format!("SELECT count(*) FROM pg_stat_activity WHERE application_name = '{application}'");
    until(&format!("{count} connections of {application}"), async || match admin.execute(&question).await {
        Ok(found) if found == count.to_string() => Ok(()),
        found => Err(format!("{found:?}")),
    })
    .await;
}

fn failed(session: &Session, error: &tokio_postgres::Error) -> PostgresError {
    session.connection.error("counting", error)
}

#[tokio::test]
async fn a_connection_ends_with_its_session() {
    let services = Services::shared();
    let admin = Postgres::as_admin(&services);
    let name = unique("ends");
    let config = config(&services, &name);
    let closed = connected(&config).await;
    let dropped = connected(&config).await;
    until_connections(&admin, &name, 2).await;
    assert!(closed.connection.version() >= 140_000 && closed.connection.is_secure());
    closed.close().await;
    until_connections(&admin, &name, 1).await;
    // What is in flight doesn't keep it.
    dropped.client.batch_execute("BEGIN").await.unwrap();
    drop(dropped);
    until_connections(&admin, &name, 0).await;
}

#[tokio::test]
async fn a_request_that_fails_is_explained() {
    let services = Services::shared();
    let session = connected(&config(&services, "explained")).await;
    let error = session.client.batch_execute("SELECT 1 FROM no_such_table").await.unwrap_err();
    let explained = failed(&session, &error);
    assert_eq!((explained.kind, explained.is_transient()), (PostgresErrorKind::NotFound, false));
    assert_eq!(explained.sqlstate(), Some("42P01"));
    assert!(explained.to_string().starts_with("counting failed: a table is missing"), "{explained}");
    let error = session.client.batch_execute("SET statement_timeout = 1; SELECT pg_sleep(60)").await.unwrap_err();
    let explained = failed(&session, &error);
    assert_eq!((explained.kind, explained.is_transient()), (PostgresErrorKind::Canceled, true));
    let error = session.client.batch_execute("BEGIN READ ONLY; CREATE SCHEMA no").await.unwrap_err();
    let explained = failed(&session, &error);
    assert_eq!((explained.kind, explained.is_transient()), (PostgresErrorKind::Standby, true));
}

#[tokio::test]
async fn notifications_arrive() {
    let services = Services::shared();
    let channel = unique("notified").replace('-', "_");
    let mut session = connected(&config(&services, "listens")).await;
    session.client.batch_execute(&format!("LISTEN {channel}")).await.unwrap();
    Postgres::of(&services).execute(&format!("NOTIFY {channel}, 'hello'")).await.unwrap();
    let notification = timeout(PATIENCE, session.connection.notification()).await.unwrap().unwrap();
    assert_eq!((notification.channel(), notification.payload()), (channel.as_str(), "hello"));
}

#[tokio::test]
async fn a_connection_that_the_server_ends_says_why() {
    let private = Services::private(&["postgres"]).await;
    let config = config(private.services(), "ended");
    let mut idle = connected(&config).await;
    private.terminate("postgres").await;
    assert!(timeout(PATIENCE, idle.connection.notification()).await.unwrap().is_none());
    let error = idle.client.batch_execute("SELECT 1").await.unwrap_err();
    let explained = failed(&idle, &error);
    assert_eq!((explained.kind, explained.is_transient()), (PostgresErrorKind::Unavailable, true));
    assert_eq!(explained.sqlstate(), Some("57P01"));

    let killed = connected(&config).await;
    private.kill("postgres").await;
    let error = killed.client.batch_execute("SELECT 1").await.unwrap_err();
    let explained = failed(&killed, &error);
    assert!(
        matches!(explained.kind, PostgresErrorKind::ConnectionLost | PostgresErrorKind::Unavailable),
        "{explained}"
    );
    assert!(explained.is_transient());

    private.start("postgres").await;
    connected(&config).await;
    private.pause("postgres").await;
    let frozen = connect(&config, Duration::from_millis(500)).await.unwrap_err();
    assert_eq!((frozen.kind, frozen.is_transient()), (PostgresErrorKind::Timeout, true));
}
