//! REGARDS under load: many keys at once, the events of each key in order, with publisher confirms, through every
//! restart.
//!
//! An event that was not confirmed when a channel broke may or may not have reached the queue. Its key gets no further
//! events: nobody could say where in their order the uncertain one belongs.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use fastrand::Rng;
use futures_util::FutureExt;
use lapin::{Channel, Confirmation, PublisherConfirm};
use tokio::time::MissedTickBehavior;

use super::book::Book;
use super::plan::{EventId, Hand, Plan, Sink, Watched};
use super::world::WITHIN;
use crate::support::VHost;
use crate::support::regards::send;

/// The number of keys with events still to publish.
const ACTIVE: usize = 60;
/// The largest number of unconfirmed publishes.
const WINDOW: usize = 256;
/// Confirmed events that Kafka may still miss. A larger backlog than a few seconds of deliveries only makes the run
/// longer.
const LEAD: u64 = 4_000;
/// The run ends if the relay makes no progress for this long.
pub const STANDSTILL: Duration = Duration::from_mins(5);
const TICKS_A_SECOND: u32 = 50;
const FRESH_TRIES: usize = 5;
/// A paused broker confirms late. A broker that takes this long is broken.
const CONFIRM_WITHIN: Duration = Duration::from_mins(1);

/// The shared state of the publisher.
#[derive(Default)]
pub struct Progress {
    pub book: Mutex<Book>,
    pub published: AtomicU64,
    /// Unconfirmed publishes on a working channel.
    pub unconfirmed: AtomicU64,
    /// Confirmed events that are due at Kafka, and events that Kafka has received.
    pub owed: AtomicU64,
    pub paid: AtomicU64,
    /// The number of additional messages to publish that become dead letters.
    pub flood: AtomicU64,
    /// When the request of a key that an alert watches was published.
    pub opened: Mutex<HashMap<u32, Instant>>,
    /// The last fault is over.
    pub faults_over: AtomicBool,
}

impl Progress {
    /// The approximate number of confirmed events that Kafka has not received.
    pub fn lead(&self) -> u64 {
        self.owed.load(SeqCst).saturating_sub(self.paid.load(SeqCst))
    }

    /// Records that the publisher sent the event.
    pub fn publish(&self, id: EventId) {
        self.book.lock().expect("no holder panics").publish(id);
        self.published.fetch_add(1, SeqCst);
    }

    /// Whether a watched request was published so recently that it cannot be overdue.
    pub fn is_young(&self, key: u32) -> bool {
        self.opened.lock().expect("no holder panics").get(&key).is_none_or(|opened| opened.elapsed() < WITHIN)
    }

    /// Records that the broker confirmed the event.
    pub fn confirm(&self, plan: Plan, id: EventId) {
        self.book.lock().expect("no holder panics").confirm(id);
        if plan.is_due(id, Sink::Kafka) {
            self.owed.fetch_add(1, SeqCst);
        }
    }
}

pub struct Publisher<'a> {
    plan: Plan,
    progress: &'a Progress,
    vhost: &'a VHost,
    channel: Channel,
    rng: Rng,
    /// The next event of each active key.
    active: Vec<EventId>,
    next_key: u32,
    next_flood: u32,
    /// The end of the request that was published last.
    quick_end: Option<EventId>,
    /// Requests whose ends are published after the last fault.
    late: Vec<u32>,
    waiting: VecDeque<(EventId, PublisherConfirm)>,
}

impl<'a> Publisher<'a> {
    pub async fn new(seed: u64, plan: Plan, progress: &'a Progress, vhost: &'a VHost) -> Self {
        let (channel, rng) = (vhost.channel().await, Rng::with_seed(seed));
        Self {
            plan,
            progress,
            vhost,
            channel,
            rng,
            active: Vec::new(),
            next_key: 0,
            next_flood: 0,
            quick_end: None,
            late: Vec::new(),
            waiting: VecDeque::new(),
        }
    }

