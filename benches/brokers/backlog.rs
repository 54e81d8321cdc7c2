//! How fast deliveries are spooled, and how fast the backlog is delivered to Kafka, with each store of the spool.

use std::fmt::Write as _;

use super::course;
use super::kafka::Ends;
use super::load;
use super::process::Process;
use super::profile::Profile;
use super::store::Store;
use super::support::{Home, Kafka, Postgres, Regards, Services, unique};

/// The recording has this number of messages, each with its own key, and is repeated.
const RECORDED: u64 = 20_000;
const PARTITIONS: i32 = 4;
const SINK: &str = "pipeline";
/// The second source never ends, so that the relay does not end with the recording.
const RULES: &str = "\
version: 1
sources:
  recorded: { recording: { path: samples.ndjson, repeat: REPEAT }, expects: lta }
  regards: { amqp: { url: \"${REGARDS}\", queue: \"${QUEUE}\" }, expects: lta }
sinks:
  pipeline: { kafka: { brokers: \"${KAFKA}\", topic: \"${TOPIC}\" } }
routes:
  - { name: all, to: pipeline }
unrouted: dead_letter
";
const MAX_SIZE: &str = "max_size: 20GiB";

/// Spools one message `repeat` times, and adds copies of it. Returns how many deliveries of its key wait then, until tomorrow.
async fn add_stuck(home: &Home, schema: &str, repeat: u64, stuck: u64) -> u64 {
    home.write("samples.ndjson", &(load::response(RECORDED).sample() + "\n"));
    let relay = home.start_ready().await;
    home.wait_until_waiting(SINK, repeat).await;
    relay.stop().await;
    let columns = "sink, key, received, boot, uptime, attempts, replayed, last_error, route, type, tenant, source, size, properties, body, \
                   group_by, digest, shard";
    let statements = format!(
        "INSERT INTO {schema}.deliveries (id, event_id, {columns}) SELECT id + n, decode(md5(n::text), 'hex'), {columns} \
         FROM (SELECT * FROM {schema}.deliveries ORDER BY id DESC LIMIT 1) last, generate_series(1, {stuck}) n; \
         UPDATE {schema}.heads SET due = due + 86400000"
    );
    Postgres::as_admin(&Services::shared()).execute(&statements).await.expect("copies");
    repeat + stuck
}

/// The name of the case with this store.
pub const fn name(store: Store) -> &'static str {
    match store {
        Store::Sqlite => "backlog",
        Store::Postgres => "backlog-postgres",
    }
}

/// The case in which this many deliveries of one key wait in PostgreSQL for a retry that is a day away.
pub const STUCK: (&str, u64) = ("stuck-key", 1_000_000);

/// Spools this number of deliveries for a paused sink beside `stuck` others, and then resumes it.
pub async fn measure(store: Store, deliveries: u64, stuck: u64) -> Vec<(&'static str, f64)> {
    let (regards, kafka, topic) = (Regards::new().await, Kafka::shared(), unique("backlog"));
    regards.use_cheap_queue().await;
    kafka.create_topic(&topic, PARTITIONS, &[]).await;
    let repeat = deliveries.div_ceil(RECORDED);
    let rules = RULES.replace("REPEAT", &repeat.to_string()) + &store.configuration(MAX_SIZE);
    let schema = unique("bench").replace('-', "_");
    let home = store.prepare(Home::of(&regards, &rules).with_kafka().with("TOPIC", &topic), &schema);
    let samples = (0..RECORDED).fold(String::new(), |mut lines, number| {
        let _ = writeln!(lines, "{}", load::response(number).sample());
        lines
    });
    // Only a relay that runs, or has run here, can pause a sink.
    home.write("samples.ndjson", "");
    let relay = home.start_ready().await;
    home.does(&["pause", "--sink", SINK]);
    relay.stop().await;
    let stuck = if stuck > 0 { add_stuck(&home, &schema, repeat, stuck).await } else { 0 };
    home.write("samples.ndjson", &samples);

    let all = repeat * RECORDED;
    let relay = home.start_ready().await;
    let process = Process(relay.pid());
    let waiting = async || {
        let waiting = relay.metric("spool_deliveries", &[("sink", SINK)]).await.ok().flatten();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        waiting.map_or(0, |waiting| waiting as u64).saturating_sub(stuck)
    };
    let profile = Profile::start(if stuck > 0 { STUCK.0 } else { name(store) }, process);
    let written = course::watch(all, &[process], waiting).await;
    let ends = Ends::of(&kafka.brokers, std::slice::from_ref(&topic), PARTITIONS);
    home.does(&["resume", "--sink", SINK]);
    let drained = course::watch(all, &[process], async || ends.count().await).await;
    let figures = vec![
        ("written/s", written.rate),
        ("CPU µs a written one", written.cpu[0]),
        ("drained/s", drained.rate),
        ("CPU µs a drained one", drained.cpu[0]),
        ("peak RSS MiB", process.peak()),
    ];
    drop(relay);
    drop(profile);
    kafka.delete_topic(&topic).await;
    figures
}
