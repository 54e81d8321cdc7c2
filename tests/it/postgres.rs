//! The PostgreSQL servers of `scripts/services.sh`: what other tests rely on when they stop, freeze or replace one.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::support::{Postgres, Services, unique, until};

/// The time in which a suspended server must not answer. Any other server answers within milliseconds.
const SILENCE: Duration = Duration::from_secs(2);

#[tokio::test]
async fn the_relays_user_may_create_schemas_in_its_database_only() {
    let services = Services::shared();
    let relay = Postgres::of(&services);
    let tls = relay.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").await;
    assert_eq!(tls.as_deref(), Ok("t"));

    let schema = unique("postgres").replace('-', "_");
    assert_eq!(relay.execute(&format!("CREATE SCHEMA {schema}")).await.as_deref(), Ok(""));
    assert_eq!(relay.execute(&format!("DROP SCHEMA {schema}")).await.as_deref(), Ok(""));
    let denied = |result: Result<String, String>| result.expect_err("not allowed").contains("permission denied");
    assert!(denied(relay.execute(&format!("CREATE TABLE public.{schema} ()")).await));
    let other = relay.with(&format!("dbname={}", services.postgres_other_database()));
    assert!(denied(other.execute(&format!("CREATE SCHEMA {schema}")).await));

    let is_superuser = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user";
    assert_eq!(relay.execute(is_superuser).await.as_deref(), Ok("f"));
    assert_eq!(Postgres::as_admin(&services).execute(is_superuser).await.as_deref(), Ok("t"));
}

#[tokio::test]
async fn a_client_certificate_is_the_login_of_one_user() {
    let services = Services::shared();
    let [stranger, stranger_key] = services.stranger();
    let folder = tempfile::tempdir().expect("a folder");
    let user = services.postgres_cert_user();
    let login = |certificate: &str, key: &str| {
        // psql refuses a key that other users can read.
        let private = folder.path().join("key");
        std::fs::copy(key, &private).expect("a copy");
        std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o600)).expect("permissions");
        Postgres::of(&services).with(&format!("user={user} sslcert={certificate} sslkey={}", private.display()))
    };
    let known = login(services.client_cert(), services.client_key());
    assert_eq!(known.execute("SELECT current_user").await.as_deref(), Ok(user));
    let unknown = login(&stranger, &stranger_key).execute("SELECT current_user").await;
    assert!(unknown.expect_err("refused").contains("certificate authentication failed"));
}

#[tokio::test]
async fn a_server_can_be_stopped_killed_and_frozen_and_its_connections_ended() {
    let brokers = Services::private(&["postgres"]).await;
    let postgres = Postgres::of(brokers.services());
    assert_eq!(postgres.execute("CREATE SCHEMA kept CREATE TABLE events (name text)").await.as_deref(), Ok(""));

    let mut session = postgres.session();
    session.send("INSERT INTO kept.events VALUES ('before the kill') RETURNING name");
    assert_eq!(session.line().await.as_deref(), Some("before the kill"));
    brokers.kill("postgres").await;
    assert!(session.has_ended().await);
    assert!(postgres.execute("SELECT 1").await.expect_err("no server").contains("Connection refused"));
    brokers.start("postgres").await;
    assert_eq!(postgres.execute("TABLE kept.events").await.as_deref(), Ok("before the kill"));

    let mut session = postgres.session();
    session.send("SELECT 'open'");
    assert_eq!(session.line().await.as_deref(), Some("open"));
    brokers.pause("postgres").await;
    session.send("SELECT 'on the open connection'");
    let client = postgres.clone();
    let mut attempt = tokio::spawn(async move { client.execute("SELECT 'on a new connection'").await });
    tokio::select! {
        () = tokio::time::sleep(SILENCE) => {}
        line = session.line() => panic!("a suspended server answered: {line:?}"),
        result = &mut attempt => panic!("a suspended server took a connection: {result:?}"),
    }
    brokers.resume("postgres").await;
    assert_eq!(session.line().await.as_deref(), Some("on the open connection"));
    assert_eq!(attempt.await.expect("psql").as_deref(), Ok("on a new connection"));

    brokers.terminate("postgres").await;
    assert!(session.has_ended().await);
    assert_eq!(postgres.execute("TABLE kept.events").await.as_deref(), Ok("before the kill"));

    // A clean stop ends open connections, also of a server that is frozen.
    let mut session = postgres.session();
    session.send("SELECT 'open'");
    assert_eq!(session.line().await.as_deref(), Some("open"));
    brokers.pause("postgres").await;
    brokers.stop("postgres").await;
    assert!(session.has_ended().await);
    brokers.start("postgres").await;
    assert_eq!(postgres.execute("TABLE kept.events").await.as_deref(), Ok("before the kill"));
}

#[tokio::test]
async fn a_synchronous_standby_has_each_commit_and_can_be_promoted() {
    let brokers = Services::private(&["postgres", "postgres-standby"]).await;
    let primary = Postgres::as_admin(brokers.services());
    let standby = primary.with(&format!("port={}", brokers.services().postgres_standby_port()));
    let in_recovery = "SELECT pg_is_in_recovery()";
    assert_eq!(primary.execute(in_recovery).await.as_deref(), Ok("f"));
    assert_eq!(standby.execute(in_recovery).await.as_deref(), Ok("t"));
    assert_eq!(primary.execute("CREATE TABLE events (name text)").await.as_deref(), Ok(""));

    brokers.synchronous().await;
    brokers.pause("postgres-standby").await;
    let mut session = primary.session();
    session.send("INSERT INTO events VALUES ('committed') RETURNING name");
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    until("a commit that waits for the standby", async || match primary.execute(waiting).await {
        Ok(count) if count == "1" => Ok(()),
        seen => Err(format!("{seen:?}")),
    })
    .await;
    brokers.resume("postgres-standby").await;
    assert_eq!(session.line().await.as_deref(), Some("committed"));

    brokers.kill("postgres").await;
    brokers.promote().await;
    assert_eq!(standby.execute("TABLE events").await.as_deref(), Ok("committed"));
    let more = standby.execute("INSERT INTO events VALUES ('by the new primary') RETURNING name").await;
    assert_eq!(more.as_deref(), Ok("by the new primary"));
}

#[tokio::test]
async fn commits_wait_for_no_standby_once_that_is_taken_back() {
    let brokers = Services::private(&["postgres", "postgres-standby"]).await;
    let primary = Postgres::as_admin(brokers.services());
    brokers.synchronous().await;
    brokers.kill("postgres-standby").await;
    brokers.asynchronous().await;
    assert_eq!(primary.execute("CREATE TABLE events (name text)").await.as_deref(), Ok(""));
    brokers.start("postgres-standby").await;
    let standby = primary.with(&format!("port={}", brokers.services().postgres_standby_port()));
    until("the table at the standby", async || standby.execute("TABLE events").await).await;
}