    /// Publishes `rate` events per second until `events` events are published and the faults are over.
    pub async fn run(&mut self, events: u64, rate: u64) {
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / TICKS_A_SECOND);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut wanted = 0;
        let mut last_went_on = Instant::now();
        while self.progress.published.load(SeqCst) < events || !self.progress.faults_over.load(SeqCst) {
            ticks.tick().await;
            if self.progress.lead() < LEAD {
                (wanted, last_went_on) = (wanted + rate, Instant::now());
            }
            assert!(
                last_went_on.elapsed() < STANDSTILL,
                "for {STANDSTILL:?}, {LEAD} events and more are owed to Kafka"
            );
            for _ in 0..wanted / u64::from(TICKS_A_SECOND) {
                let id = self.next();
                self.publish(id).await;
            }
            wanted %= u64::from(TICKS_A_SECOND);
            self.flood(rate / u64::from(TICKS_A_SECOND)).await;
            self.take_confirms(WINDOW).await;
        }
        self.take_confirms(0).await;
    }

    /// Publishes at most this many of the messages that fill the room for dead letters.
    async fn flood(&mut self, at_most: u64) {
        let count = self.progress.flood.load(SeqCst).min(at_most);
        for _ in 0..count {
            let key = self.plan.next_key(self.next_flood, Hand::Flood);
            self.next_flood = key + 1;
            self.publish(EventId { key, seq: 0 }).await;
        }
        self.progress.flood.fetch_sub(count, SeqCst);
    }

    /// Publishes a key whose events reach every sink. Returns the number of the key once all its events are confirmed.
    /// If a broken channel loses such a key, it tries the next one.
    pub async fn publish_everywhere(&mut self) -> u32 {
        for _ in 0..FRESH_TRIES {
            while !self.plan.is_everywhere(self.next_key) {
                self.next_key += 1;
            }
            let (key, length) = (self.next_key, self.plan.length(self.next_key));
            self.next_key += 1;
            let mut sent = 0;
            while sent < length && self.publish(EventId { key, seq: sent }).await {
                sent += 1;
            }
            self.take_confirms(0).await;
            let book = self.progress.book.lock().expect("no holder panics");
            if (0..length).all(|seq| book.is_confirmed(EventId { key, seq })) {
                return key;
            }
        }
        panic!("with no fault any more, {FRESH_TRIES} fresh keys were not confirmed");
    }

    /// Publishes the next `count` keys whose requests an alert watches and which end like that, and returns the keys
    /// whose events were all confirmed.
    pub async fn publish_watched(&mut self, watched: Watched, count: usize) -> Vec<u32> {
        let mut keys = Vec::new();
        while keys.len() < count {
            while self.plan.watched(self.next_key) != Some(watched) {
                self.next_key += 1;
            }
            let key = self.next_key;
            self.next_key += 1;
            keys.push(key);
            for seq in 0..self.plan.length(key) {
                if !self.publish(EventId { key, seq }).await {
                    break;
                }
            }
        }
        self.take_confirms(0).await;
        let book = self.progress.book.lock().expect("no holder panics");
        keys.retain(|&key| (0..self.plan.length(key)).all(|seq| book.is_confirmed(EventId { key, seq })));
        keys
    }

    /// Publishes the ends of the requests that were raised meanwhile.
    pub async fn publish_late_ends(&mut self) {
        for key in std::mem::take(&mut self.late) {
            self.publish(EventId { key, seq: 1 }).await;
        }
        self.take_confirms(0).await;
    }

    /// Publishes the next event of a random active key.
    fn next(&mut self) -> EventId {
        if let Some(end) = self.quick_end.take() {
            return end;
        }
        while self.active.len() < ACTIVE {
            let key = self.plan.next_key(self.next_key, Hand::Always);
            self.active.push(EventId { key, seq: 0 });
            self.next_key = key + 1;
        }
        let place = self.rng.usize(..self.active.len());
        let id = self.active[place];
        if let Some(watched) = self.plan.watched(id.key) {
            self.active.swap_remove(place);
            match watched {
                Watched::Silent => {}
                Watched::Late => self.late.push(id.key),
                Watched::Quick => self.quick_end = Some(EventId { seq: 1, ..id }),
            }
        } else if id.seq + 1 < self.plan.length(id.key) {
            self.active[place].seq += 1;
        } else {
            self.active.swap_remove(place);
        }
        id
    }

    /// Returns false if the channel was broken.
    async fn publish(&mut self, id: EventId) -> bool {
        if id.seq == 0 && self.plan.watched(id.key).is_some() {
            self.progress.opened.lock().expect("no holder panics").insert(id.key, Instant::now());
        }
        self.progress.publish(id);
        if let Ok(confirm) = send(&self.channel, &self.plan.response(id)).await {
            self.waiting.push_back((id, confirm));
            self.progress.unconfirmed.store(self.waiting.len() as u64, SeqCst);
            return true;
        }
        self.begin_anew(id).await;
        false
    }

    /// Reads the available confirms, then waits until at most `most` are missing.
    async fn take_confirms(&mut self, missing: usize) {
        while let Some((id, mut confirm)) = self.waiting.pop_front() {
            let confirmed = if self.waiting.len() >= missing {
                tokio::time::timeout(CONFIRM_WITHIN, confirm).await.is_ok_and(is_ack)
            } else if let Some(confirmed) = (&mut confirm).now_or_never() {
                is_ack(confirmed)
            } else {
                self.waiting.push_front((id, confirm));
                break;
            };
            if confirmed { self.progress.confirm(self.plan, id) } else { self.begin_anew(id).await }
        }
        self.progress.unconfirmed.store(self.waiting.len() as u64, SeqCst);
    }

    /// The channel is broken. Retires the keys of this event and of all other unconfirmed events.
    async fn begin_anew(&mut self, id: EventId) {
        let mut retired = HashSet::from([id.key]);
        for (id, confirm) in std::mem::take(&mut self.waiting) {
            if confirm.now_or_never().is_some_and(is_ack) {
                self.progress.confirm(self.plan, id);
            } else {
                retired.insert(id.key);
            }
        }
        self.active.retain(|id| !retired.contains(&id.key));
        self.late.retain(|key| !retired.contains(key));
        self.quick_end.take_if(|id| retired.contains(&id.key));
        self.progress.unconfirmed.store(0, SeqCst);
        self.channel = self.vhost.channel_when_back().await;
    }
}

fn is_ack(confirmed: lapin::Result<Confirmation>) -> bool {
    confirmed.is_ok_and(|confirmation| confirmation.is_ack())
}
