//! `demo`: the relay on one machine, without a broker.
//!
//! The relay of `run` sends recorded responses to librdkafka's mock cluster, to a webhook receiver that verifies signatures, and to
//! files. Then the demo reads each destination and compares it with what is expected.

mod reader;
mod receiver;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Options, Strictness};
use crate::relay::Relay;
use crate::spool::{DeadLetterFilter, SpoolReader};
use receiver::Receiver;

const ROUTES: &str = include_str!("routes.yaml");
const SAMPLES: &str = include_str!("samples.ndjson");
/// Public, because it protects nothing.
const SECRET: &str = "whsec_cmVnYXJkcy1yZWxheS1kZW1vLXNlY3JldA==";
/// The number of records expected in each topic.
const TOPICS: [(&str, usize); 3] = [("regards.cnes-a", 4), ("regards.cnes-b", 3), ("regards.esa", 4)];
const PARTITIONS: i32 = 4;
const WEBHOOKS: usize = 3;
const LINES: usize = 4;
const DEAD_LETTERS: usize = 1;

/// Succeeds only if each destination got exactly what is expected.
pub fn run() -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("can't start threads")?;
    let folder = Folder::make()?;
    let cluster = MockCluster::new(1).context("can't start the Kafka mock cluster")?;
    for (topic, _) in TOPICS {
        cluster.create_topic(topic, PARTITIONS, 1).with_context(|| format!("can't create the topic {topic}"))?;
    }
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "The relay routes {} recorded REGARDS responses of 3 tenants with these routes:\n",
        SAMPLES.lines().count()
    )?;
    writeln!(out, "{}", indented(routes(ROUTES)))?;
    let result = runtime.block_on(relay(&folder, &cluster))?;
    runtime.shutdown_background();
    let table = Table::of(&result);
    writeln!(out, "Events received by each destination:\n\n{}", table.text)?;
    if let Some(event) = result.example() {
        writeln!(out, "One of the Kafka records, a normalized event:\n\n    {event}\n")?;
    }
    if !table.complete {
        writeln!(
            out,
            "Some destinations got other events than expected. `RUST_LOG=info regards-relay demo` shows why."
        )?;
        return Ok(ExitCode::FAILURE);
    }
    writeln!(out, "{}", next_steps(&folder.0))?;
    Ok(ExitCode::SUCCESS)
}

struct DemoResult {
    topics: Vec<(&'static str, usize, Vec<reader::Record>)>,
    webhooks: Vec<String>,
    lines: usize,
    dead_letters: Vec<String>,
}

async fn relay(folder: &Folder, cluster: &MockCluster<'_, DefaultProducerContext>) -> anyhow::Result<DemoResult> {
    let receiver = Receiver::start(SECRET).await.context("can't start the webhook receiver")?;
    let config = configure(folder, &cluster.bootstrap_servers(), &receiver.url())?;
    let spool = SpoolReader::new(&config.spool.store);

    let stop = CancellationToken::new();
    let interrupted = stop.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            interrupted.cancel();
        }
    });
    Relay::new(config).run(stop).await?;

    let brokers = cluster.bootstrap_servers();
    let topics = tokio::task::spawn_blocking(move || {
        let read = |(topic, expected)| Ok((topic, expected, reader::read(&brokers, topic)?));
        TOPICS.into_iter().map(read).collect::<anyhow::Result<Vec<_>>>()
    });
    let archive = std::fs::read_to_string(folder.0.join("data/archive/esa.ndjson")).unwrap_or_default();
    Ok(DemoResult {
        topics: topics
            .await
            .context("the task that reads the Kafka topics failed")?
            .context("can't read the Kafka topics")?,
        webhooks: receiver.bodies(),
        lines: archive.lines().count(),
        dead_letters: dead_letters(&spool)?,
    })
}

