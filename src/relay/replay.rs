//! Replays events of the journal: each becomes a delivery in the spool, for one sink and by the current configuration.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::orphans::backlog_of;
use super::redrive::{RedriveResult, check_takes_events, new_delivery, no_sink};
use crate::config::{Config, JournalStoreConfig, SinkConfig};
use crate::event::{Event, EventView, Message};
use crate::journal::{EventFilter, EventRecord, JournalError, JournalReader, Scan};
use crate::net::RateLimiter;
use crate::rules::{RouteName, SinkIndex};
use crate::sink;
use crate::spool::{OpenShards, Progress, RedriveOrigin, SpooledDelivery};

/// So many deliveries of the sink may be in the spool before more are replayed: new events of the same keys wait behind these only.
const MAX_BACKLOG: u64 = 1_000;
/// So many deliveries are written in one transaction.
const BATCH: usize = 100;
/// How often the backlog is looked at while it is too large.
const BACKLOG_POLL: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReplayRequest {
    pub filter: EventFilter,
    /// Only what came from the sources of this shard.
    pub shard: String,
    pub sink: String,
    /// Events per second at most.
    pub rate: Option<f64>,
    /// How many events match, as counted by the client.
    pub total: u64,
}

/// An event of the journal, as it is replayed.
struct ReplayedEvent {
    source: String,
    kind: String,
    tenant: Arc<str>,
    /// None: messages were not recorded.
    message: Option<Result<Message, String>>,
}

/// How many events match, and who would replay them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventCount {
    /// By the name of the shard that has what comes from their sources.
    pub of_shards: BTreeMap<String, u64>,
    /// How many of them have no message.
    pub without_message: u64,
}

impl EventCount {
    #[must_use]
    pub fn total(&self) -> u64 {
        self.of_shards.values().sum()
    }
}

pub fn count_events(config: &Config, journal: &JournalStoreConfig, filter: &EventFilter) -> Result<EventCount, String> {
    let mut found = EventCount::default();
    let Some(reader) = JournalReader::open(journal).map_err(|error| error.to_string())? else { return Ok(found) };
    let mut scan = reader.scan(filter.clone()).map_err(|error| error.to_string())?;
    while let Some(events) = read_block(&reader, &mut scan)? {
        for event in events {
            *found.of_shards.entry(config.shard_of(&event.source).to_owned()).or_default() += 1;
            found.without_message += u64::from(event.message.is_none());
        }
    }
    Ok(found)
}

/// Replays the oldest first, each as if it were received now. An error is a sentence; what was replayed before it stays replayed.
pub(super) async fn replay(
    config: &Config,
    spool: &OpenShards,
    request: ReplayRequest,
    is_delivering: bool,
    progress: &Progress,
) -> Result<RedriveResult, String> {
    let Some((place, sink)) = config.sinks.iter().enumerate().find(|(_, sink)| sink.name.as_str() == request.sink)
    else {
        return Err(no_sink(config, &request.sink));
    };
    check_takes_events(config, sink)?;
    let journal = config
        .journal
        .as_ref()
        .ok_or_else(|| "there is no journal: the configuration says `journal: none`".to_owned())?;
    progress.set_total(request.total);
    let limiter = request.rate.map(RateLimiter::new);
    let mut done = RedriveResult::default();
    let mut blocks = Blocks::open(journal.store.clone(), request.filter).await?;
    while let Some(events) = blocks.next().await? {
        let mut deliveries = Vec::with_capacity(BATCH);
        for event in events.into_iter().filter(|event| config.shard_of(&event.source) == request.shard) {
            match delivery(config, sink, SinkIndex(place), event) {
                Ok(delivery) => {
                    if let Some(limiter) = &limiter {
                        limiter.wait().await;
                    }
                    deliveries.push(delivery);
                }
                Err(why) => {
                    done.count_left(why);
                    progress.add(1);
                }
            }
            if deliveries.len() >= BATCH || limiter.is_some() {
                write(spool, std::mem::take(&mut deliveries), is_delivering, &mut done, progress).await?;
            }
        }
        write(spool, deliveries, is_delivering, &mut done, progress).await?;
    }
    Ok(done)
}

