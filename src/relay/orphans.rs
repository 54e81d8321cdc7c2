//! Deliveries whose sink is gone from the rules: another sink gets them, or nobody.

use std::sync::Arc;

use crate::clock::{MonotonicTime, Timestamp};
use crate::config::{Config, SinkConfig, unknown_name};
use crate::delivery::{event_of, key};
use crate::event::DEAD_LETTER;
use crate::rules::SinkName;
use crate::spool::{Origin, Progress, Spool, Unwanted, Waiting, orphans};

use super::redrive::{Redriven, blocking};

/// Puts what waits for `sink` behind what waits for `to`, the oldest first, and each as if it came now. What stops it is a
/// sentence; what was redriven before stays so.
pub(super) async fn redrive_orphans(
    config: &Config,
    spool: &Spool,
    (sink, to): (&str, &str),
    progress: &Progress,
) -> Result<Redriven, String> {
    check_gone(config, sink)?;
    progress.set_total(waiting_for(spool, sink));
    let to = config.sinks.iter().find(|sink| sink.name.as_str() == to).ok_or_else(|| no_sink(config, to))?;
    let (from, mut after, mut done) = (SinkName::new(sink), None, Redriven::default());
    loop {
        let name = sink.to_owned();
        let batch = blocking(spool.path(), move |path| orphans(path, &name, after)).await?;
        let Some((last, _)) = batch.last() else { return Ok(done) };
        after = Some(*last);
        let (mut asked, mut stopped) = (Vec::with_capacity(batch.len()), None);
        for (id, waiting) in batch {
            match waiting.and_then(|waiting| redirected(config, to, waiting)) {
                Ok(waiting) => match spool.redrive(Origin::Orphan(id, from.clone()), vec![waiting]) {
                    Ok(answer) => asked.push(answer),
                    // What is behind it must not overtake it.
                    Err(why) => {
                        stopped = Some(why);
                        break;
                    }
                },
                Err(why) => {
                    done.count_left(why);
                    progress.add(1);
                }
            }
        }
        for answer in asked {
            if answer.await? {
                done.count([to.name.to_string()]);
            } else {
                done.count_left("it is gone, or still delivered".to_owned());
            }
            progress.add(1);
        }
        if let Some(why) = stopped {
            return Err(format!("{why}; {} were redriven before", done.redriven));
        }
    }
}

/// Deletes what waits for `sink`; says how much that was.
pub(super) async fn purge_orphans(
    config: &Config,
    spool: &Spool,
    sink: &str,
    progress: &Arc<Progress>,
) -> Result<u64, String> {
    check_gone(config, sink)?;
    progress.set_total(waiting_for(spool, sink));
    spool.purge(Unwanted::Orphans(SinkName::new(sink)), progress).await
}

fn waiting_for(spool: &Spool, sink: &str) -> u64 {
    spool.shares().iter().find(|(name, _)| name.as_str() == sink).map_or(0, |(_, share)| share.count())
}

pub(super) fn no_sink(config: &Config, name: &str) -> String {
    let known: Vec<_> = config.sinks.iter().map(|sink| sink.name.as_str()).collect();
    unknown_name("sink", name, &known)
}

fn check_gone(config: &Config, sink: &str) -> Result<(), String> {
    let is_there = config.sinks.iter().any(|there| there.name.as_str() == sink);
    if is_there { Err(format!("sink {sink} is in the rules: what waits for it is no orphan")) } else { Ok(()) }
}

/// The same for that sink.
fn redirected(config: &Config, to: &SinkConfig, waiting: Waiting) -> Result<Waiting, String> {
    let takes_copies = config.dead_letters.to.as_ref() == Some(&to.name);
    match (waiting.kind == DEAD_LETTER, takes_copies) {
        (true, false) => return Err(format!("it is a copy of a dead letter, and sink {} takes none", to.name)),
        (false, true) => return Err(format!("sink {} takes copies of dead letters only", to.name)),
        _ => {}
    }
    let event = event_of(&waiting).map_err(|invalid| format!("it is no event any more ({})", invalid.reason))?;
    Ok(Waiting {
        sink: to.name.clone(),
        key: key(&to.name, to.order_by, &event),
        received: Timestamp::now(),
        due: MonotonicTime::now(),
        attempts: 0,
        refusals: 0,
        cause: None,
        // One that is gone can't say what it changed.
        route: waiting.route.filter(|route| config.rules.route(route).is_some()),
        ..waiting
    })
}
