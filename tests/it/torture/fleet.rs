//! The relays of a run. If there are several, they share a spool in PostgreSQL: one of them owns it, and the others stand
//! by.

use std::collections::BTreeMap;
use std::fmt;
use std::net::TcpListener;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::receiver::{Receiver, url_of};
use super::schedule::Fault;
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::{Home, Regards, Services, unique, until};

/// The spool that several relays share.
pub struct Database {
    user: String,
    name: String,
    password: String,
    schema: String,
    pub lease: Duration,
    admin: Postgres,
}

impl Database {
    pub fn of(services: &Services, lease: Duration) -> Self {
        Self {
            user: services.postgres_user().to_owned(),
            name: services.postgres_database().to_owned(),
            password: services.postgres_password().to_owned(),
            schema: unique("torture").replace('-', "_"),
            lease,
            admin: Postgres::as_admin(services),
        }
    }

    /// Executes statements on the tables of the spool; `$` stands for the schema.
    pub async fn execute(&self, statements: &str) -> String {
        let statements = statements.replace('$', &self.schema);
        self.admin.execute(&statements).await.unwrap_or_else(|error| panic!("{statements}: {error}"))
    }

    /// What is added to the configuration of each relay.
    pub fn settings(&self) -> String {
        let lease = self.lease.as_secs();
        format!(
            "spool: {{ postgres: {{ url: \"${{POSTGRES}}\", password: \"${{PASSWORD}}\", schema: {}, lease: {lease}s }} }}",
            self.schema
        )
    }

    /// Configures the relay of that place, which reaches the servers by these lines.
    pub fn configure(&self, home: Home, place: usize, lines: &Lines, regards: &Regards) -> Home {
        // A relay that has lost its lease executes itself again, and keeps this address then.
        let free = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()).expect("a free port");
        let url = |port: u16| format!("postgres://{}@127.0.0.1:{port}/{}?sslmode=require", self.user, self.name);
        home.with("POSTGRES", &url(lines.postgres.port()))
            .with("PASSWORD", &self.password)
            .with("REGARDS", &regards.vhost.url_at(&regards.user, &regards.password, lines.rabbit.port()))
            .with("HOOK", &url_of(place, lines.webhook.port()))
            .with("REGARDS_RELAY_ADMIN_LISTEN", &free.to_string())
            .keeping_secret(&self.password)
    }

    /// The place of the relay that owns the spool, by the process of the relay at each place. Waits until one does.
    pub async fn owner(&self, processes: &Mutex<Vec<u32>>) -> usize {
        let schema = &self.schema;
        let statement = format!(
            "SELECT name FROM {schema}.shards JOIN {schema}.instances ON id = owner \
             WHERE expires_at > clock_timestamp()"
        );
        until("a relay that owns the spool", async || {
            let name = self.admin.execute(&statement).await?;
            let is_owner = |process: &u32| name.contains(&format!("(process {process})"));
            processes.lock().expect("no holder panics").iter().position(is_owner).ok_or(name)
        })
        .await
    }
}

/// The connections of one relay to the servers, which can be cut.
pub struct Lines {
    pub postgres: Proxy,
    pub rabbit: Proxy,
    pub webhook: Proxy,
}

impl Lines {
    pub async fn of(services: &Services, receiver: &Receiver) -> Self {
        Self {
            postgres: Proxy::to(services.postgres_port()).await,
            rabbit: Proxy::to(services.amqp_port()).await,
            webhook: Proxy::to(receiver.port()).await,
        }
    }
}

/// How long it took until another relay consumed, for each kind of fault.
#[derive(Debug, Default)]
pub struct Takeovers(BTreeMap<Fault, Vec<Duration>>);

impl Takeovers {
    pub fn add(&mut self, fault: Fault, since: Instant) {
        self.0.entry(fault).or_default().push(since.elapsed());
    }
}

impl fmt::Display for Takeovers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (fault, times) in &self.0 {
            let mut times = times.clone();
            times.sort_unstable();
            let seconds = |percent: usize| {
                let place = (times.len() * percent).div_ceil(100).max(1) - 1;
                times.get(place).unwrap_or(&Duration::ZERO).as_secs_f32()
            };
            writeln!(
                f,
                "takeovers after {}: {}; median {:.2} s, 95 % within {:.2} s, all within {:.2} s",
                fault.name(),
                times.len(),
                seconds(50),
                seconds(95),
                seconds(100)
            )?;
        }
        Ok(())
    }
}
