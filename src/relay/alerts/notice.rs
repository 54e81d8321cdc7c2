//! An alert's event, on its way to the sinks.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::Alerts;
use crate::clock::{Timestamp, WallTime};
use crate::delivery::{SinkQueue, SpoolPlace};
use crate::event::{AlertNotice, AlertRequest, AlertStatus, Event, Message};
use crate::rules::{AlertName, SinkName};
use crate::spool::SpooledDelivery;

/// What an alert is about, and since when: the same for both events of a pair.
#[derive(Debug, Clone)]
pub(super) struct Occurrence {
    pub(super) alert: AlertName,
    pub(super) subject: String,
    pub(super) since: WallTime,
    pub(super) request: Option<AlertRequest>,
    pub(super) details: Map<String, Value>,
}

/// An alert's event with its deliveries, before they are stored.
pub(super) struct PreparedAlert {
    event: Event,
    message: Arc<Message>,
    receivers: Vec<SinkQueue>,
    alert: AlertName,
    status: AlertStatus,
}

impl Occurrence {
    pub(super) fn prepare(self, status: AlertStatus, sentence: String, receivers: Vec<SinkQueue>) -> PreparedAlert {
        let Self { alert, subject, since, request, details } = self;
        let notice = AlertNotice {
            alert: alert.to_string(),
            subject,
            status,
            since: since.to_rfc3339(),
            at: u64::try_from(WallTime::now().0 / 1_000).unwrap_or(0),
            message: sentence,
            request,
            details,
        };
        let (event, message) = notice.to_event();
        PreparedAlert { event, message: Arc::new(message), receivers, alert, status }
    }
}

impl PreparedAlert {
    pub(super) fn receivers(&self) -> impl Iterator<Item = &SinkName> {
        self.receivers.iter().map(|queue| &queue.sink)
    }

    pub(super) fn deliveries(&self) -> Vec<SpooledDelivery> {
        let delivery = |queue: &SinkQueue| {
            let SpoolPlace { key, due, group } = queue.place(&self.event);
            SpooledDelivery {
                sink: queue.sink.clone(),
                key,
                received: Timestamp::now(),
                due,
                attempts: 0,
                refusals: 0,
                last_error: None,
                route: None,
                kind: self.event.kind.to_owned(),
                tenant: Arc::clone(&self.event.tenant),
                event_id: self.event.id,
                message: Arc::clone(&self.message),
                group,
                digest: None,
                may_be_known: false,
                replayed: false,
            }
        };
        self.receivers.iter().map(delivery).collect()
    }

    /// The deliveries are on disk.
    pub(super) fn on_stored(&self, alerts: &Alerts) {
        let sinks = self.receivers().map(SinkName::as_str);
        alerts.journal.record_event(&self.event, &self.message, std::iter::empty(), sinks);
        alerts.stats.alert_counts().count(&self.alert, self.status);
    }
}
