//! What becomes of one message by a configuration, found out without a broker and without sending anything.
//!
//! The steps are those of a running relay: the same functions read the message, plan its ways, and render what goes out.

mod difference;
mod expectation;

pub use difference::{Change, Changed, ChangedValue, Difference, SinkDifference};

use std::collections::HashMap;

use serde::Serialize;

use crate::config::{Config, SinkConfig};
use crate::event::{Event, Message, Reason, Scope, SourceName};
use crate::rules::{Plan, Route};
use crate::sink::{self, Outgoing, Shown, Unrenderable};

/// What becomes of one message.
#[derive(Debug)]
pub struct Rehearsal<'c> {
    /// As it is normalized; none, where the message can't be read.
    pub event: Option<Event>,
    /// Why nothing is delivered, if the message is a dead letter.
    pub dead_letter: Option<DeadLetter>,
    /// Where it goes.
    pub plan: Plan,
    /// What each sink gets.
    pub deliveries: Vec<Planned<'c>>,
}

/// What one sink gets.
#[derive(Debug)]
pub struct Planned<'c> {
    /// The sink.
    pub sink: &'c SinkConfig,
    /// The route that chose it; none: `unrouted:` did.
    pub route: Option<&'c Route>,
    /// What is sent.
    pub outgoing: Result<Outgoing, Unrenderable>,
}

/// Why something is not delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeadLetter {
    /// The stable word.
    pub reason: Reason,
    /// The same for people.
    pub detail: String,
}

/// A rehearsal as programs get it. These names are relied on.
#[derive(Debug, Serialize)]
pub struct Explanation<'r> {
    /// Normalized; null, where the message can't be read.
    pub event: Option<&'r Event>,
    /// Null, where it is none.
    pub dead_letter: Option<&'r DeadLetter>,
    /// In the order of the file.
    pub routes: Vec<ExplainedRoute<'r>>,
    /// In the order they are planned.
    pub deliveries: Vec<ExplainedDelivery<'r>>,
}

/// Whether one route matches.
#[derive(Debug, Serialize)]
pub struct ExplainedRoute<'r> {
    /// Its name.
    pub name: &'r str,
    /// It does.
    pub matched: bool,
    /// Why, or why not.
    pub because: String,
}

/// What one sink gets.
#[derive(Debug, Serialize)]
pub struct ExplainedDelivery<'r> {
    /// Its name.
    pub sink: &'r str,
    /// `kafka`, `webhook`, …
    pub kind: &'r str,
    /// The route that chose it; null: `unrouted:` did.
    pub route: Option<&'r str>,
    /// Destination, headers and body.
    #[serde(flatten)]
    pub rendered: Option<Shown>,
    /// In their place, where they can't be rendered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<DeadLetter>,
}

/// A message of a source that there isn't.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no source {0} in the rules")]
pub struct UnknownSource(SourceName);

/// Finds out what becomes of that message. Pure.
pub fn rehearse<'c>(config: &'c Config, message: &Message) -> Result<Rehearsal<'c>, UnknownSource> {
    let source = config.sources.iter().find(|source| source.name == message.source);
    let source = source.ok_or_else(|| UnknownSource(message.source.clone()))?;
    let (plan, deliveries) = (Plan::default(), Vec::new());
    let event = match Event::read(message, &source.reading) {
        Ok(event) => event,
        Err(invalid) => {
            let dead_letter = Some(DeadLetter { reason: invalid.reason, detail: invalid.detail });
            return Ok(Rehearsal { event: None, dead_letter, plan, deliveries });
        }
    };
    let plan = config.rules.plan(&event, message);
    if let Some((reason, detail)) = plan.why_dead(&config.rules) {
        let dead_letter = Some(DeadLetter { reason, detail });
        return Ok(Rehearsal { event: Some(event), dead_letter, plan, deliveries });
    }
    let scope = Scope::of(&event, message);
    let planned = plan.deliveries.iter().filter_map(|(sink, route)| {
        let sink = config.sinks.get(sink.0)?;
        let route = route.and_then(|route| config.rules.routes().get(route));
        let outgoing = sink::render(sink, scope, route.and_then(|route| route.transform.as_ref()));
        Some(Planned { sink, route, outgoing })
    });
    let deliveries = planned.collect();
    Ok(Rehearsal { event: Some(event), dead_letter: None, plan, deliveries })
}

impl Rehearsal<'_> {
    /// All of it, in words and without what may be secret.
    #[must_use]
    pub fn explain<'r>(&'r self, config: &'r Config, message: &'r Message) -> Explanation<'r> {
        let routes = config.rules.routes();
        let matched: HashMap<_, _> =
            self.plan.matched.iter().filter_map(|place| Some((place, routes.get(*place)?))).collect();
        let last = matched.iter().find(|(_, route)| route.is_final).map(|(place, route)| (**place, *route));
        let explained = |event: &'r Event| {
            let scope = Scope::of(event, message);
            routes.iter().enumerate().map(move |(place, route)| match last {
                Some((last, by)) if place > last => {
                    let because = format!("the route {} before it is final", by.name);
                    ExplainedRoute { name: route.name.as_str(), matched: false, because }
                }
                _ => {
                    let because = route.when.because(scope);
                    let (matched, because) = because.map_or_else(|not| (false, not), |because| (true, because));
                    ExplainedRoute { name: route.name.as_str(), matched, because }
                }
            })
        };
        Explanation {
            event: self.event.as_ref(),
            dead_letter: self.dead_letter.as_ref(),
            routes: self.event.iter().flat_map(explained).collect(),
            deliveries: self.deliveries.iter().map(Planned::explain).collect(),
        }
    }
}

impl Planned<'_> {
    /// All of it but what may be secret.
    #[must_use]
    pub fn explain(&self) -> ExplainedDelivery<'_> {
        let (rendered, dead_letter) = match &self.outgoing {
            Ok(outgoing) => (Some(outgoing.shown(self.sink)), None),
            Err(Unrenderable { reason, detail }) => {
                (None, Some(DeadLetter { reason: *reason, detail: detail.clone() }))
            }
        };
        ExplainedDelivery {
            sink: self.sink.name.as_str(),
            kind: self.sink.kind.as_str(),
            route: self.route.map(|route| route.name.as_str()),
            rendered,
            dead_letter,
        }
    }
}
