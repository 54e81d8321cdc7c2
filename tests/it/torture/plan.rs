//! The events, and the expected result of each: a pure function of the seed, so that nobody has to remember a body.
//!
//! A key is one `correlationId` of one tenant, with up to [`MOST_EVENTS`] events in the order of their sequence
//! numbers. A few keys are made to fail: a message that cannot be read, an event that the webhook refuses. Some are
//! reserved for faults that publish: see [`Hand`].

use fastrand::Rng;
use serde_json::json;

use crate::support::Response;

/// The largest number of events per key.
pub const MOST_EVENTS: usize = 8;

/// The webhook refuses events whose message contains this text.
pub const REFUSE: &str = "(never take this)";

/// The padding of each message that fills the room for dead letters.
pub const FLOOD_BYTES: usize = 8 * 1024;

const TENANTS: u64 = 12;
const PREFIX: &str = "torture-";

/// The sinks. A separate client reads each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sink {
    Kafka,
    Webhook,
    Amqp,
    File,
    /// A webhook that gets several events at once.
    Digest,
}

impl Sink {
    pub const ALL: [Self; 5] = [Self::Kafka, Self::Webhook, Self::Amqp, Self::File, Self::Digest];

    /// The name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kafka => "pipeline",
            Self::Webhook => "on_call",
            Self::Amqp => "partner",
            Self::File => "archive",
            Self::Digest => "digests",
        }
    }
}

/// One event: the number of its key and its position within the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    pub key: u32,
    pub seq: u8,
}

/// What the events of a key test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Ordinary,
    /// The key has one message, which is not JSON.
    NotJson,
    /// The key has one message, whose status belongs to no family.
    UnknownStatus,
    /// The webhook refuses the second event until the end of the run. The other events are regular.
    Refused,
    /// Like [`NotJson`](Self::NotJson), but one of many messages that fill the room for dead letters.
    Flood,
    /// Regular events whose message properties contain bytes that are not UTF-8.
    Poisoned,
    /// The key has one message, whose headers are nested too deep.
    TooDeep,
    /// An alert watches the request.
    Watched(Watched),
}

/// The end of a request that an alert watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watched {
    /// It has none.
    Silent,
    /// It is published when the alert was raised.
    Late,
    /// It is published at once.
    Quick,
}

/// Who publishes the events of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hand {
    /// The publisher, throughout the run.
    Always,
    /// The publisher, during a fault that needs many dead letters.
    Flood,
    /// The nemesis, without a client library: no library can write these properties.
    Raw,
}

/// The defect in the properties of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// The number of a variant in [`poisoned`](crate::source::poisoned::poisoned).
    Poisoned(usize),
    TooDeep,
}

/// The dead letter that one event of a key must become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cause {
    pub id: EventId,
    pub reason: &'static str,
    pub sink: Option<Sink>,
}

/// All events of one seed.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    seed: u64,
}

impl Plan {
    pub fn of(seed: u64) -> Self {
        Self { seed }
    }

    /// The number of events of a key.
    pub fn length(self, key: u32) -> u8 {
        match self.life(key) {
            Life::Ordinary | Life::Poisoned => self.draw(key, "length").u8(2..=8),
            Life::NotJson | Life::UnknownStatus | Life::Flood | Life::TooDeep | Life::Watched(Watched::Silent) => 1,
            Life::Refused => 4,
            Life::Watched(Watched::Late | Watched::Quick) => 2,
        }
    }

