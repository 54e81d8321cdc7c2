//! A database for tests of what is stored there.

use std::time::Duration;

use crate::config::{PostgresConfig, PostgresPassword, Secret, SslMode};
use crate::net::Tls;

/// The store of these tests is `postgres` where it says so; otherwise SQLite.
const STORE: &str = "REGARDS_RELAY_TEST_SPOOL";

/// An empty schema of the server that runs for the tests; `None`: they use files.
pub(crate) fn schema() -> Option<PostgresConfig> {
    if std::env::var(STORE).ok()? != "postgres" {
        return None;
    }
    let variable =
        |name: &str| std::env::var(format!("REGARDS_RELAY_TEST_POSTGRES_{name}")).expect("a server for the tests");
    Some(PostgresConfig {
        hosts: vec![("127.0.0.1".to_owned(), variable("PORT").parse().unwrap())],
        user: variable("USER"),
        password: Some(PostgresPassword::Alone(Secret::text(variable("PASSWORD")))),
        database: variable("DATABASE"),
        schema: format!("t{:x}_{}", fastrand::u64(..), std::process::id()),
        shard: String::new(),
        lease: Duration::from_mins(1),
        ssl_mode: SslMode::Require,
        connect_timeout: Duration::from_secs(20),
        application_name: "regards-relay".to_owned(),
        tls: Tls::default(),
    })
}
