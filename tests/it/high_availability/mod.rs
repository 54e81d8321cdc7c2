//! Several relays with one spool in PostgreSQL: one has the lease, and another goes on with its queue and its backlog.

mod broken_promises;
mod commands;
mod journal;
mod migrate;
mod shards;
mod takeover;
mod texts;

use std::collections::{BTreeMap, BTreeSet};

use crate::support::{Home, Postgres, Receiver, Regards, Relay, Response, Services, unique, until};

const ROUTES: &str = configuration! {
    sinks: {
        healthy: r#"{ webhook: { url: "${HEALTHY}" } }"#,
        broken: r#"{ webhook: { url: "${BROKEN}" }, retry: { initial_backoff: 100ms, max_backoff: 1s } }"#,
    },
    "spool: { postgres: { url: '${POSTGRES}', password: '${PASSWORD}', schema: '${SCHEMA}', lease: '${LEASE}' } }",
};

/// A lease that outlasts a test: it is hardly renewed, and a relay on a busy machine doesn't lose it.
const LONG: &str = "5m";

/// Two relays with one queue, one spool and two webhooks, the second of which is down.
struct Pair {
    regards: Regards,
    healthy: Receiver,
    broken: Receiver,
    homes: [Home; 2],
    /// For a third relay.
    third: Home,
    schema: String,
    database: Postgres,
}

impl Pair {
    async fn new(services: &Services) -> Self {
        Self::with(services, &address(services, services.postgres_port(), "sslmode=require"), "10s").await
    }

    async fn with_long_lease() -> Self {
        let services = Services::shared();
        Self::with(&services, &address(&services, services.postgres_port(), "sslmode=require"), LONG).await
    }

    /// `address` of the database is from [`address`], and `lease` the length of the lease.
    async fn with(services: &Services, address: &str, lease: &str) -> Self {
        Self::of(services, address, lease, ROUTES).await
    }

    async fn of(services: &Services, address: &str, lease: &str, routes: &str) -> Self {
        let regards = Regards::new().await;
        let (healthy, mut broken) = (Receiver::start().await, Receiver::start().await);
        broken.go_down().await;
        let url = format!("postgres://{}@{address}", services.postgres_user());
        let schema = unique("relay").replace('-', "_");
        let home = || {
            Home::of(&regards, routes)
                .with("HEALTHY", &healthy.url())
                .with("BROKEN", &broken.url())
                .with("POSTGRES", &url)
                .with("PASSWORD", services.postgres_password())
                .with("SCHEMA", &schema)
                .with("LEASE", lease)
                .keeping_secret(services.postgres_password())
        };
        Self {
            homes: [home(), home()],
            third: home(),
            regards,
            healthy,
            broken,
            database: Postgres::of(services),
            schema,
        }
    }

    /// Executes a statement on the tables of the spool; `$` stands for the schema.
    async fn sql(&self, statement: &str) -> String {
        let statement = statement.replace('$', &self.schema);
        self.database.execute(&statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"))
    }

    async fn number(&self, statement: &str) -> i64 {
        let number = self.sql(statement).await;
        number.parse().unwrap_or_else(|error| panic!("{statement}: {number:?}: {error}"))
    }

    /// Publishes GRANTED and SUCCESS of each request.
    async fn publish(&self, requests: impl Iterator<Item = usize>) {
        let mut all = Vec::new();
        for request in requests {
            for status in ["GRANTED", "SUCCESS"] {
                all.push(Response::new("t", &format!("request {request}"), status));
            }
        }
        self.regards.publish_all(&all).await;
    }

    /// Waits until both webhooks have accepted all events of so many requests, and checks their order. Returns how many were sent twice.
    async fn wait_for_all(&self, requests: usize) -> usize {
        let mut repeated = 0;
        for receiver in [&self.healthy, &self.broken] {
            let ids = async || {
                let accepted = receiver.accepted();
                let ids: BTreeSet<String> = accepted.iter().map(|posted| posted.json()["id"].to_string()).collect();
                if ids.len() == 2 * requests { Ok(accepted) } else { Err(format!("{} of {requests}", ids.len())) }
            };
            let accepted = until("all events at a webhook", ids).await;
            let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for posted in &accepted {
                let event = posted.json();
                let statuses = seen.entry(event["correlationId"].to_string()).or_default();
                let status = event["status"].to_string();
                if statuses.contains(&status) {
                    repeated += 1;
                } else {
                    statuses.push(status);
                }
            }
            for (request, statuses) in seen {
                assert_eq!(statuses, ["\"GRANTED\"", "\"SUCCESS\""], "the first copies of {request}");
            }
        }
        repeated
    }
}

/// The address of the relay's database in a URL, with settings of the connections.
fn address(services: &Services, port: u16, settings: &str) -> String {
    format!("127.0.0.1:{port}/{}?{settings}", services.postgres_database())
}

/// Starts a relay in each home. The first one works, the other one stands by.
async fn start_both([first_home, second_home]: &[Home; 2]) -> [Relay<'_>; 2] {
    let first = first_home.start_ready().await;
    let second = second_home.start();
    wait_for_standby(&second).await;
    [first, second]
}

async fn wait_for_standby(relay: &Relay<'_>) {
    until("/readyz to say standby", async || match relay.page("/readyz").await? {
        (200, text) if text.contains("is in use by") => Ok(()),
        (status, text) => Err(format!("{status} {text}")),
    })
    .await;
    assert_eq!(relay.metric("source_standby", &[]).await, Ok(Some(1.0)));
}
