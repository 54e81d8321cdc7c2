//! Dry runs: what the relay would do with one message, found out without a broker and without sending anything.
//!
//! A dry run calls the functions of a running relay: they decode the message, plan its deliveries and render each of them.

mod alert;
mod difference;
mod digest;
mod expectation;

pub use alert::{ExplainedAlert, UnknownAlert};
pub use difference::{BeforeAfter, ChangedValue, Difference, SinkChange, SinkDifference};
pub use digest::SeveralDigests;

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use serde::Serialize;

use crate::config::{Config, SinkConfig, written_duration};
use crate::event::{ALERT, Event, EventView, Message, Reason, SourceName};
use crate::rules::{Alert, Plan, Route};
use crate::sink::{self, MaskedDelivery, RegisteredBody, RegistryProblem, RenderError, RenderedDelivery};

/// What the relay would do with one message.
#[derive(Debug)]
pub struct DryRun<'c> {
    /// None if the message can't be decoded.
    pub event: Option<Event>,
    /// Set if nothing is delivered because the message becomes a dead letter.
    pub dead_letter: Option<DeadLetterReason>,
    pub plan: Plan,
    pub deliveries: Vec<DryRunDelivery<'c>>,
}

/// What one sink would get.
#[derive(Debug)]
pub struct DryRunDelivery<'c> {
    pub sink: &'c SinkConfig,
    /// The route that leads to this sink; none if `unrouted:` does.
    pub route: Option<&'c Route>,
    /// Set if this is an alert's event.
    pub alert: Option<&'c Alert>,
    pub outgoing: Result<RenderedDelivery, RenderError>,
    /// What a schema encodes, as JSON; none if the sink's format has no schema.
    pub value: Option<Bytes>,
    /// The body with the prefix of the sink's registry, once [`DryRun::ask_registries`] has asked for it.
    pub registered: Option<RegisteredBody>,
    /// Set where the sink has `group`.
    pub group: Option<ExplainedGroup>,
}

/// Why something is not delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeadLetterReason {
    pub reason: Reason,
    /// The reason in a sentence, for people.
    pub detail: String,
}

/// A dry run as the JSON of `explain`. The field names are part of the contract.
#[derive(Debug, Serialize)]
pub struct Explanation<'r> {
    /// Null if the message can't be decoded.
    pub event: Option<&'r Event>,
    pub dead_letter: Option<&'r DeadLetterReason>,
    /// In the order of the file.
    pub routes: Vec<ExplainedRoute<'r>>,
    /// In the order of the file.
    pub alerts: Vec<ExplainedAlert<'r>>,
    /// In the order they are planned.
    pub deliveries: Vec<ExplainedDelivery<'r>>,
}

/// Whether one route matches, and why.
#[derive(Debug, Serialize)]
pub struct ExplainedRoute<'r> {
    pub name: &'r str,
    pub matched: bool,
    pub because: String,
}

/// What one sink would get, without secrets.
#[derive(Debug, Serialize)]
pub struct ExplainedDelivery<'r> {
    pub sink: &'r str,
    pub kind: &'r str, // `kafka`, `webhook`, …
    /// The route that leads to this sink; null if `unrouted:` or an alert does.
    pub route: Option<&'r str>,
    /// The alert that leads to this sink.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alert: Option<&'r str>,
    #[serde(flatten)]
    pub rendered: Option<MaskedDelivery>,
    /// Set where the sink has `group`: `rendered` is the digest of this event alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<&'r ExplainedGroup>,
    /// Set instead of `rendered` if the delivery can't be rendered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<DeadLetterReason>,
}

/// The events that are delivered together with this one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExplainedGroup {
    /// The fields that they have in common, with their values.
    pub by: BTreeMap<&'static str, Option<String>>,
    /// How long the first of them waits, as in the configuration.
    pub wait: String,
    /// How many there are at most.
    pub max: usize,
}

/// The message is from a source that the configuration doesn't have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the configuration has no source {0}")]
pub struct UnknownSource(SourceName);

