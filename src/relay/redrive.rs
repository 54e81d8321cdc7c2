//! Redrives dead letters: by the current configuration each becomes deliveries in the spool, or stays and is counted with the reason.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::config::{Config, SinkConfig, unknown_name};
use crate::delivery::SpoolPlace;
use crate::event::{Event, EventView, Message};
use crate::net::RateLimiter;
use crate::rules::{RouteName, Unrouted};
use crate::sink;
use crate::spool::{
    DeadLetterFilter, DeadLetterSummary, DeadLetters, OpenShards, Progress, RedriveOrigin, SpoolError, SpoolReader,
    SpooledDelivery, StoredDeadLetter,
};
use crate::tasks;

/// Limit of the listed reasons why dead letters stay; the others are counted together.
const MAX_REASONS: usize = 20;
const OTHER_REASONS: &str = "other reasons";

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RedriveRequest {
    pub filter: DeadLetterFilter,
    /// None: each goes to its own sink, or by the routes if it has none.
    pub to: Option<String>,
    /// Dead letters per second at most.
    pub rate: Option<f64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedriveResult {
    /// How many dead letters became deliveries.
    pub redriven: u64,
    /// How many of these deliveries are for each sink.
    pub sinks: BTreeMap<String, u64>,
    /// How many dead letters stay, by reason.
    pub left: BTreeMap<String, u64>,
}

/// Redrives the oldest first, each as if it were received now. An error is a sentence.
pub(super) async fn redrive(
    config: &Config,
    spool: &OpenShards,
    request: RedriveRequest,
    progress: &Progress,
) -> Result<RedriveResult, String> {
    // The relay's configuration may be older than the one that the command has read.
    if let Some(to) = request.to.as_deref().filter(|to| config.sinks.iter().all(|sink| sink.name.as_str() != *to)) {
        return Err(no_sink(config, to));
    }
    let mut done = RedriveResult::default();
    let rate_limiter = request.rate.map(RateLimiter::new);
    let ids = ids(spool.reader(), request.filter).await?;
    progress.set_total(u64::try_from(ids.len()).unwrap_or(u64::MAX));
    for id in ids {
        if let Some(letter) = show(spool.reader(), id).await? {
            let shard = spool.of(&letter.message.source);
            match plan(config, &letter, request.to.as_deref()).and_then(|deliveries| Ok((shard?, deliveries))) {
                Ok((shard, deliveries)) => {
                    if let Some(limiter) = &rate_limiter {
                        limiter.wait().await;
                    }
                    let sinks: Vec<_> = deliveries.iter().map(|delivery| delivery.sink.to_string()).collect();
                    if shard.redrive(RedriveOrigin::DeadLetter(id), deliveries)?.await? {
                        done.count(sinks);
                    }
                }
                Err(why) => done.count_left(why),
            }
        }
        progress.add(1);
    }
    Ok(done)
}

/// What [`redrive`] would do; `report` is called with the number of dead letters examined so far.
pub fn dry_run(
    config: &Config,
    spool: &SpoolReader,
    request: &RedriveRequest,
    mut report: impl FnMut(u64),
) -> Result<RedriveResult, SpoolError> {
    let letters = spool.dead_letters()?;
    let mut done = RedriveResult::default();
    for (id, number) in matching(&letters, &request.filter)?.into_iter().zip(0..) {
        report(number);
        let Some(letter) = letters.show(id)? else { continue };
        match plan(config, &letter, request.to.as_deref()) {
            Ok(deliveries) => done.count(deliveries.iter().map(|delivery| delivery.sink.to_string())),
            Err(why) => done.count_left(why),
        }
    }
    Ok(done)
}

impl RedriveResult {
    pub(super) fn count_left(&mut self, why: String) {
        self.leave(why, 1);
    }

    fn leave(&mut self, why: String, count: u64) {
        let is_one_more = self.left.len() < MAX_REASONS || self.left.contains_key(&why);
        *self.left.entry(if is_one_more { why } else { OTHER_REASONS.to_owned() }).or_default() += count;
    }

    pub(super) fn count(&mut self, sinks: impl IntoIterator<Item = String>) {
        self.redriven += 1;
        for sink in sinks {
            *self.sinks.entry(sink).or_default() += 1;
        }
    }

    /// Adds what was done for another shard.
    pub fn add(&mut self, other: Self) {
        self.redriven += other.redriven;
        for (sink, count) in other.sinks {
            *self.sinks.entry(sink).or_default() += count;
        }
        for (why, count) in other.left {
            self.leave(why, count);
        }
    }

    /// How many dead letters or deliveries it is about.
    #[must_use]
    pub fn examined(&self) -> u64 {
        self.redriven + self.left.values().sum::<u64>()
    }
}

pub(super) fn no_sink(config: &Config, name: &str) -> String {
    let known: Vec<_> = config.sinks.iter().map(|sink| sink.name.as_str()).collect();
    unknown_name("sink", name, &known)
}

/// Whether the sink takes copies of dead letters, and no events.
pub(super) fn takes_copies(config: &Config, sink: &SinkConfig) -> bool {
    config.dead_letters.to.as_ref() == Some(&sink.name)
}

pub(super) fn check_takes_events(config: &Config, sink: &SinkConfig) -> Result<(), String> {
    if takes_copies(config, sink) {
        Err(format!("sink {} takes copies of dead letters only", sink.name))
    } else {
        Ok(())
    }
}

/// The deliveries that `config` makes of a dead letter. The error says why the dead letter stays.
fn plan(config: &Config, letter: &StoredDeadLetter, to: Option<&str>) -> Result<Vec<SpooledDelivery>, String> {
    if let Some(error) = &letter.properties_error {
        return Err(error.clone());
    }
    let event = decode(config, letter)?;
    let route = letter.route.as_deref().map(RouteName::new);
    let is_known = route.as_ref().is_none_or(|route| config.rules.route(route).is_some());
    let named = |name: &str, missing: String| match config.sinks.iter().find(|sink| sink.name.as_str() == name) {
        None => Err(missing),
        Some(sink) => check_takes_events(config, sink).map(|()| sink),
    };
    let of = |sink: &SinkConfig, route: Option<RouteName>| {
        // A delivery that can't be rendered would only become a new dead letter with another number.
        let transform = route.as_ref().and_then(|route| config.rules.route(route)?.transform.as_ref());
        let view = EventView::of(&event, &letter.message);
        match sink::render(sink, view, transform) {
            Ok(_) => Ok(new_delivery(sink, route, &event, Arc::clone(&letter.message))),
            Err(failed) => {
                Err(format!("sink {} still can't send it ({}: {})", sink.name, failed.reason, failed.detail))
            }
        }
    };
    if let Some(name) = to {
        let route = route.filter(|_| is_known);
        return Ok(vec![of(named(name, format!("there is no sink {name}"))?, route)?]);
    }
    if let Some(name) = &letter.summary.sink {
        if !is_known {
            return Err(
                "its route is no longer in the configuration: add it again, or name a sink with `--to`".to_owned()
            );
        }
        return Ok(vec![of(
            named(name, format!("sink {name} is no longer in the configuration: name another with `--to`"))?,
            route,
        )?]);
    }
    let plan = config.rules.plan(&event, &letter.message);
    if let Some(error) = plan.rule_error(&config.rules) {
        return Err(error);
    }
    if plan.unrouted && *config.rules.unrouted() == Unrouted::DeadLetter {
        return Err("no route matches it".to_owned());
    }
    let sinks = plan.deliveries.iter().filter_map(|(sink, route)| {
        let route = route.and_then(|route| config.rules.routes().get(route)).map(|route| route.name.clone());
        config.sinks.get(sink.0).map(|sink| of(sink, route))
    });
    let deliveries: Vec<_> = sinks.collect::<Result<_, String>>()?;
    if deliveries.is_empty() { Err("its route has no sink".to_owned()) } else { Ok(deliveries) }
}

/// The event of a dead letter: as it was, or as its source decodes it by the current configuration.
fn decode(config: &Config, letter: &StoredDeadLetter) -> Result<Event, String> {
    let decoded = if let (Some(kind), Some(tenant)) = (&letter.kind, &letter.summary.tenant) {
        Event::decode_as(&letter.message, kind, &tenant.as_str().into())
    } else {
        let name = &letter.message.source;
        let source = config.sources.iter().find(|source| source.name == *name);
        let source = source.ok_or_else(|| format!("its source {name} is no longer in the configuration"))?;
        Event::decode(&letter.message, &source.decode_options)
    };
    decoded.map_err(|invalid| format!("its message still can't be decoded ({})", invalid.reason))
}

/// The delivery of an event as if it were received now.
pub(super) fn new_delivery(
    sink: &SinkConfig,
    route: Option<RouteName>,
    event: &Event,
    message: Arc<Message>,
) -> SpooledDelivery {
    let SpoolPlace { key, due, group } = SpoolPlace::of(sink, event);
    SpooledDelivery {
        sink: sink.name.clone(),
        key,
        received: Timestamp::now(),
        due,
        attempts: 0,
        refusals: 0,
        last_error: None,
        route,
        kind: event.kind.to_owned(),
        tenant: Arc::clone(&event.tenant),
        event_id: event.id,
        message,
        group,
        digest: None,
        may_be_known: false,
        replayed: false,
    }
}

/// The ids of the dead letters that match the filter, the oldest first.
fn matching(letters: &DeadLetters, filter: &DeadLetterFilter) -> Result<Vec<i64>, SpoolError> {
    let mut ids = Vec::new();
    letters.list(
        &DeadLetterFilter { oldest_first: true, ..filter.clone() },
        |letter: DeadLetterSummary| -> Result<(), SpoolError> {
            ids.push(letter.id);
            Ok(())
        },
    )?;
    // Lists are in the order of the wall clock, which may jump.
    ids.sort_unstable();
    Ok(ids)
}

async fn ids(spool: &SpoolReader, filter: DeadLetterFilter) -> Result<Vec<i64>, String> {
    blocking(spool, move |spool| matching(&spool.dead_letters()?, &filter)).await
}

async fn show(spool: &SpoolReader, id: i64) -> Result<Option<StoredDeadLetter>, String> {
    blocking(spool, move |spool| spool.dead_letters()?.show(id)).await
}

/// Reads the spool on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    spool: &SpoolReader,
    read: impl FnOnce(&SpoolReader) -> Result<T, SpoolError> + Send + 'static,
) -> Result<T, String> {
    let spool = spool.clone();
    let read = tokio::task::spawn_blocking(move || read(&spool)).await;
    read.map_err(|error| tasks::blocking_error("reading the spool", &error))?.map_err(|error| error.to_string())
}
