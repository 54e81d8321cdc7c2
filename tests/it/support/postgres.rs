//! A client of PostgreSQL: psql, with TLS and a password.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use super::Services;
use super::wait::PATIENCE;

/// A login at a PostgreSQL server.
#[derive(Debug, Clone)]
pub struct Postgres {
    psql: String,
    /// As libpq's connection strings: `KEY=VALUE KEY=VALUE`. The last value of a key is used.
    login: String,
    password: String,
}

impl Postgres {
    /// The login of the user who may create schemas in the relay's database and has no other right.
    pub fn of(services: &Services) -> Self {
        let login = format!(
            "host=localhost hostaddr=127.0.0.1 port={} user={} dbname={} sslmode=verify-full sslrootcert={}",
            services.postgres_port(),
            services.postgres_user(),
            services.postgres_database(),
            services.ca(),
        );
        Self { psql: services.psql().to_owned(), login, password: services.postgres_password().to_owned() }
    }

    /// The login of the superuser, in the relay's database.
    pub fn as_admin(services: &Services) -> Self {
        let [user, password] = services.postgres_admin();
        Self { password: password.to_owned(), ..Self::of(services).with(&format!("user={user}")) }
    }

    /// The same login with other settings of libpq's connection strings.
    pub fn with(&self, settings: &str) -> Self {
        Self { login: format!("{} {settings}", self.login), ..self.clone() }
    }

    /// Executes one statement and returns its rows: a line each, `|` between the columns. `Err` has the error's text.
    pub async fn execute(&self, statement: &str) -> Result<String, String> {
        let mut command = self.command();
        command.args(["--command", statement]);
        let done = tokio::task::spawn_blocking(move || command.output().expect("psql")).await.expect("psql");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if done.status.success() { Ok(text(&done.stdout)) } else { Err(text(&done.stderr)) }
    }

    /// Opens a connection that stays open.
    pub fn session(&self) -> Session {
        let mut command = self.command();
        let mut psql =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("psql");
        let (sender, lines) = unbounded_channel();
        let output = BufReader::new(psql.stdout.take().expect("a pipe"));
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Session { input: psql.stdin.take().expect("a pipe"), lines, psql }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.psql);
        command.args(["--no-psqlrc", "--no-password", "--quiet", "--tuples-only", "--no-align"]);
        command.args(["--dbname", &self.login]).env("PGPASSWORD", &self.password);
        command
    }
}

/// An open connection to a PostgreSQL server. Dropping the value ends it.
pub struct Session {
    psql: Child,
    input: ChildStdin,
    lines: UnboundedReceiver<String>,
}

impl Session {
    /// Sends a statement and doesn't wait for its result.
    pub fn send(&mut self, statement: &str) {
        // psql has exited if the connection has ended, which `line` shows.
        let _ = writeln!(self.input, "{statement};");
    }

    /// The next row; `None` if the connection has ended.
    pub async fn line(&mut self) -> Option<String> {
        timeout(PATIENCE, self.lines.recv()).await.expect("a row, or the end of the connection")
    }

    /// Whether the server has ended the connection. psql learns of it from its next statement.
    pub async fn has_ended(&mut self) -> bool {
        self.send("SELECT 'answered'");
        self.line().await.is_none()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.psql.kill();
        let _ = self.psql.wait();
    }
}