fn configure(folder: &Folder, brokers: &str, webhook: &str) -> anyhow::Result<Config> {
    for (name, content) in [("routes.yaml", ROUTES), ("samples.ndjson", SAMPLES)] {
        let path = folder.0.join(name);
        std::fs::write(&path, content).with_context(|| format!("can't write {}", path.display()))?;
    }
    let mut options = Options::of_process(Strictness::Run, Some(folder.0.join("data")));
    for (name, value) in [("DEMO_KAFKA", brokers), ("DEMO_WEBHOOK", webhook), ("DEMO_SECRET", SECRET)] {
        options.variables.insert(name.to_owned(), value.to_owned());
    }
    let loaded = Config::load(&folder.0.join("routes.yaml"), &options);
    loaded
        .map(|(config, _)| config)
        .map_err(|wrong| anyhow::anyhow!("the demo's configuration is invalid:\n{}", wrong.render(false)))
}

fn dead_letters(spool: &SpoolReader) -> anyhow::Result<Vec<String>> {
    let mut reasons = Vec::new();
    let kept = spool.dead_letters()?;
    kept.list(&DeadLetterFilter::default(), |letter| {
        reasons.push(letter.reason.clone());
        Ok::<_, crate::spool::SpoolError>(())
    })?;
    Ok(reasons)
}

/// A new directory for this run. It is kept, so that the user can look at the files.
struct Folder(PathBuf);

impl Folder {
    fn make() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("regards-relay-demo-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("can't create the directory {}", path.display()))?;
        Ok(Self(path))
    }
}

impl DemoResult {
    /// An event that shows many fields.
    fn example(&self) -> Option<&str> {
        let records = self.topics.iter().flat_map(|(_, _, records)| records);
        records.filter(|record| record.value.contains("ERROR")).map(|record| record.value.as_str()).next()
    }
}

/// What each destination should have received and what it received.
struct Table {
    text: String,
    complete: bool,
}

impl Table {
    fn of(result: &DemoResult) -> Self {
        let mut table = Self { text: String::new(), complete: true };
        table.line("destination", "expected", "received", "", "");
        for (topic, expected, records) in &result.topics {
            let mut keys: Vec<_> = records.iter().map(|record| record.key.as_str()).collect();
            keys.sort_unstable();
            keys.dedup();
            table.row(&format!("Kafka topic {topic}"), *expected, records.len(), &format!("keys {}", keys.join(", ")));
        }
        table.row("webhook, signatures verified", WEBHOOKS, result.webhooks.len(), "failed and rejected requests");
        table.row("file archive/esa.ndjson", LINES, result.lines, "one event per line");
        let reasons = result.dead_letters.join(", ");
        table.row("dead letters", DEAD_LETTERS, result.dead_letters.len(), &format!("reason {reasons}"));
        table
    }

    fn row(&mut self, destination: &str, expected: usize, received: usize, about: &str) {
        let is_expected = received == expected;
        self.complete &= is_expected;
        self.line(
            destination,
            &expected.to_string(),
            &received.to_string(),
            if is_expected { "ok" } else { "WRONG" },
            about,
        );
    }

    fn line(&mut self, destination: &str, expected: &str, received: &str, verdict: &str, about: &str) {
        // Writing to a String can't fail.
        let _ = writeln!(self.text, "    {destination:<32}{expected:>9}{received:>10}  {verdict:<7}{about}");
    }
}

/// The configuration from `routes:` on.
fn routes(config: &str) -> &str {
    config.find("routes:").and_then(|begin| config.get(begin..)).unwrap_or(config)
}

fn indented(text: &str) -> String {
    text.lines().map(|line| if line.is_empty() { "\n".to_owned() } else { format!("    {line}\n") }).collect()
}

fn next_steps(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "Next steps:

    ls -R {folder}
        the configuration, the samples and the file sink's output
    regards-relay --data-dir {folder}/data dead-letters list
        the message that could not be decoded, and why
    regards-relay check
        check your own routes.yaml
    regards-relay run
        run the relay with a real broker until it is stopped

In a checkout type `cargo run --` instead of `regards-relay`."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unexpected_number_fails_the_demo() {
        let result = |lines| DemoResult {
            topics: Vec::new(),
            webhooks: vec![String::new(); WEBHOOKS],
            lines,
            dead_letters: vec![String::new()],
        };
        assert!(Table::of(&result(LINES)).complete);
        assert!(!Table::of(&result(LINES + 1)).complete);
    }
}
