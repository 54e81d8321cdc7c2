//! The relay as a process with a configuration, a data directory, a log and signals.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::{Regards, Services, lines_of, until, use_ring};

const BINARY: &str = env!("CARGO_BIN_EXE_regards-relay");

/// A directory with `routes.yaml` and data in which a test can run the relay repeatedly.
pub struct Home {
    dir: TempDir,
    variables: Vec<(String, String)>,
    secrets: Vec<String>,
}

impl Home {
    /// Creates a home with this `routes.yaml`. It adds an `admin:` so that each relay listens on a free port.
    pub fn new(routes: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("regards-relay-home").tempdir().expect("a directory");
        let home = Self { dir, variables: Vec::new(), secrets: Vec::new() };
        home.write_routes(routes);
        home
    }

    /// Creates a home for a relay of this partner's responses: `${REGARDS}` is the URL and `${QUEUE}` the queue.
    pub fn of(regards: &Regards, routes: &str) -> Self {
        Self::new(routes)
            .with("REGARDS", &regards.url())
            .with("QUEUE", &regards.queue)
            .keeping_secret(&regards.password)
            .keeping_secret(&super::rabbit::encode(&regards.password))
    }

    /// Sets an environment variable for `${NAME}` in the configuration.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets `${KAFKA}` to the shared Kafka.
    pub fn with_kafka(self) -> Self {
        let port = Services::shared().kafka_port();
        self.with("KAFKA", &format!("127.0.0.1:{port}"))
    }

    /// Fails the test if this text ever appears in a log or an answer of the relay.
    pub fn keeping_secret(mut self, secret: &str) -> Self {
        self.secrets.push(secret.to_owned());
        self
    }

    /// A path below the data directory, where file sinks write.
    pub fn data(&self, path: &str) -> PathBuf {
        self.dir.path().join("data").join(path)
    }

    /// The path of a file next to `routes.yaml`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file next to `routes.yaml`.
    pub fn write(&self, name: &str, text: &str) {
        self.write_bytes(name, text.as_bytes());
    }

