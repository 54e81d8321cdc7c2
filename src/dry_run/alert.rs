//! Alerts in a dry run: which of them watch a request from its event on, and what the sinks of an alert would get.

use serde::Serialize;

use super::{DryRun, DryRunDelivery, group};
use crate::config::{Config, unknown_name};
use crate::event::{ALERT, AlertSample, Event, EventView, Message};
use crate::rules::{Alert, Overdue, Plan, Trigger, in_words};
use crate::sink;

/// Whether an alert watches the request of the event from then on, or whether the event is this alert's; and why.
#[derive(Debug, Serialize)]
pub struct ExplainedAlert<'r> {
    pub name: &'r str,
    pub matched: bool,
    pub because: String,
}

/// The alert is not in the configuration; the text names those that are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnknownAlert(String);

impl<'c> DryRun<'c> {
    /// Renders an alert for its sinks as a running relay would. It also returns the message that stands for the alert.
    pub fn of_alert(config: &'c Config, sample: &AlertSample) -> Result<(Self, Message), UnknownAlert> {
        let alert = config.alerts.iter().find(|alert| alert.name.as_str() == sample.name).ok_or_else(|| {
            let known: Vec<_> = config.alerts.iter().map(|alert| alert.name.as_str()).collect();
            UnknownAlert(unknown_name("alert", &sample.name, &known))
        })?;
        let (event, message) = sample.notice().to_event();
        let receivers = alert.to.iter().filter_map(|sink| config.sinks.get(sink.0));
        let receivers = receivers.filter(|sink| Some(sink.name.as_str()) != sample.sink.as_deref());
        let deliveries = receivers.map(|sink| {
            let view = EventView::of(&event, &message);
            let (outgoing, value) = (sink::render(sink, view, None), sink::value(sink, &[(view, None)]));
            DryRunDelivery {
                sink,
                route: None,
                alert: Some(alert),
                outgoing,
                value,
                registered: None,
                group: group(sink, &event),
            }
        });
        let deliveries = deliveries.collect();
        let dry_run = Self { event: Some(event), dead_letter: None, plan: Plan::default(), deliveries };
        Ok((dry_run, message))
    }

    pub(super) fn explain_alerts<'r>(&'r self, config: &'r Config, message: &'r Message) -> Vec<ExplainedAlert<'r>> {
        let Some(event) = &self.event else { return Vec::new() };
        let explained = |alert: &'r Alert| {
            let because = because(alert, event, message);
            let (matched, because) = because.map_or_else(|not| (false, not), |because| (true, because));
            ExplainedAlert { name: alert.name.as_str(), matched, because }
        };
        config.alerts.iter().map(explained).collect()
    }
}

/// Why it matches, or as an error why it doesn't.
fn because(alert: &Alert, event: &Event, message: &Message) -> Result<String, String> {
    if event.kind == ALERT {
        let name = event.extra.get("alert").and_then(|name| serde_json::from_str::<String>(name.get()).ok());
        let is_own = name.as_deref() == Some(alert.name.as_str());
        return if is_own { Ok("it is this alert".to_owned()) } else { Err("it is another alert".to_owned()) };
    }
    match &alert.trigger {
        Trigger::Overdue(overdue) => opens(overdue, EventView::of(event, message)),
        Trigger::SinkFailing { .. } => Err("it is about sinks, not about events".to_owned()),
        Trigger::SourceDown { .. } => Err("it is about sources, not about events".to_owned()),
        Trigger::SpoolFilling { .. } => Err("it is about the spool, not about events".to_owned()),
        Trigger::DeadLetters { .. } => Err("it is about stored dead letters, not about events".to_owned()),
        Trigger::ReloadFailed => Err("it is about the configuration, not about events".to_owned()),
    }
}

fn opens(overdue: &Overdue, view: EventView<'_>) -> Result<String, String> {
    let event = view.event;
    if event.outcome.ends_request() {
        return Err(format!("outcome is {}: this event ends its request", event.outcome.as_str()));
    }
    let because = overdue.when.explain(view)?;
    let expires = event.expires.as_deref().filter(|_| overdue.at_expiry);
    match (overdue.within.map(in_words), expires) {
        (None, None) => Err("expires is null: the request has no time limit".to_owned()),
        (Some(within), None) => Ok(format!("{because}: the request has to end within {within}")),
        (None, Some(date)) => Ok(format!("{because}: the request has to end by {date}")),
        (Some(within), Some(date)) => Ok(format!("{because}: the request has to end within {within} and by {date}")),
    }
}
