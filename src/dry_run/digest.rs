//! The digest of several messages in a dry run.

use super::{DryRun, DryRunDelivery, UnknownSource};
use crate::config::{Config, SinkConfig};
use crate::event::{EventView, Message};
use crate::sink;

/// A sink would get the events in more than one digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SeveralDigests {
    #[error("{sink} gets these events in several digests: event {place} differs in {fields} from the first one")]
    OtherGroup {
        sink: String,
        /// Of the first event of another group, counted from 1.
        place: usize,
        fields: String,
    },
    #[error("{sink} gets these {count} events in several digests: its `group` has `max: {max}`")]
    TooMany { sink: String, count: usize, max: usize },
}

impl<'c> DryRun<'c> {
    /// What each sink with `group` gets if these messages, of which there is at least one, are received within its `wait`. A message that
    /// becomes a dead letter is the result instead. It also returns the message whose routes are explained.
    pub fn of_digest(
        config: &'c Config,
        mut messages: Vec<Message>,
    ) -> Result<Result<(Self, Message), SeveralDigests>, UnknownSource> {
        let mut runs = messages.iter().map(|message| Self::of(config, message)).collect::<Result<Vec<_>, _>>()?;
        let dead = runs.iter().position(|run| run.dead_letter.is_some());
        if let Some(place) = dead {
            return Ok(Ok((runs.swap_remove(place), messages.swap_remove(place))));
        }
        let grouped = config.sinks.iter().filter(|sink| sink.group.is_some());
        let digests: Result<Vec<_>, _> =
            grouped.filter_map(|sink| digest_of(sink, &runs, &messages).transpose()).collect();
        let deliveries = match digests {
            Ok(deliveries) => deliveries,
            Err(several) => return Ok(Err(several)),
        };
        let first = runs.swap_remove(0);
        Ok(Ok((Self { deliveries, ..first }, messages.swap_remove(0))))
    }
}

/// What that sink gets; none if no route leads an event to it.
fn digest_of<'c>(
    sink: &'c SinkConfig,
    runs: &[DryRun<'c>],
    messages: &[Message],
) -> Result<Option<DryRunDelivery<'c>>, SeveralDigests> {
    let events = runs.iter().zip(messages).filter_map(|(run, message)| {
        let delivery = run.deliveries.iter().find(|delivery| delivery.sink.name == sink.name)?;
        Some((delivery, EventView::of(run.event.as_ref()?, message)))
    });
    let (deliveries, views): (Vec<_>, Vec<_>) = events.unzip();
    let Some(first) = deliveries.first() else { return Ok(None) };
    let Some(group) = &first.group else { return Ok(None) };
    for (place, other) in deliveries.iter().enumerate() {
        let values = other.group.iter().flat_map(|other| &other.by);
        let fields: Vec<_> = values.filter(|(field, value)| group.by.get(*field) != Some(value)).collect();
        if !fields.is_empty() {
            let fields: Vec<_> = fields.into_iter().map(|(field, _)| *field).collect();
            let (sink, fields) = (sink.name.to_string(), fields.join(", "));
            return Err(SeveralDigests::OtherGroup { sink, place: place + 1, fields });
        }
    }
    if deliveries.len() > group.max {
        let (sink, count) = (sink.name.to_string(), deliveries.len());
        return Err(SeveralDigests::TooMany { sink, count, max: group.max });
    }
    let transforms = deliveries.iter().map(|delivery| delivery.route.and_then(|route| route.transform.as_ref()));
    let events: Vec<_> = views.into_iter().zip(transforms).collect();
    let (outgoing, value) = (sink::render_digest(sink, &events), sink::value(sink, &events));
    Ok(Some(DryRunDelivery {
        sink,
        route: first.route,
        alert: None,
        outgoing,
        value,
        registered: None,
        group: Some(group.clone()),
    }))
}