    /// Writes a binary file next to `routes.yaml`.
    pub fn write_bytes(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.dir.path().join(name), bytes).expect("written");
    }

    /// The path of a file next to `routes.yaml`.
    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).expect("a file")
    }

    pub fn write_routes(&self, routes: &str) {
        self.write("routes.yaml", &format!("{routes}\nadmin: {{ listen: \"127.0.0.1:0\" }}\n"));
    }

    /// Runs a command of the relay with this home's configuration until it exits.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).stdin(Stdio::null()).output().expect("the relay's binary")
    }

    /// All that `check --connect` says.
    pub fn check_connect(&self) -> String {
        let Output { stdout, stderr, .. } = self.run(&["check", "--connect"]);
        format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr))
    }

    /// Starts a command of the relay.
    pub fn begin(&self, arguments: &[&str], output: Stdio) -> Child {
        self.command().args(arguments).stdin(Stdio::null()).stdout(output).spawn().expect("the relay's binary")
    }

    /// Starts a command of the relay with pipes: the test writes its input and reads its output.
    pub fn begin_reading(&self, arguments: &[&str]) -> Child {
        let mut command = self.command();
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the relay's binary")
    }

    /// Starts a command of the relay whose error is to be read.
    pub fn begin_failing(&self, arguments: &[&str]) -> Child {
        let mut command = self.command();
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().expect("the relay's binary")
    }

    /// Starts the relay with the given log and output, and returns at once.
    pub fn begin_run(&self, output: Stdio, log: Stdio) -> Child {
        let mut command = self.command();
        command.args(["--log-format=json", "run"]).stdin(Stdio::null()).stdout(output).stderr(log);
        use_ring();
        command.spawn().expect("the relay's binary")
    }

    /// Runs a command of the relay that must succeed, and returns its output.
    pub fn does(&self, arguments: &[&str]) -> String {
        let done = self.run(arguments);
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).expect("UTF-8").trim().to_owned()
    }

    /// Returns a file of the data directory once it has that many lines.
    pub async fn wait_for_lines(&self, file: &str, count: usize) -> Vec<Value> {
        until(&format!("{count} lines in {file}"), async || match lines_of(self.data(file)) {
            lines if lines.len() >= count => Ok(lines),
            lines => Err(lines.len().to_string()),
        })
        .await
    }

    /// The complete dead letters: each as `list` prints it, with the fields that `show` adds.
    pub fn dead_letters(&self) -> Vec<Value> {
        let listed = self.does(&["dead-letters", "list", "--json"]);
        listed.lines().map(|line| self.dead_letter(&serde_json::from_str(line).expect("a JSON line"))).collect()
    }

    /// The backlog of each sink, as `spool` prints it.
    pub fn spool(&self) -> Vec<Value> {
        let shown = self.does(&["spool", "--json"]);
        shown.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
    }

    /// Number of deliveries in the backlog of this sink.
    pub fn waiting(&self, sink: &str) -> u64 {
        let of_sink = |line: &Value| (line["sink"] == sink).then(|| line["count"].as_u64()).flatten();
        self.spool().iter().find_map(of_sink).unwrap_or(0)
    }

    /// Waits until the backlog of this sink has exactly this number of deliveries.
    pub async fn wait_until_waiting(&self, sink: &str, count: u64) {
        until(&format!("{count} deliveries to wait for {sink}"), async || match self.waiting(sink) {
            waiting if waiting == count => Ok(()),
            waiting => Err(waiting.to_string()),
        })
        .await;
    }

    fn dead_letter(&self, listed: &Value) -> Value {
        let id = match &listed["id"] {
            Value::String(id) => id.clone(),
            id => id.to_string(),
        };
        let shown = self.run(&["dead-letters", "show", &id, "--json"]);
        assert!(shown.status.success(), "dead-letters show {id}: {}", String::from_utf8_lossy(&shown.stderr));
        let shown: Value = serde_json::from_slice(&shown.stdout).expect("a JSON document");
        for (field, value) in listed.as_object().expect("an object") {
            assert_eq!(&shown[field], value, "{field} is the same in list and show");
        }
        shown
    }

    /// Starts the relay and returns at once.
    pub fn start(&self) -> Relay<'_> {
        self.start_under(&[])
    }

    /// Starts the relay with one more environment variable.
    pub fn start_with(&self, name: &str, value: &str) -> Relay<'_> {
        let mut command = self.command();
        command.env(name, value);
        self.start_command(command)
    }

    /// Starts the relay through another program that then executes the relay. `wrapper` precedes the relay's command.
    pub fn start_under(&self, wrapper: &[&str]) -> Relay<'_> {
        self.start_command(self.command_under(wrapper))
    }

    fn start_command(&self, mut command: Command) -> Relay<'_> {
        let log = || File::options().create(true).append(true).open(self.log_path()).expect("a log");
        let output = File::options().create(true).append(true).open(self.output_path()).expect("an output");
        command.arg("--log-format=json").arg("run").stdin(Stdio::null()).stdout(output).stderr(log());
        let logged_before = self.log().len();
        let child = command.spawn().expect("the relay's binary");
        use_ring();
        Relay { home: self, child, logged_before, http: reqwest::Client::new() }
    }

    /// Starts the relay and waits until every source consumes.
    pub async fn start_ready(&self) -> Relay<'_> {
        let mut relay = self.start();
        until("the relay to be ready", async || {
            assert!(relay.runs(), "the relay ended by itself");
            relay.is_ready().await
        })
        .await;
        relay
    }

    /// The log of all runs in this home.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// The warnings and errors in the log that contain all of these words.
    pub fn warnings_with(&self, words: &[&str]) -> Vec<String> {
        let loud = |line: &str| {
            let line: Value = serde_json::from_str(line).unwrap_or_default();
            matches!(line["level"].as_str(), Some("WARN" | "ERROR"))
        };
        let log = self.log();
        let lines = log.lines().filter(|line| loud(line) && words.iter().all(|word| line.contains(word)));
        lines.map(str::to_owned).collect()
    }

    /// Waits for a warning or an error in the log that contains all of these words.
    pub async fn wait_for_warning(&self, words: &[&str]) {
        until(&format!("a warning with {words:?}"), async || {
            if self.warnings_with(words).is_empty() { Err(self.log()) } else { Ok(()) }
        })
        .await;
    }

    /// The output of the stdout sinks.
    pub fn output(&self) -> String {
        std::fs::read_to_string(self.output_path()).unwrap_or_default()
    }

    fn command(&self) -> Command {
        self.command_under(&[])
    }

    fn command_under(&self, wrapper: &[&str]) -> Command {
        let mut words = wrapper.iter().copied().chain([BINARY]);
        let mut command = Command::new(words.next().unwrap_or(BINARY));
        command.args(words).current_dir(self.dir.path()).args(["--config", "routes.yaml", "--data-dir", "data"]);
        command.env_remove("RUST_LOG").envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn output_path(&self) -> PathBuf {
        self.dir.path().join("output")
    }
}

impl Drop for Home {
    /// A failing test prints the relay's log; a passing test checks that the log contains no secret.
    fn drop(&mut self) {
        let log = self.log();
        if std::thread::panicking() {
            let lines: Vec<&str> = log.lines().collect();
            let last = lines.get(lines.len().saturating_sub(60)..).unwrap_or_default();
            eprintln!("--- the end of the relay's log\n{}\n---", last.join("\n"));
            return;
        }
        for secret in &self.secrets {
            assert!(!log.contains(secret.as_str()), "the relay logged a secret: {secret}");
        }
    }
}

