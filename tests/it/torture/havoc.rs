//! Faults of the relay that need more than a signal: dead letters without room, a damaged spool, dead threads, and
//! messages that no client library would write.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use regards_relay::tasks::{TaskKind, VARIABLE};

use super::nemesis::Nemesis;
use super::plan::{EventId, Hand, Sink, Wrong, correlation_id};
use super::taken::event_of;
use super::world::LETTERS;
use crate::configuration::Edit;
use crate::source::poisoned::poisoned;
use crate::support::Relay;
use crate::support::damage::damage_row;
use crate::support::raw_amqp::{Login, Nested, RawMessage, properties, publish_raw};
use crate::support::regards::EXCHANGE;

/// The smallest `max_size` that the relay accepts.
const SMALL_LETTERS: &str = "dead_letters: { keep: 2d, max_size: 1MiB }";
/// The number of dead letters that exceeds this `max_size`.
const MORE_THAN_FIT: u64 = 200;
/// More messages than the relay can turn into dead letters before the test sees the first ones.
const MANY: u64 = 600;
/// The number of dead letters that the test waits for before it fills the disk.
const FIRST: u64 = 20;
/// How many steps a thread or a task runs before it panics.
const ROUNDS_BEFORE_PANIC: u64 = 20;
/// The number of keys that one fault publishes without a client library.
const RAW_KEYS: usize = 30;
/// Headers nested deeper than the relay stores.
const DEEP: [Nested; 2] = [Nested::Arrays(10_000), Nested::Tables(10_000)];
/// The flag bit of the property `correlation_id`.
const CORRELATION_ID: u16 = 10;

/// Tasks that panic during normal work, without a special request.
const TASKS: [TaskKind; 7] = [
    TaskKind::Source,
    TaskKind::Dispatcher,
    TaskKind::AmqpWorker,
    TaskKind::WebhookAttempt,
    TaskKind::KafkaReports,
    TaskKind::LineWriter,
    TaskKind::SpoolWriter,
];

impl<'a> Nemesis<'a> {
    /// Exceeds the room for dead letters. The relay restarts with a smaller limit, and again with the old one.
    pub(super) async fn fill_letters(&self, relay: Relay<'a>, lasts: Duration) -> (Relay<'a>, bool) {
        self.stop(relay).await;
        self.home().write_routes(&self.routes.edit(LETTERS, SMALL_LETTERS));
        let relay = self.start(0).await;
        self.progress.flood.fetch_add(MORE_THAN_FIT, SeqCst);
        let hit = self.comes_true(async || self.probe.is_unready_for(&["`dead_letters.max_size`"]).await).await;
        tokio::time::sleep(lasts).await;
        self.stop(relay).await;
        self.home().write_routes(self.routes);
        (self.start(0).await, hit)
    }

    /// Fills the disk while messages become dead letters, and kills the relay while it waits to store them.
    pub(super) async fn fill_disk_with_letters(&self, relay: Relay<'a>, lasts: Duration) -> (Relay<'a>, bool) {
        let disk = self.disk.expect("left out of the schedule where there is none");
        let before = self.probe.letters("not_json").await;
        self.progress.flood.fetch_add(MANY, SeqCst);
        self.comes_true(async || self.probe.letters("not_json").await >= before + FIRST).await;
        disk.fill();
        // Only dead letters wait with this text: the relay stops deliveries earlier.
        let words = ["changes wait, and their messages stay unacknowledged", "make room on"];
        let hit = self.comes_true(async || self.probe.is_unready_for(&words).await).await;
        tokio::time::sleep(lasts).await;
        relay.kill();
        disk.free();
        (self.start(0).await, hit)
    }

    /// While the relay is down, makes the oldest row of a backlog unreadable.
    pub(super) async fn damage_row(&self, relay: Relay<'a>) -> (Relay<'a>, bool) {
        let sink = Sink::Webhook;
        // A paused sink builds up a backlog.
        self.home().does(&["pause", "--sink", sink.name()]);
        self.comes_true(async || self.probe.waiting(sink).await > 0).await;
        self.stop(relay).await;
        let event = |body: &[u8]| event_of(self.plan, body);
        // Skips events that a sink must refuse: their dead letters have that reason instead.
        let is_refused = |id: EventId| self.plan.cause(id.key).is_some_and(|cause| cause.id == id);
        let damaged = damage_row(self.home(), sink.name(), |body| event(body).is_some_and(|id| !is_refused(id)));
        if let Some(id) = damaged.and_then(|body| event(&body)) {
            self.damaged.lock().expect("no holder panics").insert((sink, id));
            self.shelves.of(sink).letters.insert(id);
        }
        let relay = self.start(0).await;
        self.home().does(&["resume", "--sink", sink.name()]);
        let hit = self.comes_true(async || self.probe.letters("render_failed").await > 0).await;
        (relay, hit)
    }

    /// One thread or task of the relay panics during its work, and the relay exits.
    pub(super) async fn panic_in_a_task(&self, relay: Relay<'a>, draw: usize) -> (Relay<'a>, bool) {
        let task = TASKS[draw % TASKS.len()];
        self.stop(relay).await;
        let mut dying = self.home().start_with(VARIABLE, &format!("{}@{ROUNDS_BEFORE_PANIC}", task.name()));
        println!("torture: {} is to die", task.name());
        let hit = self.comes_true(async || !dying.runs()).await && dying.ended().await.code() == Some(1);
        (self.start(0).await, hit)
    }

    /// Publishes messages whose properties no client library can read. Returns true once the broker has received them.
    pub(super) async fn publish_poisoned(&self) -> bool {
        let mut from = self.next_raw.load(SeqCst);
        let mut ids = Vec::new();
        for _ in 0..RAW_KEYS {
            let key = self.plan.next_key(from, Hand::Raw);
            from = key + 1;
            ids.extend((0..self.plan.length(key)).map(|seq| EventId { key, seq }));
        }
        self.next_raw.store(from, SeqCst);
        // Keys run concurrently. The events of one key stay in order.
        ids.sort_by_key(|id| (id.seq, id.key));
        for &id in &ids {
            self.progress.publish(id);
        }
        let messages: Vec<_> = ids.iter().map(|&id| self.raw(id)).collect();
        let publish = move |login: &Login<'_>| {
            let messages = messages.iter().map(|(routing_key, properties, body)| RawMessage {
                routing_key,
                properties: properties.clone(),
                body,
            });
            publish_raw(login, EXCHANGE, &messages.collect::<Vec<_>>());
        };
        self.regards.publish_by_hand(publish).await;
        for &id in &ids {
            self.progress.confirm(self.plan, id);
        }
        true
    }

    /// The routing key, properties and body of a message.
    fn raw(&self, id: EventId) -> (&'static [u8], Vec<u8>, Vec<u8>) {
        let (tenant, body) = (self.plan.tenant(id.key), self.plan.response(id).body);
        match self.plan.wrong(id) {
            Wrong::TooDeep => {
                // If the relay cannot read the body, the dead letter takes the correlation id from the property.
                let (key, deep) = (correlation_id(id.key), DEEP[id.key as usize % DEEP.len()]);
                (b"", properties(&tenant, &[(CORRELATION_ID, key.as_bytes())], &deep.header()), body)
            }
            Wrong::Poisoned(number) => {
                let ways = poisoned(&tenant);
                let (_, properties, routing_key) = &ways[number % ways.len()];
                (routing_key, properties.clone(), body)
            }
        }
    }
}
