//! Faults of the relay that need more than a signal: dead letters without room, a damaged spool, dead threads, and
//! messages that no client library would write.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use regards_relay::tasks::{TaskKind, VARIABLE};

use super::nemesis::Nemesis;
use super::plan::{EventId, Hand, Sink, Wrong, correlation_id};
use super::taken::event_of;
use super::world::LETTERS;
use crate::source::poisoned::poisoned;
use crate::support::Relay;
use crate::support::damage::damage_row;
use crate::support::raw_amqp::{Login, Nested, RawMessage, properties, publish_raw};
use crate::support::regards::EXCHANGE;

/// The least that can be configured.
const SMALL_LETTERS: &str = "dead_letters: { keep: 2d, max_size: 1MiB }";
/// Takes more than that.
const MORE_THAN_FIT: u64 = 200;
/// So many that some are still to come when the first are noticed.
const MANY: u64 = 600;
/// How many are the first.
const FIRST: u64 = 20;
/// How often a thread or a task works before it dies.
const ROUNDS_BEFORE_PANIC: u64 = 20;
/// Keys that are published without a client library by one fault.
const RAW_KEYS: usize = 30;
/// Deeper than the relay keeps.
const DEEP: [Nested; 2] = [Nested::Arrays(10_000), Nested::Tables(10_000)];
/// The bit of the flag of `correlation_id`.
const CORRELATION_ID: u16 = 10;

/// What dies without being asked for anything but its work.
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
    /// More dead letters than there is room for, by a configuration that takes a restart, as its end does.
    pub(super) async fn fill_letters(&self, relay: Relay<'a>, lasts: Duration) -> (Relay<'a>, bool) {
        self.stop(relay).await;
        self.home.write_routes(&self.routes.replace(LETTERS, SMALL_LETTERS));
        let relay = self.start().await;
        self.progress.flood.fetch_add(MORE_THAN_FIT, SeqCst);
        let hit = self.comes_true(async || self.probe.is_unready_for(&["`dead_letters.max_size`"]).await).await;
        tokio::time::sleep(lasts).await;
        self.stop(relay).await;
        self.home.write_routes(self.routes);
        (self.start().await, hit)
    }

    /// No room on the disk in the middle of many dead letters, and a kill when they wait for it.
    pub(super) async fn fill_disk_with_letters(&self, relay: Relay<'a>, lasts: Duration) -> (Relay<'a>, bool) {
        let disk = self.disk.expect("left out of the schedule where there is none");
        let before = self.probe.letters("not_json").await;
        self.progress.flood.fetch_add(MANY, SeqCst);
        self.comes_true(async || self.probe.letters("not_json").await >= before + FIRST).await;
        disk.fill();
        // Nothing else waits there in these words: deliveries are refused before.
        let words = ["changes wait, and their messages stay unacknowledged", "make room on"];
        let hit = self.comes_true(async || self.probe.is_unready_for(&words).await).await;
        tokio::time::sleep(lasts).await;
        relay.kill();
        disk.free();
        (self.start().await, hit)
    }

    /// While the relay is down, the oldest row of a backlog is made unreadable.
    pub(super) async fn damage_row(&self, relay: Relay<'a>) -> (Relay<'a>, bool) {
        let sink = Sink::Webhook;
        // A sink that is paused has a backlog.
        self.home.does(&["pause", "--sink", sink.name()]);
        self.comes_true(async || self.probe.waiting(sink).await > 0).await;
        self.stop(relay).await;
        let event = |body: &[u8]| event_of(self.plan, body);
        // What is to be refused becomes a dead letter for that reason.
        let is_refused = |id: EventId| self.plan.cause(id.key).is_some_and(|cause| cause.id == id);
        let damaged = damage_row(self.home, sink.name(), |body| event(body).is_some_and(|id| !is_refused(id)));
        if let Some(id) = damaged.and_then(|body| event(&body)) {
            self.damaged.lock().expect("no holder panics").insert((sink, id));
            self.shelves.of(sink).letters.insert(id);
        }
        let relay = self.start().await;
        self.home.does(&["resume", "--sink", sink.name()]);
        let hit = self.comes_true(async || self.probe.letters("render_failed").await > 0).await;
        (relay, hit)
    }

    /// One of the relay's threads or tasks panics in the middle of its work, which ends the relay.
    pub(super) async fn panic_in_a_task(&self, relay: Relay<'a>, draw: usize) -> (Relay<'a>, bool) {
        let task = TASKS[draw % TASKS.len()];
        self.stop(relay).await;
        let mut dying = self.home.start_with(VARIABLE, &format!("{}@{ROUNDS_BEFORE_PANIC}", task.name()));
        println!("torture: {} is to die", task.name());
        let hit = self.comes_true(async || !dying.runs()).await && dying.ended().await.code() == Some(1);
        (self.start().await, hit)
    }

    /// Publishes messages whose properties no client library reads. True: the broker has them.
    pub(super) async fn publish_poisoned(&self) -> bool {
        let mut from = self.next_raw.load(SeqCst);
        let mut ids = Vec::new();
        for _ in 0..RAW_KEYS {
            let key = self.plan.next_key(from, Hand::Raw);
            from = key + 1;
            ids.extend((0..self.plan.length(key)).map(|seq| EventId { key, seq }));
        }
        self.next_raw.store(from, SeqCst);
        // The keys beside one another, each in its order.
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

    /// Routing key, properties and body of a message.
    fn raw(&self, id: EventId) -> (&'static [u8], Vec<u8>, Vec<u8>) {
        let (tenant, body) = (self.plan.tenant(id.key), self.plan.response(id).body);
        match self.plan.wrong(id) {
            Wrong::TooDeep => {
                // Where the body isn't read, the dead letter knows the property.
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