/// The running relay process. Dropping it kills the process.
pub struct Relay<'a> {
    home: &'a Home,
    child: Child,
    /// The length of the log in bytes when the relay was started.
    logged_before: usize,
    http: reqwest::Client,
}

impl Relay<'_> {
    /// Gets the status and the text of a page of the admin listener.
    pub async fn page(&self, path: &str) -> Result<(u16, String), String> {
        let url = format!("{}{path}", self.admin()?);
        let answer = self.http.get(url).send().await.map_err(|error| format!("{error:?}"))?;
        let status = answer.status().as_u16();
        let text = answer.text().await.map_err(|error| error.to_string())?;
        for secret in &self.home.secrets {
            assert!(!text.contains(secret.as_str()), "{path} says a secret: {secret}");
        }
        Ok((status, text))
    }

    /// The address of the admin listener, from the log line of its last start.
    pub fn admin(&self) -> Result<String, String> {
        let log = self.home.log();
        let lines = log.get(self.logged_before..).unwrap_or_default().lines();
        let mut lines = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let started = lines.rfind(|line| line["admin"].is_string()).ok_or("the relay has not logged its start")?;
        started["admin"].as_str().map(str::to_owned).ok_or(format!("no admin listener in {started}"))
    }

    /// Waits until every source consumes.
    pub async fn wait_until_ready(&self) {
        until("/readyz to say 200", async || self.is_ready().await).await;
    }

    /// Whether every source consumes; if not, `Err` says why.
    pub async fn is_ready(&self) -> Result<(), String> {
        match self.page("/readyz").await? {
            // A relay that stands by is ready as well.
            (200, text) if !text.contains("\"standby\"") => Ok(()),
            (status, text) => Err(format!("/readyz says {status}: {text}")),
        }
    }

    /// Waits until `/readyz` answers 503 with all of these words in its reasons, while `/livez` answers 200.
    pub async fn wait_until_unready(&self, words: &[&str]) {
        until(&format!("/readyz to say 503 with {words:?}"), async || {
            let (status, text) = self.page("/readyz").await?;
            let says_so = status == 503 && words.iter().all(|word| text.contains(word));
            let reasons: Result<Value, _> = serde_json::from_str(&text);
            if says_so && reasons.is_ok() { Ok(()) } else { Err(format!("{status} {text}")) }
        })
        .await;
        assert_eq!(self.page("/livez").await.map(|(status, _)| status), Ok(200), "/livez");
    }

    /// The sum of the samples of a metric that have all of these labels, or `None` if there are none.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Result<Option<f64>, String> {
        let (_, text) = self.page("/metrics").await?;
        Ok(sum_of(&text, &format!("regards_relay_{name}"), labels))
    }

    /// Waits until a metric is at least `least`.
    pub async fn wait_for_metric(&self, name: &str, labels: &[(&str, &str)], least: f64) {
        until(&format!("{name}{labels:?} to be {least}"), async || match self.metric(name, labels).await? {
            Some(seen) if seen >= least => Ok(()),
            seen => Err(format!("{seen:?}")),
        })
        .await;
    }

    /// Writes these routes to `routes.yaml` and waits until the relay reports the result of the reload.
    pub async fn reload(&self, routes: &str, result: &str) {
        let labels = [("result", result)];
        let before = self.metric("config_reloads_total", &labels).await.expect("metrics").expect("reloads are counted");
        self.home.write_routes(routes);
        self.wait_for_metric("config_reloads_total", &labels, before + 1.0).await;
    }

    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill").arg(format!("-{signal}")).arg(self.child.id().to_string()).status();
        assert!(sent.expect("kill").success(), "kill -{signal}");
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The path through which the test sees a file in the relay's own mount namespace.
    pub fn its(&self, path: &Path) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{}", self.pid(), path.display()))
    }

    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("the relay's status").is_none()
    }

    /// Kills it with SIGKILL, without a clean shutdown.
    pub fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
    }

    /// Waits until it has exited without a signal from the test.
    pub async fn ended(mut self) -> ExitStatus {
        let child = &mut self.child;
        until("the relay to end", async || match child.try_wait() {
            Ok(Some(status)) => Ok(status),
            still => Err(format!("{still:?}")),
        })
        .await
    }

    /// Stops it with SIGTERM. It must exit with code 0.
    pub async fn stop(self) {
        self.signal("TERM");
        let status = self.ended().await;
        assert_eq!(status.code(), Some(0), "the exit of a clean stop: {status}");
    }
}

impl Drop for Relay<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sums the samples of a metric that have all of these labels.
pub fn sum_of(metrics: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let labels: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
    let of_that_name = |line: &&str| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['{', ' '])) && labels.iter().all(|label| line.contains(label))
    };
    let values = metrics.lines().filter(of_that_name).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.reduce(|sum, value| sum + value)
}
