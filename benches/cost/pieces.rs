//! The steps whose instructions and allocations are counted.

use std::hint::black_box;
use std::sync::Arc;

use lapin::BasicProperties;
use regards_relay::amqp::values;
use regards_relay::config::{Config, Options, Strictness};
use regards_relay::event::{
    Carrier, Event, EventView, Format, Message, Schema, SchemaFormat, SchemaKind, SchemaSource, SourceName,
};
use regards_relay::registry::RegisteredSchema;
use regards_relay::relay::BenchRelay;
use regards_relay::sink::{self, BenchEncoder, Destination};
use regards_relay::source::{Fingerprint, Ledger, Receipt, Registration, Settlement, SourceSignals};
use tokio::sync::mpsc;

use super::typical;

/// A step on the way of an event, or the whole way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// Message to event.
    Decode,
    /// Event to plan, with a hundred routes.
    Route,
    /// Event to Kafka record: topic, key, headers and body.
    Render,
    /// Event to body.
    Encode,
    /// Event to body, in Avro.
    Avro,
    /// Body in Avro to body with the prefix of a registry whose id of the schema is known.
    Registry,
    /// lapin's delivery to its acknowledgement, with a sink that confirms at once.
    Path,
    /// The same, with a journal: the event and its delivery are recorded and written.
    Journal,
    /// The same as the path, with an alert that watches requests: every second event opens one, and the others end them.
    Alert,
}

/// Messages in flight before their settlements are read.
const TURN: usize = 100;
const CONFIGURATION: &str = "\
version: 1
sources: { regards: { amqp: { url: \"amqp://127.0.0.1:9\", queue: responses }, expects: lta } }
sinks: { pipeline: { kafka: { brokers: \"127.0.0.1:9\", topic: \"regards.{{ tenant }}.{{ status }}\" } } }
routes: [{ name: all, to: pipeline }]
unrouted: dead_letter
";
const WITHOUT_JOURNAL: &str = "journal: none\n";
const WITH_ALERT: &str = "journal: none\nalerts: [{ name: silent, overdue: { within: 24h }, to: pipeline }]\n";

impl Piece {
    pub const ALL: [Self; 9] = [
        Self::Decode,
        Self::Route,
        Self::Render,
        Self::Encode,
        Self::Avro,
        Self::Registry,
        Self::Path,
        Self::Journal,
        Self::Alert,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Route => "route",
            Self::Render => "render",
            Self::Encode => "encode",
            Self::Avro => "avro",
            Self::Registry => "registry",
            Self::Path => "path",
            Self::Journal => "journal",
            Self::Alert => "alert",
        }
    }

    pub fn run(self, times: u64) {
        let message = typical::message();
        let options = typical::options();
        let event = Event::decode(&message, &options).expect("an event");
        let view = EventView::of(&event, &message);
        match self {
            Self::Decode => again(times, || Event::decode(black_box(&message), &options)),
            Self::Route => {
                let rules = typical::rules(100);
                again(times, || rules.plan(black_box(&event), &message));
            }
            Self::Render => {
                let folder = tempfile::tempdir().expect("a folder");
                let config = config(&folder, WITHOUT_JOURNAL);
                let sink = config.sinks.first().expect("a sink");
                again(times, || sink::render(sink, black_box(view), None));
            }
            Self::Encode => again(times, || Format::Normalized.encode(black_box(view), Carrier::Kafka)),
            Self::Avro => {
                let (kind, source) = (SchemaKind::Avro, SchemaSource::Event);
                let format = Format::Schema(Box::new(SchemaFormat { kind, source, json: Format::Normalized }));
                again(times, || format.encode(black_box(view), Carrier::Kafka));
            }
            Self::Registry => registry(times, view),
            Self::Path => path(times, WITHOUT_JOURNAL, &ends()),
            Self::Journal => path(times, "", &ends()),
            Self::Alert => path(times, WITH_ALERT, &pairs()),
        }
    }
}

fn registry(times: u64, view: EventView<'_>) {
    let folder = tempfile::tempdir().expect("a folder");
    let with_registry = CONFIGURATION.replace(
        ".{{ status }}\" } }",
        ".{{ status }}\" }, format: { avro: { registry: { url: \"http://127.0.0.1:9\" } } } }",
    );
    let config = parse(&folder, &format!("{with_registry}{WITHOUT_JOURNAL}"));
    let sink = config.sinks.first().expect("a sink");
    let outgoing = sink::render(sink, view, None).expect("a record");
    let Destination::Kafka { subject: Some(subject), .. } = &outgoing.destination else { panic!("no subject") };
    let found = RegisteredSchema { id: 7, schema: Schema::of_event(SchemaKind::Avro) };
    let encoder = BenchEncoder::open(sink, subject, found).expect("a client").expect("a registry");
    again(times, || encoder.encode(black_box(&outgoing)).expect("a known schema").expect("it fits"));
}

fn again<T>(times: u64, mut what: impl FnMut() -> T) {
    for _ in 0..times {
        black_box(what());
    }
}

fn config(folder: &tempfile::TempDir, more: &str) -> Config {
    parse(folder, &format!("{CONFIGURATION}{more}"))
}

fn parse(folder: &tempfile::TempDir, text: &str) -> Config {
    let options = Options {
        strictness: Strictness::Run,
        variables: [].into(),
        data_dir: folder.path().to_owned(),
        host: "benchmark".to_owned(),
    };
    let file = folder.path().join("routes.yaml");
    Config::parse(text, &file, &options).expect("a configuration").0
}

type Load = Vec<(BasicProperties, Vec<u8>)>;

/// The messages of a turn, each of a request of its own.
fn ends() -> Load {
    (0..TURN).map(|number| (typical::properties(number), typical::body(number, "SUCCESS"))).collect()
}

/// The messages of a turn: first those that open requests, then their ends.
fn pairs() -> Load {
    let of = |status: &'static str| {
        (0..TURN / 2).map(move |number| (typical::properties(number), typical::body(number, status)))
    };
    of("GRANTED").chain(of("SUCCESS")).collect()
}

fn path(times: u64, configuration: &str, load: &Load) {
    let folder = tempfile::tempdir().expect("a folder");
    let config = config(&folder, configuration);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let relay = BenchRelay::start(&config).await.expect("a spool");
        let (settle, mut settled) = mpsc::unbounded_channel();
        let source = SourceName::new(typical::SOURCE);
        // One for all messages, as in a source.
        let signals = Arc::<SourceSignals>::default();
        let mut ledger = Ledger::new(TURN);
        let mut tag = 0;
        let mut ends = Vec::with_capacity(TURN);
        while tag < times {
            for (properties, body) in load {
                tag += 1;
                let properties = values::decode_properties(properties, None);
                let message =
                    Message { source: source.clone(), body: body.clone().into(), properties, redelivered: false };
                let Registration::New(entry) = ledger.register(tag, Fingerprint(message.fingerprint()), false) else {
                    panic!("it is new");
                };
                relay.accept(message, Receipt::with_signals(entry, settle.clone(), Arc::clone(&signals)));
            }
            let mut left = TURN;
            while left > 0 {
                left -= settled.recv_many(&mut ends, TURN).await;
                for end in ends.drain(..) {
                    assert!(matches!(end, Settlement::Done(_)), "{end:?}");
                    ledger.settle(end);
                }
            }
            assert_eq!(ledger.acknowledge(), Some(tag), "all of them");
        }
        relay.close().await;
    });
}
