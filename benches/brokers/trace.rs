//! How long `trace` takes in a large journal.

use std::time::{Duration, Instant};

use regards_relay::config::{JournalConfig, JournalStoreConfig};
use regards_relay::event::{DecodeOptions, Event, ExpectedFamily, Family, Message, Properties, SourceName, Validation};
use regards_relay::journal::{DeliveryEnd, DeliveryRecord, Destination, Journal};

use super::load;
use super::support::Home;

pub const NAME: &str = "trace";
/// How many requests are traced, each by a process of its own.
const TRACED: u64 = 100;
/// With more events in memory the journal's thread is waited for, so that no record is left out. They are more than one of its batches.
const AT_ONCE: u64 = 5_000;
const CONFIGURATION: &str = "version: 1\nsources: { samples: { recording: { path: samples.ndjson } } }\n\
                             sinks: { pipeline: { kafka: { brokers: \"127.0.0.1:9\", topic: regards } } }\n\
                             routes: [{ name: all, to: pipeline }]\nunrouted: dead_letter\n";

/// Records this number of events with one delivery each, and traces some of them.
pub async fn measure(events: u64) -> Vec<(&'static str, f64)> {
    let home = Home::new(CONFIGURATION);
    home.write("samples.ndjson", "");
    let path = home.data("journal.db");
    let journal = JournalConfig {
        store: JournalStoreConfig::Sqlite(path.clone()),
        keep: Duration::MAX,
        max_size: 1 << 40,
        bodies: true,
    };
    let began = Instant::now();
    fill(&journal, events).await;
    let recorded = events as f64 / began.elapsed().as_secs_f64();
    let size = path.metadata().expect("a journal").len() as f64;
    let mut random = fastrand::Rng::with_seed(events);
    let mut took: Vec<f64> = (0..TRACED)
        .map(|_| {
            let id = correlation_id(random.u64(..events));
            let began = Instant::now();
            home.does(&["trace", &id, "--json"]);
            began.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    took.sort_by(f64::total_cmp);
    vec![
        ("recorded/s", recorded),
        ("bytes an event", size / events as f64),
        ("trace p50 ms", took[took.len() / 2]),
        ("trace p99 ms", took[took.len() * 99 / 100]),
        ("trace max ms", took[took.len() - 1]),
    ]
}

async fn fill(config: &JournalConfig, events: u64) {
    let journal = Journal::start(Some(config)).expect("a thread");
    let options = DecodeOptions {
        expects: ExpectedFamily::One(Family::named("lta").expect("a family")),
        validation: Validation::Lenient,
        tenant: Some("tenant-0".into()),
        max_body: 1 << 20,
    };
    for number in 0..events {
        let response = load::response(number);
        let message = Message {
            source: SourceName::new("regards"),
            body: response.body.into(),
            properties: Properties { correlation_id: Some(correlation_id(number)), ..Properties::default() },
            redelivered: false,
        };
        let event = Event::decode(&message, &options).expect("an event");
        journal.record_event(&event, &message, ["all"].into_iter(), ["pipeline"].into_iter());
        let delivery = DeliveryRecord {
            event: event.id.into_bytes(),
            sink: Some("pipeline"),
            attempts: 1,
            at: 0,
            replayed: false,
            duration: Some(5),
            last_error: None,
            end: DeliveryEnd::Delivered(Destination::Kafka { topic: "regards", partition: 0, offset: 0 }),
        };
        journal.record_delivery(&event.correlation_id, &delivery);
        let stats = journal.stats().expect("a journal");
        while number.saturating_sub(stats.records() / 2) > AT_ONCE {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    journal.close(Duration::from_mins(1)).await;
    assert_eq!(journal.stats().expect("a journal").skipped(), 0);
}

fn correlation_id(number: u64) -> String {
    format!("1c0a8a5e-6b1f-4b9e-9d0e-{number:012}")
}