/// Spools these deliveries once the backlog of the sink has room for them, and waits until they are on disk.
async fn write(
    spool: &OpenShards,
    deliveries: Vec<SpooledDelivery>,
    is_delivering: bool,
    done: &mut RedriveResult,
    progress: &Progress,
) -> Result<(), String> {
    let Some(sink) = deliveries.first().map(|delivery| delivery.sink.clone()) else { return Ok(()) };
    while is_delivering && backlog_of(spool, sink.as_str()) >= MAX_BACKLOG {
        tokio::time::sleep(BACKLOG_POLL).await;
    }
    let mut written = Vec::with_capacity(deliveries.len());
    for delivery in deliveries {
        let shard = spool.of(&delivery.message.source);
        let stored = shard.and_then(|shard| shard.redrive(RedriveOrigin::Journal, vec![delivery]));
        written.push(stored.map_err(|error| format!("{error}; {} events were replayed before", done.redriven))?);
    }
    for stored in written {
        stored.await?;
        done.count([sink.to_string()]);
        progress.add(1);
    }
    Ok(())
}

/// The delivery that an event becomes. The error says why it becomes none.
fn delivery(
    config: &Config,
    sink: &SinkConfig,
    index: SinkIndex,
    replayed: ReplayedEvent,
) -> Result<SpooledDelivery, String> {
    let ReplayedEvent { kind, tenant, message, .. } = replayed;
    let message = message.ok_or_else(|| {
        "its message was not recorded: it is larger than 1 MiB, or the configuration said `journal: { bodies: false }`".to_owned()
    })??;
    let event = Event::decode_as(&message, &kind, &tenant)
        .map_err(|invalid| format!("its message can no longer be decoded ({})", invalid.reason))?;
    let route = route(config, index, &event, &message);
    // A delivery that can't be rendered would only become a dead letter.
    let transform = route.as_ref().and_then(|route| config.rules.route(route)?.transform.as_ref());
    sink::render(sink, EventView::of(&event, &message), transform)
        .map_err(|failed| format!("sink {} can't send it ({}: {})", sink.name, failed.reason, failed.detail))?;
    Ok(SpooledDelivery { replayed: true, ..new_delivery(sink, route, &event, Arc::new(message)) })
}

/// The route by which the event goes to the sink today; none: it does not go there, and is replayed without a transform.
fn route(config: &Config, sink: SinkIndex, event: &Event, message: &Message) -> Option<RouteName> {
    let plan = config.rules.plan(event, message);
    let (_, route) = plan.deliveries.iter().find(|(planned, _)| *planned == sink)?;
    route.and_then(|route| config.rules.routes().get(route)).map(|route| route.name.clone())
}

/// Reads the events of the journal block by block, on threads that may block.
struct Blocks {
    /// None: nothing was ever recorded.
    scan: Option<(JournalReader, Scan)>,
}

impl Blocks {
    async fn open(journal: JournalStoreConfig, filter: EventFilter) -> Result<Self, String> {
        let open = move || {
            let Some(reader) = JournalReader::open(&journal)? else { return Ok(None) };
            let scan = reader.scan(filter)?;
            Ok(Some((reader, scan)))
        };
        let scan = blocking(|| open().map_err(|error: JournalError| error.to_string())).await?;
        Ok(Self { scan })
    }

    async fn next(&mut self) -> Result<Option<Vec<ReplayedEvent>>, String> {
        let Some((reader, mut scan)) = self.scan.take() else { return Ok(None) };
        let (reader, scan, block) =
            blocking(move || read_block(&reader, &mut scan).map(|block| (reader, scan, block))).await?;
        self.scan = Some((reader, scan));
        Ok(block)
    }
}

async fn blocking<T: Send + 'static>(read: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, String> {
    let read = tokio::task::spawn_blocking(read).await;
    read.map_err(|error| crate::tasks::blocking_error("reading the journal", &error))?
}

/// The events of the next block that has some, in the order of receipt.
fn read_block(reader: &JournalReader, scan: &mut Scan) -> Result<Option<Vec<ReplayedEvent>>, String> {
    let mut events = Vec::new();
    let mut redelivered = Vec::new();
    let has_block = reader
        .scan_next(scan, |record| {
            if record.redelivered {
                redelivered.push((events.len(), record.id, record.received));
            }
            events.push(ReplayedEvent::of(&record));
        })
        .map_err(|error| error.to_string())?;
    // A redelivered message is replayed once.
    for (place, id, received) in redelivered.into_iter().rev() {
        if reader.is_recorded_before(id, received).map_err(|error| error.to_string())? {
            events.remove(place);
        }
    }
    Ok(has_block.then_some(events))
}

impl ReplayedEvent {
    fn of(record: &EventRecord<'_>) -> Self {
        Self {
            source: record.source.to_owned(),
            kind: record.kind.to_owned(),
            tenant: record.tenant.into(),
            message: record.message.as_ref().map(|message| message.to_message(record.source, false)),
        }
    }
}
