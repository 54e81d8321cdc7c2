//! Dead letters that get another chance: each becomes the deliveries that it could not be before, in the spool.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::orphans::no_sink;
use crate::clock::{MonotonicTime, Timestamp};
use crate::config::{Config, SinkConfig};
use crate::delivery::key;
use crate::event::{Event, EventView};
use crate::rules::{RouteName, Unrouted};
use crate::sink;
use crate::spool::{DeadLetters, Filter, Listed, Origin, Progress, Shown, Spool, SpoolError, Waiting};

/// Slower than one in a day is no rate.
const SLOWEST: f64 = 1.0 / 86_400.0;
/// So many reasons why dead letters stay are told apart; further ones are counted together.
const MAX_REASONS: usize = 20;
/// What the further ones are counted as.
const OTHER_REASONS: &str = "other reasons";

/// Which dead letters, where to, and how fast.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Redrive {
    /// Which.
    pub filter: Filter,
    /// To this sink, whatever sink they were for; none: to theirs, or where the rules say.
    pub to: Option<String>,
    /// At most so many a second.
    pub rate: Option<f64>,
}

/// What became of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redriven {
    /// How many are no dead letters any more.
    pub redriven: u64,
    /// How many deliveries each sink gets of them.
    pub sinks: BTreeMap<String, u64>,
    /// Why others stay, and how many.
    pub left: BTreeMap<String, u64>,
}

