//! The brokers, the schema registry and PostgreSQL of `scripts/services.sh`: shared ones, and private ones for tests that
//! stop or kill them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Condvar, Mutex};

use super::unique;

const PREFIX: &str = "REGARDS_RELAY_TEST_";

/// The limit of private brokers at any time. Each needs memory, and most of a core while it starts.
const PRIVATE_AT_ONCE: usize = 2;

static PRIVATE: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// The addresses and the credentials of the brokers.
#[derive(Debug, Clone)]
pub struct Services {
    dir: PathBuf,
    values: HashMap<String, String>,
}

impl Services {
    /// The brokers that all tests share. A test must not stop them or change what another test created there.
    pub fn shared() -> Self {
        let values: HashMap<String, String> =
            std::env::vars().filter_map(|(name, value)| Some((name.strip_prefix(PREFIX)?.to_owned(), value))).collect();
        let Some(dir) = values.get("DIR") else {
            panic!(
                "this test needs RabbitMQ, Kafka and PostgreSQL. Run `make test`, or: \
                 scripts/services.sh run -- cargo test --test it {}",
                std::thread::current().name().unwrap_or_default()
            );
        };
        Self { dir: dir.into(), values }
    }

    /// Starts brokers for one test, which may stop and kill them. Dropping the value removes them.
    pub async fn private(which: &'static [&'static str]) -> Private {
        tokio::task::spawn_blocking(move || Private::up(which)).await.expect("private brokers")
    }

    #[allow(dead_code, reason = "the benchmarks want it")]
    pub fn rabbitmq_pid(&self) -> u32 {
        let path = self.dir.join("rabbitmq/rabbitmq.pid");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        text.trim().parse().expect("a process id")
    }

    fn value(&self, name: &str) -> &str {
        let known = self.values.get(name);
        known.unwrap_or_else(|| panic!("{PREFIX}{name} is not set: {} runs without that broker", self.dir.display()))
    }

    fn port(&self, name: &str) -> u16 {
        self.value(name).parse().expect("a port")
    }

    pub fn amqp_port(&self) -> u16 {
        self.port("AMQP_PORT")
    }

    pub fn amqps_port(&self) -> u16 {
        self.port("AMQPS_PORT")
    }

    pub fn management_port(&self) -> u16 {
        self.port("MANAGEMENT_PORT")
    }

    pub fn amqp_user(&self) -> &str {
        self.value("AMQP_USER")
    }

    pub fn amqp_password(&self) -> &str {
        self.value("AMQP_PASSWORD")
    }

    pub fn kafka_port(&self) -> u16 {
        self.port("KAFKA_PORT")
    }

    pub fn kafka_sasl_ssl_port(&self) -> u16 {
        self.port("KAFKA_SASL_SSL_PORT")
    }

    pub fn kafka_user(&self) -> &str {
        self.value("KAFKA_USER")
    }

    pub fn kafka_password(&self) -> &str {
        self.value("KAFKA_PASSWORD")
    }

    /// Creates a Kafka user who logs in with SCRAM-SHA-512, or changes the password of an existing one.
    pub async fn kafka_login(&self, user: &str, password: &str) {
        let mut login = Command::new(script());
        login.arg("login").arg(&self.dir).args(["kafka", user, password]);
        let done =
            tokio::task::spawn_blocking(move || login.output().expect("services.sh")).await.expect("services.sh");
        assert!(done.status.success(), "login: {}", String::from_utf8_lossy(&done.stderr));
    }

    pub fn kdc_port(&self) -> u16 {
        self.port("KDC_PORT")
    }

    /// The directory of the key distribution center: krb5.conf, keytabs, its log.
    pub fn kdc(&self) -> &Path {
        Path::new(self.value("KDC"))
    }

    pub fn registry_port(&self) -> u16 {
        self.port("REGISTRY_PORT")
    }

    /// Only private services have it: `registry-auth`.
    #[allow(dead_code, reason = "for the tests of logins to a registry")]
    pub fn registry_auth_port(&self) -> u16 {
        self.port("REGISTRY_AUTH_PORT")
    }

    pub fn postgres_port(&self) -> u16 {
        self.port("POSTGRES_PORT")
    }

    /// Only private services have it: `postgres-standby`.
    pub fn postgres_standby_port(&self) -> u16 {
        self.port("POSTGRES_STANDBY_PORT")
    }

    /// The name of the user who may create schemas in [`Self::postgres_database`] and has no other right.
    pub fn postgres_user(&self) -> &str {
        self.value("POSTGRES_USER")
    }

    pub fn postgres_password(&self) -> &str {
        self.value("POSTGRES_PASSWORD")
    }

    /// The name of a user with the same rights who logs in by [`Self::client_cert`].
    pub fn postgres_cert_user(&self) -> &str {
        self.value("POSTGRES_CERT_USER")
    }

    pub fn postgres_database(&self) -> &str {
        self.value("POSTGRES_DATABASE")
    }

    /// A database in which only the superuser may create schemas.
    pub fn postgres_other_database(&self) -> &str {
        self.value("POSTGRES_OTHER_DATABASE")
    }

    /// The superuser's name and password.
    pub fn postgres_admin(&self) -> [&str; 2] {
        ["POSTGRES_ADMIN_USER", "POSTGRES_ADMIN_PASSWORD"].map(|name| self.value(name))
    }

    /// The program psql.
    pub fn psql(&self) -> &str {
        self.value("PSQL")
    }

    /// The RSA key (PEM, PKCS#8; key id `tests`) whose tokens Kafka, RabbitMQ and `registry-auth` accept.
    #[allow(dead_code, reason = "for the tests of OAuth2")]
    pub fn token_key(&self) -> &str {
        self.value("TOKEN_KEY")
    }

    /// A Python that has Confluent's clients.
    pub fn python(&self) -> &str {
        self.value("PYTHON")
    }

    /// A Java of at least 17.
    pub fn java(&self) -> &str {
        self.value("JAVA")
    }

    /// The directory of Kafka Connect's jars.
    pub fn connect(&self) -> &Path {
        Path::new(self.value("CONNECT"))
    }

    /// The private certificate authority that signed the brokers' certificates.
    pub fn ca(&self) -> &str {
        self.value("CA")
    }

    pub fn client_cert(&self) -> &str {
        self.value("CLIENT_CERT")
    }

    pub fn client_key(&self) -> &str {
        self.value("CLIENT_KEY")
    }

    /// The certificate and the key of a client whose name is no user of any broker.
    pub fn stranger(&self) -> [String; 2] {
        ["stranger.pem", "stranger.key"].map(|name| self.dir.join("tls").join(name).display().to_string())
    }
}