    pub fn status(self, id: EventId) -> &'static str {
        match (self.life(id.key), id.seq) {
            (Life::UnknownStatus, _) => "DONE",
            (_, 0) => "GRANTED",
            (Life::Refused, 1) => "ERROR",
            (Life::Refused, 2) => "DENIED",
            (Life::Watched(Watched::Late), _) => "SUCCESS",
            (_, seq) => {
                let mut rng = self.draw(id.key, "status");
                let draws = (0..seq).map(|_| rng.usize(..4));
                ["SUCCESS", "SUCCESS", "ERROR", "DENIED"][draws.last().unwrap_or_default()]
            }
        }
    }

    pub fn tenant(self, key: u32) -> String {
        let number = self.draw(key, "tenant").u64(..TENANTS);
        let group = ["plain", "partner", "archive", "every", "silent"][self.group(key)];
        format!("{group}-{number}")
    }

    pub fn hand(self, key: u32) -> Hand {
        match self.life(key) {
            Life::Flood => Hand::Flood,
            Life::Poisoned | Life::TooDeep => Hand::Raw,
            Life::Ordinary | Life::NotJson | Life::UnknownStatus | Life::Refused | Life::Watched(_) => Hand::Always,
        }
    }

    /// The end of the request, if the alert about silent tenants watches it.
    pub fn watched(self, key: u32) -> Option<Watched> {
        match self.life(key) {
            Life::Watched(watched) => Some(watched),
            _ => None,
        }
    }

    /// The first key from `key` on whose events that hand publishes.
    pub fn next_key(self, from: u32, hand: Hand) -> u32 {
        (from..=u32::MAX).find(|&key| self.hand(key) == hand).expect("keys are never used up")
    }

    /// The defect in the properties of a message that the nemesis publishes.
    pub fn wrong(self, id: EventId) -> Wrong {
        match self.life(id.key) {
            Life::TooDeep => Wrong::TooDeep,
            _ => Wrong::Poisoned(self.draw(id.key, "poison").usize(..) + usize::from(id.seq)),
        }
    }

    /// Whether this event must reach that sink. A refused event must reach it after the redrive.
    pub fn is_due(self, id: EventId, sink: Sink) -> bool {
        let life = self.life(id.key);
        if matches!(life, Life::NotJson | Life::UnknownStatus | Life::Flood | Life::TooDeep) {
            return false;
        }
        match sink {
            Sink::Kafka => true,
            Sink::Webhook => matches!(self.status(id), "ERROR" | "DENIED"),
            Sink::Amqp => matches!(self.group(id.key), 1 | 3),
            Sink::File => matches!(self.group(id.key), 2 | 3),
            Sink::Digest => matches!(self.group(id.key), 0 | 3),
        }
    }

    /// Whether the events of this key reach every sink.
    pub fn is_everywhere(self, key: u32) -> bool {
        let due = |sink| (0..self.length(key)).any(|seq| self.is_due(EventId { key, seq }, sink));
        self.life(key) == Life::Ordinary && Sink::ALL.into_iter().all(due)
    }

    /// The dead letter that this key must produce.
    pub fn cause(self, key: u32) -> Option<Cause> {
        let cause = |seq, reason, sink| Some(Cause { id: EventId { key, seq }, reason, sink });
        match self.life(key) {
            Life::Ordinary | Life::Poisoned | Life::Watched(_) => None,
            Life::NotJson | Life::Flood => cause(0, "not_json", None),
            Life::TooDeep => cause(0, "too_deep", None),
            Life::UnknownStatus => cause(0, "unknown_status", None),
            Life::Refused => cause(1, "refused", Some(Sink::Webhook)),
        }
    }

    pub fn response(self, id: EventId) -> Response {
        let (life, correlation_id) = (self.life(id.key), correlation_id(id.key));
        if matches!(life, Life::NotJson | Life::Flood) {
            let filling = if life == Life::Flood { "x".repeat(FLOOD_BYTES) } else { String::new() };
            let mut response =
                Response::with_body(&self.tenant(id.key), format!("correlationId={correlation_id} {filling}"));
            response.correlation_id = Some(correlation_id);
            return response;
        }
        let refuse = if (life, id.seq) == (Life::Refused, 1) { REFUSE } else { "" };
        let body = json!({
            "correlationId": correlation_id,
            "productId": format!("product of {correlation_id}"),
            "responseStatus": self.status(id),
            "message": format!("{} {refuse}", id.seq),
        });
        Response::with_body(&self.tenant(id.key), body.to_string())
    }

    fn life(self, key: u32) -> Life {
        match self.draw(key, "life").u32(..1_000) {
            0..=3 => Life::NotJson,
            4..=7 => Life::UnknownStatus,
            8..=17 => Life::Refused,
            18..=67 => Life::Flood,
            68..=87 => Life::Poisoned,
            88..=97 => Life::TooDeep,
            98..=147 => Life::Watched(Watched::Silent),
            148..=162 => Life::Watched(Watched::Late),
            163..=202 => Life::Watched(Watched::Quick),
            _ => Life::Ordinary,
        }
    }

    fn group(self, key: u32) -> usize {
        if self.watched(key).is_some() { 4 } else { self.draw(key, "group").usize(..4) }
    }

    /// A separate random generator for each property of each key.
    fn draw(self, key: u32, what: &str) -> Rng {
        let parts = [&self.seed.to_le_bytes()[..], &key.to_le_bytes(), what.as_bytes()].concat();
        Rng::with_seed(xxhash_rust::xxh3::xxh3_64(&parts))
    }
}

/// The id of a received event, from its `correlationId` and `message`.
pub fn id_of(correlation_id: &str, message: &str) -> Option<EventId> {
    let seq = message.split(' ').next()?.parse().ok()?;
    Some(EventId { key: key_of(correlation_id)?, seq }).filter(|id| usize::from(id.seq) < MOST_EVENTS)
}

pub fn key_of(correlation_id: &str) -> Option<u32> {
    correlation_id.strip_prefix(PREFIX)?.parse().ok()
}

pub fn correlation_id(key: u32) -> String {
    format!("{PREFIX}{key}")
}