impl<'c> DryRun<'c> {
    /// Decodes, routes and renders `message` as a running relay would.
    pub fn of(config: &'c Config, message: &Message) -> Result<Self, UnknownSource> {
        let source = config.sources.iter().find(|source| source.name == message.source);
        let source = source.ok_or_else(|| UnknownSource(message.source.clone()))?;
        let (plan, deliveries) = (Plan::default(), Vec::new());
        let event = match Event::decode(message, &source.decode_options) {
            Ok(event) => event,
            Err(error) => {
                let dead_letter = Some(DeadLetterReason { reason: error.reason, detail: error.detail });
                return Ok(Self { event: None, dead_letter, plan, deliveries });
            }
        };
        let plan = config.rules.plan(&event, message);
        if let Some((reason, detail)) = plan.dead_letter_reason(&config.rules) {
            let dead_letter = Some(DeadLetterReason { reason, detail });
            return Ok(Self { event: Some(event), dead_letter, plan, deliveries });
        }
        let view = EventView::of(&event, message);
        let deliveries = plan.deliveries.iter().filter_map(|(sink, route)| {
            let sink = config.sinks.get(sink.0)?;
            let route = route.and_then(|route| config.rules.routes().get(route));
            let transform = route.and_then(|route| route.transform.as_ref());
            let outgoing = sink::render(sink, view, transform);
            let value = sink::value(sink, &[(view, transform)]);
            Some(DryRunDelivery {
                sink,
                route,
                alert: None,
                outgoing,
                value,
                registered: None,
                group: group(sink, &event),
            })
        });
        let deliveries = deliveries.collect();
        Ok(Self { event: Some(event), dead_letter: None, plan, deliveries })
    }
}

impl DryRun<'_> {
    /// Asks the registries of the sinks for the schemas of the deliveries, without registering any. Returns what is wrong with a registry,
    /// with the name of the sink.
    pub async fn ask_registries(&mut self) -> Vec<String> {
        let mut problems = Vec::new();
        for delivery in &mut self.deliveries {
            let Ok(outgoing) = &delivery.outgoing else { continue };
            match sink::registered_body(delivery.sink, outgoing).await {
                None => {}
                Some(Ok(registered)) => delivery.registered = Some(registered),
                Some(Err(RegistryProblem::Misfit(misfit))) => {
                    delivery.outgoing = Err(RenderError::of_body(misfit.into()));
                }
                Some(Err(RegistryProblem::NoSchema(problem))) => {
                    problems.push(format!("sink {}: {problem}", delivery.sink.name));
                }
            }
        }
        problems
    }
}

/// What the event is grouped by at that sink.
fn group(sink: &SinkConfig, event: &Event) -> Option<ExplainedGroup> {
    let group = sink.group.as_ref()?;
    Some(ExplainedGroup {
        by: group.by.iter().map(|field| (field.as_str(), field.of(event).map(str::to_owned))).collect(),
        wait: written_duration(group.wait),
        max: group.max,
    })
}

impl DryRun<'_> {
    /// The result for people and programs, without secrets.
    #[must_use]
    pub fn explain<'r>(&'r self, config: &'r Config, message: &'r Message) -> Explanation<'r> {
        let routes = config.rules.routes();
        let matched: HashMap<_, _> =
            self.plan.matched.iter().filter_map(|place| Some((place, routes.get(*place)?))).collect();
        let last = matched.iter().find(|(_, route)| route.is_final).map(|(place, route)| (**place, *route));
        let explained = |event: &'r Event| {
            let view = EventView::of(event, message);
            routes.iter().enumerate().map(move |(place, route)| match last {
                Some((last, by)) if place > last => {
                    let because = format!("the route {} before it is final", by.name);
                    ExplainedRoute { name: route.name.as_str(), matched: false, because }
                }
                _ => {
                    let because = route.when.explain(view);
                    let (matched, because) = because.map_or_else(|not| (false, not), |because| (true, because));
                    ExplainedRoute { name: route.name.as_str(), matched, because }
                }
            })
        };
        Explanation {
            event: self.event.as_ref(),
            dead_letter: self.dead_letter.as_ref(),
            // An alert goes to its own sinks, and by no route.
            routes: self.event.iter().filter(|event| event.kind != ALERT).flat_map(explained).collect(),
            alerts: self.explain_alerts(config, message),
            deliveries: self.deliveries.iter().map(DryRunDelivery::explain).collect(),
        }
    }
}

impl ExplainedDelivery<'_> {
    /// What leads to the sink, in words.
    #[must_use]
    pub fn by(&self) -> String {
        match (self.route, self.alert) {
            (Some(route), _) => format!("the route {route}"),
            (None, Some(alert)) => format!("the alert {alert}"),
            (None, None) => "`unrouted:`".to_owned(),
        }
    }
}

impl DryRunDelivery<'_> {
    #[must_use]
    pub fn explain(&self) -> ExplainedDelivery<'_> {
        let (rendered, dead_letter) = match &self.outgoing {
            Ok(outgoing) => {
                let value = self.value.as_deref();
                (Some(outgoing.masked_with(self.sink, value, self.registered.as_ref())), None)
            }
            Err(RenderError { reason, detail, .. }) => {
                (None, Some(DeadLetterReason { reason: *reason, detail: detail.clone() }))
            }
        };
        ExplainedDelivery {
            sink: self.sink.name.as_str(),
            kind: self.sink.kind.as_str(),
            route: self.route.map(|route| route.name.as_str()),
            alert: self.alert.map(|alert| alert.name.as_str()),
            rendered,
            group: self.group.as_ref(),
            dead_letter,
        }
    }
}
