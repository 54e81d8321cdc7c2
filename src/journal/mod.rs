//! The journal: what became of each event, in a SQLite file or beside a spool in PostgreSQL, for `trace` and `replay`.
//!
//! It is a record, and no promise depends on it. A [`Journal`] takes each record without waiting: a thread of its own (`writer`) writes
//! them at most [`MAX_LAG`] later, many in one transaction (`store`). Records that find no room in memory, no room on the disk, or a file
//! that can't be written are left out and counted.
//!
//! The journal is read beside running relays ([`JournalReader`]). Records are stored compressed in blocks, and found by the hashes of the ids
//! of their request (`keys`).

mod batch;
mod buffer;
mod error;
mod keys;
mod packer;
mod postgres;
mod properties;
mod reader;
mod record;
mod sqlite;
mod stats;
mod store;
#[cfg(test)]
mod tests;
mod writer;

pub use error::JournalError;
pub use keys::RequestKey;
pub use reader::{EventFilter, JournalReader, Scan};
pub use record::{DeliveryEnd, DeliveryRecord, Destination, EventRecord, Record, StoredMessage, short_detail};
pub use stats::JournalStats;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::config::JournalConfig;
use crate::event::{Event, Message};
use crate::tasks::{self, TaskKind};

use batch::Batch;
use buffer::Buffer;
use packer::Packer;
use record::RecordRef;
use writer::Writer;

/// The longest time from a record until it is stored, unless the disk is slower.
pub const MAX_LAG: Duration = Duration::from_secs(1);
/// How often [`Journal::close`] looks whether the thread has ended.
const CLOSE_POLL: Duration = Duration::from_millis(5);

/// Takes the records of a running relay. Clones share one store.
#[derive(Debug, Clone, Default)]
pub struct Journal(Option<Arc<Shared>>);

/// What the journal's thread shares with those that record.
#[derive(Debug)]
struct Shared {
    buffer: Buffer,
    stats: JournalStats,
    bodies: bool,
    is_closing: AtomicBool,
    writer: std::sync::OnceLock<JoinHandle<()>>,
}

impl Journal {
    /// Starts the thread, which opens the store. `None`: the configuration has `journal: none`.
    pub fn start(config: Option<&JournalConfig>) -> std::io::Result<Self> {
        let Some(config) = config else { return Ok(Self::default()) };
        let shared = Arc::new(Shared {
            buffer: Buffer::default(),
            stats: JournalStats::default(),
            bodies: config.bodies,
            is_closing: AtomicBool::new(false),
            writer: std::sync::OnceLock::new(),
        });
        let writer = Writer::new(config.clone(), Arc::clone(&shared));
        let thread = tasks::spawn_thread(TaskKind::JournalWriter, "journal".to_owned(), move || writer.run())?;
        // Nobody else sets it.
        let _ = shared.writer.set(thread);
        Ok(Self(Some(shared)))
    }

    /// Records that an event was received, which routes it matched, and to which sinks it goes.
    pub fn record_event<'a>(
        &self,
        event: &'a Event,
        message: &'a Message,
        routes: impl Iterator<Item = &'a str>,
        sinks: impl Iterator<Item = &'a str>,
    ) {
        let Some(shared) = &self.0 else { return };
        let correlation_id = event.request_name();
        let mut record = EventRecord::of(event, message, shared.bodies);
        for route in routes {
            record.routes.push(route);
        }
        for sink in sinks {
            record.sinks.push(sink);
        }
        record.correlation_id = &correlation_id;
        shared.record(&RequestKey::of_event(event), RecordRef::Event(&record));
    }

    /// Records how the delivery of an event of that request ended.
    pub fn record_delivery(&self, correlation_id: &str, delivery: &DeliveryRecord<'_>) {
        let Some(shared) = &self.0 else { return };
        shared.record(&[RequestKey::of_request(correlation_id)], RecordRef::Delivery(delivery));
    }

    /// `None`: the configuration has `journal: none`.
    #[must_use]
    pub fn stats(&self) -> Option<&JournalStats> {
        self.0.as_deref().map(|shared| &shared.stats)
    }

    /// Writes what is left, for at most `grace`, and closes the file. Later records are dropped.
    pub async fn close(&self, grace: Duration) {
        let Some(shared) = &self.0 else { return };
        shared.is_closing.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + grace;
        shared.wake_writer();
        while shared.writer.get().is_some_and(|writer| !writer.is_finished()) && Instant::now() < deadline {
            tokio::time::sleep(CLOSE_POLL).await;
        }
    }
}

impl Shared {
    fn record(&self, keys: &[RequestKey], record: RecordRef<'_>) {
        match self.buffer.push(keys, record) {
            buffer::Pushed::Stored => {}
            buffer::Pushed::Filled => self.wake_writer(),
            buffer::Pushed::Skipped => self.stats.skip(1),
        }
    }

    fn wake_writer(&self) {
        if let Some(writer) = self.writer.get() {
            writer.thread().unpark();
        }
    }
}

/// Records a test event and how its delivery ended, also beside a running relay.
pub fn record_test(
    config: &JournalConfig,
    event: &Event,
    message: &Message,
    delivery: &DeliveryRecord<'_>,
) -> Result<(), JournalError> {
    let buffer = Buffer::default();
    let mut record = EventRecord::of(event, message, config.bodies);
    record.is_test = true;
    record.sinks.extend(delivery.sink);
    buffer.push(&RequestKey::of_event(event), RecordRef::Event(&record));
    buffer.push(&[RequestKey::of_request(&event.correlation_id)], RecordRef::Delivery(delivery));
    let (mut packer, mut batch) = (Packer::default(), Batch::default());
    for block in buffer.take(true) {
        packer.add(&block, &mut batch).map_err(JournalError::Compression)?;
    }
    store::open(&config.store)?.write(&mut batch, config).map(|_| ())
}
