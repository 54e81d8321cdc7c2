//! Readers that share no code with the relay: Confluent's deserializers (Python) and Kafka Connect. `scripts/services.sh`
//! installs them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde::Deserialize;
use serde_json::Value;

use super::{Kafka, Services, until};

/// What a record is read with. `schema` and `message` as `scripts/readers/read.py` needs them.
#[derive(Debug, Clone)]
pub struct Deserializer<'a> {
    /// `avro`, `json_schema` or `protobuf`.
    pub format: &'a str,
    /// The URL of the registry whose prefix the records have; `None` for records without a prefix.
    pub registry: Option<&'a str>,
    /// The file of the schema: for Protobuf, and without a registry.
    pub schema: Option<&'a Path>,
    /// The name of the Protobuf message, without its package.
    pub message: &'a str,
}

/// One record as a deserializer read it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Deserialized {
    pub schema_id: Option<u32>,
    pub value: Value,
}

impl Deserializer<'_> {
    /// Reads this number of records from the beginning of the topic.
    pub async fn read(&self, kafka: &Kafka, topic: &str, count: usize) -> Vec<Deserialized> {
        let mut command = Command::new(Services::shared().python());
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/readers/read.py")).arg(self.format);
        command.args(["--brokers", &kafka.brokers, "--topic", topic, "--count", &count.to_string()]);
        command.args(["--message", self.message]);
        match self.registry {
            Some(url) => command.args(["--registry", url]),
            None => command.arg("--bare"),
        };
        if let Some(schema) = self.schema {
            command.arg("--schema").arg(schema);
        }
        let read = tokio::task::spawn_blocking(move || command.output().expect("python")).await.expect("python");
        let (lines, errors) = (String::from_utf8_lossy(&read.stdout), String::from_utf8_lossy(&read.stderr));
        assert!(read.status.success(), "{self:?}: {lines}{errors}");
        lines.lines().map(|line| serde_json::from_str(line).expect("a line of read.py")).collect()
    }
}

/// Kafka Connect with a `FileStreamSink` that reads one topic with the `JsonConverter`. It stops when dropped.
pub struct Connect {
    worker: Child,
    dir: tempfile::TempDir,
}

impl Connect {
    /// Starts a worker that reads JSON without schemas from the beginning of the topic.
    pub fn start(services: &Services, topic: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name).display().to_string();
        let worker = format!(
            "bootstrap.servers=127.0.0.1:{}\n\
             key.converter=org.apache.kafka.connect.storage.StringConverter\n\
             value.converter=org.apache.kafka.connect.json.JsonConverter\n\
             value.converter.schemas.enable=false\n\
             offset.storage.file.filename={}\n\
             listeners=http://127.0.0.1:0\n\
             plugin.discovery=service_load\n",
            services.kafka_port(),
            path("offsets"),
        );
        let sink = format!(
            "name={topic}\nconnector.class=org.apache.kafka.connect.file.FileStreamSinkConnector\ntasks.max=1\n\
             consumer.override.auto.offset.reset=earliest\ntopics={topic}\nfile={}\n",
            path("lines"),
        );
        std::fs::write(path("worker.properties"), worker).expect("written");
        std::fs::write(path("sink.properties"), sink).expect("written");
        let log = std::fs::File::create(path("log")).expect("a log");
        let mut java = Command::new(services.java());
        java.args(["-Xms64m", "-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]);
        java.arg(format!("{}/*", services.connect().display()));
        java.arg("org.apache.kafka.connect.cli.ConnectStandalone");
        java.args([path("worker.properties"), path("sink.properties")]);
        java.stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
        Self { worker: java.spawn().expect("java"), dir }
    }

    /// Waits for this number of records. Each is a line in the notation of Java: `{id=1, extra={a=[1, 2]}}`.
    pub async fn wait_for(&self, count: usize) -> Vec<String> {
        let (lines, log) = (self.dir.path().join("lines"), self.dir.path().join("log"));
        until(&format!("{count} records in Connect's file"), async || {
            let text = std::fs::read_to_string(&lines).unwrap_or_default();
            let complete = text.rfind('\n').map_or("", |end| &text[..end]);
            let written: Vec<_> = complete.lines().map(str::to_owned).collect();
            if written.len() >= count { Ok(written) } else { Err(end_of(&log)) }
        })
        .await
    }
}

impl Drop for Connect {
    fn drop(&mut self) {
        let _ = self.worker.kill();
        let _ = self.worker.wait();
    }
}

fn end_of(log: &PathBuf) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// Fails unless a line of Java's notation has every member of this JSON value.
pub fn assert_has_every_field(line: &str, json: &Value) {
    fn text(value: &Value) -> String {
        match value {
            Value::String(text) => text.clone(),
            Value::Array(all) => format!("[{}]", all.iter().map(text).collect::<Vec<_>>().join(", ")),
            other => other.to_string(),
        }
    }
    for (name, value) in json.as_object().expect("an object") {
        match value {
            Value::Object(members) if !members.is_empty() => {
                assert!(line.contains(&format!("{name}={{")), "{name} in {line}");
                assert_has_every_field(line, value);
            }
            _ => assert!(line.contains(&format!("{name}={}", text(value))), "{name}: {value} in {line}"),
        }
    }
}