/// The private brokers of one test.
pub struct Private {
    dir: PathBuf,
    services: Services,
    _turn: Turn,
}

impl Private {
    fn up(which: &[&str]) -> Self {
        // Private brokers need the shared run as well, because it installs the brokers.
        drop(Services::shared());
        let turn = Turn::take();
        let dir = std::env::temp_dir().join(unique("regards-relay-it"));
        let up = Command::new(script()).arg("up").arg(&dir).args(which).output().expect("services.sh");
        assert!(up.status.success(), "services.sh up {which:?}: {}", String::from_utf8_lossy(&up.stderr));
        let services = Services { values: read_env(&dir), dir: dir.clone() };
        Self { dir, services, _turn: turn }
    }

    pub fn services(&self) -> &Services {
        &self.services
    }

    /// Stops it cleanly and waits until it has exited.
    pub async fn stop(&self, broker: &'static str) {
        self.tell("stop", broker).await;
    }

    /// Kills it with SIGKILL, without a clean shutdown.
    pub async fn kill(&self, broker: &'static str) {
        self.tell("kill", broker).await;
    }

    /// Starts it again with the same data and ports, and waits until it answers.
    pub async fn start(&self, broker: &'static str) {
        self.tell("start", broker).await;
    }

    /// Suspends it with SIGSTOP: connections stay open, and it sends no answers.
    pub async fn pause(&self, broker: &'static str) {
        self.tell("pause", broker).await;
    }

    pub async fn resume(&self, broker: &'static str) {
        self.tell("resume", broker).await;
    }

    /// Ends the connections of all clients of a PostgreSQL server.
    pub async fn terminate(&self, server: &'static str) {
        self.tell("terminate", server).await;
    }

    /// Lets commits wait for PostgreSQL's standby.
    pub async fn synchronous(&self) {
        self.tell("synchronous", "postgres").await;
    }

    /// Lets commits wait for no standby, as at the start.
    pub async fn asynchronous(&self) {
        self.tell("asynchronous", "postgres").await;
    }

    /// Makes PostgreSQL's standby a primary.
    pub async fn promote(&self) {
        self.tell("promote", "postgres-standby").await;
    }

    /// Raises RabbitMQ's memory alarm, so that it blocks publishers.
    pub async fn alarm(&self) {
        self.tell("alarm", "rabbitmq").await;
    }

    pub async fn calm(&self) {
        self.tell("calm", "rabbitmq").await;
    }

    /// Lets clients of RabbitMQ log in by user name and password only.
    pub async fn offer_only_plain(&self) {
        self.tell("plain", "rabbitmq").await;
    }

    async fn tell(&self, verb: &'static str, broker: &'static str) {
        let dir = self.dir.clone();
        let told = tokio::task::spawn_blocking(move || {
            Command::new(script()).arg(verb).arg(dir).arg(broker).output().expect("services.sh")
        });
        let told = told.await.expect("services.sh");
        assert!(told.status.success(), "{verb} {broker}: {}", String::from_utf8_lossy(&told.stderr));
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        let _ = Command::new(script()).arg("down").arg(&self.dir).output();
    }
}

/// One slot for private brokers, released on drop.
struct Turn;

impl Turn {
    fn take() -> Self {
        let (taken, freed) = &PRIVATE;
        let mut taken = freed
            .wait_while(taken.lock().expect("no holder panics"), |taken| *taken >= PRIVATE_AT_ONCE)
            .expect("no holder panics");
        *taken += 1;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let (taken, freed) = &PRIVATE;
        *taken.lock().expect("no holder panics") -= 1;
        freed.notify_one();
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/services.sh")
}

/// Reads the lines `export REGARDS_RELAY_TEST_NAME=value` in the directory of the services.
fn read_env(dir: &Path) -> HashMap<String, String> {
    let text = std::fs::read_to_string(dir.join("env")).expect("DIR/env");
    let line = |line: &str| {
        let (name, value) = line.strip_prefix("export ").unwrap_or(line).strip_prefix(PREFIX)?.split_once('=')?;
        Some((name.to_owned(), value.trim_matches(['\'', '"']).to_owned()))
    };
    text.lines().filter_map(line).collect()
}
