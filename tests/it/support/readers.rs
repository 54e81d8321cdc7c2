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

/// Kafka Connect with a `FileStreamSink` that reads one topic. It stops when dropped.
pub struct Connect {
    worker: Child,
    dir: tempfile::TempDir,
}

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/kafka-connect");

impl Connect {
    /// Starts a worker that reads JSON without schemas from the beginning of the topic.
    pub fn start(services: &Services, topic: &str) -> Self {
        let worker = "bootstrap.servers=${env:KAFKA_BROKERS}\n\
             config.providers=env\n\
             config.providers.env.class=org.apache.kafka.common.config.provider.EnvVarConfigProvider\n\
             key.converter=org.apache.kafka.connect.storage.StringConverter\n\
             value.converter=org.apache.kafka.connect.json.JsonConverter\n\
             value.converter.schemas.enable=false\n\
             offset.storage.file.filename=connect.offsets\n\
             listeners=http://127.0.0.1:0\n\
             plugin.discovery=service_load\n";
        Self::run(services, worker, topic)
    }

    /// Starts the worker of `examples/kafka-connect`, which reads Avro records with a registry's prefix.
    pub fn of_example(services: &Services, topic: &str) -> Self {
        let worker = read(EXAMPLES, "worker.properties");
        Self::run(services, &worker.replace("http://127.0.0.1:8083", "http://127.0.0.1:0"), topic)
    }

    /// With the connector of `examples/kafka-connect`, for another topic.
    fn run(services: &Services, worker: &str, topic: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        let sink = read(EXAMPLES, "events-to-file.properties");
        let sink = sink.replace("topics=regards.events\n", &format!("topics={topic}\n"));
        let sink = sink.replace("name=regards-events\n", &format!("name={topic}\n"));
        assert_eq!(sink.matches(topic).count(), 2, "{sink}");
        std::fs::write(path("worker.properties"), worker).expect("written");
        std::fs::write(path("sink.properties"), sink).expect("written");
        let log = std::fs::File::create(path("log")).expect("a log");
        let mut java = Command::new(services.java());
        java.args(["-Xms64m", "-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]);
        java.arg(format!("{}/*", services.connect().display()));
        java.arg("org.apache.kafka.connect.cli.ConnectStandalone").args(["worker.properties", "sink.properties"]);
        java.current_dir(dir.path()).env("KAFKA_BROKERS", format!("127.0.0.1:{}", services.kafka_port()));
        java.env("APICURIO_URL", format!("http://127.0.0.1:{}/apis/registry/v2", services.registry_port()));
        java.stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
        Self { worker: java.spawn().expect("java"), dir }
    }

    /// Waits for this number of records. Each is a line in the notation of Java: `{id=1, extra={a=[1, 2]}}`.
    pub async fn wait_for(&self, count: usize) -> Vec<String> {
        let (lines, log) = (self.dir.path().join("events.txt"), self.dir.path().join("log"));
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

fn read(folder: &str, name: &str) -> String {
    let path = Path::new(folder).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
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
