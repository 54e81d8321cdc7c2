//! What `check --connect` says of a server.

use std::time::Duration;

use tokio::time::timeout;

use super::{PostgresError, PostgresErrorKind, ServerAddress, Session, connect};
use crate::config::PostgresConfig;

/// For connecting, and for the questions.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A server that can be used, and the settings of it that risk data.
#[derive(Debug, PartialEq, Eq)]
pub struct ServerReport {
    pub summary: String,
    pub warnings: Vec<String>,
}

const QUESTIONS: &str = "
    SELECT current_setting('server_version') AS version,
           has_database_privilege(current_database(), 'CREATE') AS may_create,
           to_regnamespace($1) IS NOT NULL AS has_schema,
           coalesce(has_schema_privilege(to_regnamespace($1)::oid, 'USAGE')
                    AND has_schema_privilege(to_regnamespace($1)::oid, 'CREATE'), false) AS may_use_schema,
           current_setting('fsync') AS fsync,
           current_setting('full_page_writes') AS full_page_writes,
           current_setting('synchronous_commit') AS synchronous_commit,
           current_setting('synchronous_standby_names') AS synchronous_standby_names,
           (SELECT count(*) FROM pg_stat_replication) AS standbys";

/// Connects, and finds out whether the relay could keep its tables there. Changes nothing.
pub async fn inspect(config: &PostgresConfig) -> Result<ServerReport, PostgresError> {
    let session = connect(config, TIMEOUT).await?;
    let address = session.connection.address();
    let asked = timeout(TIMEOUT, ask(&session, &config.schema)).await;
    let report = asked.unwrap_or_else(|_| Err(PostgresError::timeout(address, "asking for its settings", TIMEOUT)));
    session.close().await;
    report
}

async fn ask(session: &Session, schema: &str) -> Result<ServerReport, PostgresError> {
    const DOING: &str = "asking for its settings";
    let connection = &session.connection;
    let failed = |error| connection.error(DOING, &error);
    let row = session.client.query_one(QUESTIONS, &[&schema]).await.map_err(failed)?;
    let text = |column: &str| row.try_get::<_, String>(column).map_err(failed);
    let flag = |column: &str| row.try_get::<_, bool>(column).map_err(failed);
    let address = connection.address();
    let (has_schema, may_create) = (flag("has_schema")?, flag("may_create")?);
    let missing = |right: String| {
        let meaning = format!("the user lacks a right: ask the server's administrator for `{right}`");
        Err(PostgresError::new(PostgresErrorKind::NotPermitted, address, &meaning))
    };
    let ServerAddress { database, user, .. } = address;
    let schema = match (has_schema, may_create) {
        (true, _) if !flag("may_use_schema")? => {
            return missing(format!("GRANT USAGE, CREATE ON SCHEMA {schema} TO {}", quoted(user)));
        }
        (true, _) => format!("the schema {schema} exists"),
        (false, true) => format!("the schema {schema} doesn't exist yet, and the user may create it"),
        (false, false) => return missing(format!("GRANT CREATE ON DATABASE {} TO {}", quoted(database), quoted(user))),
    };
    let tls = if connection.is_secure() { "with" } else { "without" };
    let summary = format!("PostgreSQL {} answers at {}, {tls} TLS; {schema}", text("version")?, address.endpoint());
    let mut warnings = Vec::new();
    for (setting, risk) in [
        ("fsync", "a crash of the server's machine can damage all of its data"),
        ("full_page_writes", "a crash of the server's machine can damage all of its data"),
        (
            "synchronous_commit",
            "the relay turns it on for its own connections; other applications can lose commits in a crash",
        ),
    ] {
        if text(setting)? == "off" {
            warnings.push(format!("`{setting}` is off at the server: {risk}"));
        }
    }
    let standbys: i64 = row.try_get("standbys").map_err(failed)?;
    if standbys > 0 && text("synchronous_standby_names")?.trim().is_empty() {
        warnings.push(format!(
            "the server has standby servers ({standbys}), and `synchronous_standby_names` is empty: a failover would lose deliveries that the \
             standby doesn't have yet; name the standby there"
        ));
    }
    Ok(ServerReport { summary, warnings })
}

/// A name in an SQL command.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