/// Puts dead letters back on their way, the oldest first, and each as if it came now. What stops it is a sentence.
pub(super) async fn redrive(
    config: &Config,
    spool: &Spool,
    asked: Redrive,
    progress: &Progress,
) -> Result<Redriven, String> {
    // The relay's rules may be older than those that the command has read.
    if let Some(to) = asked.to.as_deref().filter(|to| config.sinks.iter().all(|sink| sink.name.as_str() != *to)) {
        return Err(no_sink(config, to));
    }
    let (mut done, mut turn) = (Redriven::default(), Instant::now());
    let ids = ids(spool.path(), asked.filter).await?;
    progress.set_total(u64::try_from(ids.len()).unwrap_or(u64::MAX));
    for id in ids {
        if let Some(letter) = show(spool.path(), id).await? {
            match plan(config, &letter, asked.to.as_deref()) {
                Ok(deliveries) => {
                    if let Some(rate) = asked.rate {
                        tokio::time::sleep_until(turn).await;
                        turn = Instant::now() + Duration::from_secs_f64(1.0 / rate.max(SLOWEST));
                    }
                    let sinks: Vec<_> = deliveries.iter().map(|delivery| delivery.sink.to_string()).collect();
                    if spool.redrive(Origin::Letter(id), deliveries)?.await? {
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

/// What would become of them, without doing it. `path` is the spool's; `looked_at` is told how many were looked at so far.
pub fn rehearse(
    config: &Config,
    path: &Path,
    asked: &Redrive,
    mut looked_at: impl FnMut(u64),
) -> Result<Redriven, SpoolError> {
    let letters = DeadLetters::open_read_only(path)?;
    let mut done = Redriven::default();
    for (id, number) in matching(&letters, &asked.filter)?.into_iter().zip(0..) {
        looked_at(number);
        let Some(letter) = letters.show(id)? else { continue };
        match plan(config, &letter, asked.to.as_deref()) {
            Ok(deliveries) => done.count(deliveries.iter().map(|delivery| delivery.sink.to_string())),
            Err(why) => done.count_left(why),
        }
    }
    Ok(done)
}

impl Redriven {
    pub(super) fn count_left(&mut self, why: String) {
        let is_one_more = self.left.len() < MAX_REASONS || self.left.contains_key(&why);
        *self.left.entry(if is_one_more { why } else { OTHER_REASONS.to_owned() }).or_default() += 1;
    }

    pub(super) fn count(&mut self, sinks: impl IntoIterator<Item = String>) {
        self.redriven += 1;
        for sink in sinks {
            *self.sinks.entry(sink).or_default() += 1;
        }
    }
}

/// The deliveries that a dead letter becomes by the rules of `config`; the error says why it stays.
fn plan(config: &Config, letter: &Shown, to: Option<&str>) -> Result<Vec<Waiting>, String> {
    if let Some(damage) = &letter.damage {
        return Err(damage.clone());
    }
    let event = read(config, letter)?;
    let route = letter.route.as_deref().map(RouteName::new);
    let is_known = route.as_ref().is_none_or(|route| config.rules.route(route).is_some());
    let named = |name: &str, missing: String| match config.sinks.iter().find(|sink| sink.name.as_str() == name) {
        None => Err(missing),
        Some(sink) if config.dead_letters.to.as_ref() == Some(&sink.name) => {
            Err(format!("sink {name} takes copies of dead letters only"))
        }
        Some(sink) => Ok(sink),
    };
    let of = |sink: &SinkConfig, route: Option<RouteName>| {
        // One that can't be rendered would only become a dead letter anew, under another number.
        let transform = route.as_ref().and_then(|route| config.rules.route(route)?.transform.as_ref());
        match sink::render(sink, EventView::of(&event, &letter.message), transform) {
            Ok(_) => Ok(waiting(sink, route, &event, letter)),
            Err(failed) => {
                Err(format!("sink {} still can't send it ({}: {})", sink.name, failed.reason, failed.detail))
            }
        }
    };
    if let Some(name) = to {
        let route = route.filter(|_| is_known);
        return Ok(vec![of(named(name, format!("there is no sink {name}"))?, route)?]);
    }
    if let Some(name) = &letter.listed.sink {
        if !is_known {
            return Err("its route is gone: put it back, or name a sink with `--to`".to_owned());
        }
        return Ok(vec![of(named(name, format!("sink {name} is gone: name another with `--to`"))?, route)?]);
    }
    let plan = config.rules.plan(&event, &letter.message);
    if let Some(error) = plan.rule_error(&config.rules) {
        return Err(error);
    }
    if plan.unrouted && *config.rules.unrouted() == Unrouted::DeadLetter {
        return Err("no route takes it".to_owned());
    }
    let sinks = plan.deliveries.iter().filter_map(|(sink, route)| {
        let route = route.and_then(|route| config.rules.routes().get(route)).map(|route| route.name.clone());
        config.sinks.get(sink.0).map(|sink| of(sink, route))
    });
    let deliveries: Vec<_> = sinks.collect::<Result<_, String>>()?;
    if deliveries.is_empty() { Err("its route has no sink".to_owned()) } else { Ok(deliveries) }
}

/// The event of a letter: as it was, or as its source would read it now.
fn read(config: &Config, letter: &Shown) -> Result<Event, String> {
    let read = if let (Some(kind), Some(tenant)) = (&letter.kind, &letter.listed.tenant) {
        Event::decode_as(&letter.message, kind, &tenant.as_str().into())
    } else {
        let name = &letter.message.source;
        let source = config.sources.iter().find(|source| source.name == *name);
        let source = source.ok_or_else(|| format!("source {name}, which says what it should be, is gone"))?;
        Event::decode(&letter.message, &source.decode_options)
    };
    read.map_err(|invalid| format!("it is still no event ({})", invalid.reason))
}

fn waiting(sink: &SinkConfig, route: Option<RouteName>, event: &Event, letter: &Shown) -> Waiting {
    Waiting {
        sink: sink.name.clone(),
        key: key(&sink.name, sink.order_by, event),
        received: Timestamp::now(),
        due: MonotonicTime::now(),
        attempts: 0,
        refusals: 0,
        cause: None,
        route,
        kind: event.kind.to_owned(),
        tenant: Arc::clone(&event.tenant),
        event_id: event.id,
        message: Arc::clone(&letter.message),
        may_be_known: false,
    }
}

/// The ids of the letters that the filter leaves, the oldest first.
fn matching(letters: &DeadLetters, filter: &Filter) -> Result<Vec<i64>, SpoolError> {
    let mut ids = Vec::new();
    letters.list(&Filter { oldest_first: true, ..filter.clone() }, |letter: Listed| -> Result<(), SpoolError> {
        ids.push(letter.id);
        Ok(())
    })?;
    Ok(ids)
}

async fn ids(path: &Path, filter: Filter) -> Result<Vec<i64>, String> {
    blocking(path, move |path| matching(&DeadLetters::open_read_only(path)?, &filter)).await
}

async fn show(path: &Path, id: i64) -> Result<Option<Shown>, String> {
    blocking(path, move |path| DeadLetters::open_read_only(path)?.show(id)).await
}

/// Reads the file where that holds up nobody.
pub(super) async fn blocking<T: Send + 'static>(
    path: &Path,
    read: impl FnOnce(&Path) -> Result<T, SpoolError> + Send + 'static,
) -> Result<T, String> {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || read(&path)).await;
    read.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}
