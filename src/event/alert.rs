//! Alerts: events by which the relay reports something itself, in a pair of RAISED and RESOLVED.
//!
//! The message of such an event is its normalized form, from which a stored delivery decodes the same event again. It goes to the sinks of
//! its alert, and by no route.
//!
//! The id is a version 5 UUID in [`NAMESPACE`], over four parts, each preceded by its length in bytes as 32 bits, big-endian, as in the id
//! of a response: the name of the alert, its subject, since when (both as in `extra`), and RAISED or RESOLVED. The recipe is a promise to
//! consumers, and never changes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{
    DecodeError, Event, HeaderValue, Message, NAMESPACE, Outcome, Properties, Reason, SourceName, TENANT_HEADER, date,
    version_5,
};

/// The type of an alert's events, in place of a family's.
pub const ALERT: &str = "fr.cnes.regards.relay.alert";
/// The `source` of an alert's events: the relay itself.
const SOURCE: &str = "alerts";

/// The members of `extra` that every alert has.
const NAME: &str = "alert";
const SUBJECT: &str = "subject";
const SINCE: &str = "since";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, strum::IntoStaticStr, strum::EnumString)]
#[strum(serialize_all = "UPPERCASE", const_into_str)]
pub enum AlertStatus {
    /// What the alert watches for has happened.
    Raised,
    Resolved,
}

impl AlertStatus {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// What an alert's event says.
#[derive(Debug, Clone)]
pub struct AlertNotice {
    /// The name of the alert.
    pub alert: String,
    /// What it is about: `sink on_call`, `request cnes-a c-1`. With the name and `since` it identifies a pair of events.
    pub subject: String,
    pub status: AlertStatus,
    /// When it began, RFC 3339: the same in both events of a pair.
    pub since: String,
    /// When the event was made, in seconds since 1970.
    pub at: u64,
    pub message: String,
    /// The request that it is about.
    pub request: Option<AlertRequest>,
    /// Further members of `extra`.
    pub details: Map<String, Value>,
}

/// The request that an alert is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertRequest {
    pub tenant: Arc<str>,
    pub correlation_id: String,
    pub product_id: Option<String>,
    pub session: Option<String>,
    pub expires: Option<String>,
}

impl AlertNotice {
    /// The event, and the message that stands for it wherever an event has one.
    #[must_use]
    pub fn to_event(&self) -> (Event, Message) {
        let event = self.event();
        // All keys are text: serializing an event can't fail.
        let body = Bytes::from(serde_json::to_vec(&event).unwrap_or_default());
        let tenant = Some(&event.tenant).filter(|tenant| !tenant.is_empty());
        let headers = tenant.map(|tenant| (TENANT_HEADER.to_owned(), HeaderValue::Text(tenant.to_string())));
        let properties = Properties {
            content_type: Some("application/json".to_owned()),
            content_encoding: Some("UTF-8".to_owned()),
            correlation_id: Some(event.correlation_id.clone()).filter(|id| !id.is_empty()),
            timestamp: Some(self.at),
            headers: headers.into_iter().collect(),
            ..Properties::default()
        };
        let message = Message { source: event.source.clone(), body, properties, redelivered: false };
        (event, message)
    }

    fn event(&self) -> Event {
        let Self { alert, subject, status, since, at, message, request, details } = self;
        let known = [(NAME, alert), (SUBJECT, subject), (SINCE, since)];
        let known = known.map(|(name, text)| (name.to_owned(), Value::from(text.as_str())));
        let details = details.clone().into_iter().chain(known);
        // A value of serde_json can always be written.
        let extra = details.filter_map(|(name, value)| Some((name, to_raw_value(&value).ok()?))).collect();
        let (tenant, correlation_id) = request
            .as_ref()
            .map(|request| (Arc::clone(&request.tenant), request.correlation_id.clone()))
            .unwrap_or_default();
        let of_request =
            |field: fn(&AlertRequest) -> &Option<String>| request.as_ref().and_then(|of| field(of).clone());
        Event {
            id: id(alert, subject, since, *status),
            kind: ALERT,
            source: SourceName::new(SOURCE),
            tenant,
            status: status.as_str(),
            outcome: Outcome::Alert,
            correlation_id,
            product_id: of_request(|request| &request.product_id),
            session: of_request(|request| &request.session),
            expires: of_request(|request| &request.expires),
            message: Some(message.clone()),
            time: date::of_seconds(*at),
            extra,
            warnings: Vec::new(),
        }
    }
}

fn id(alert: &str, subject: &str, since: &str, status: AlertStatus) -> Uuid {
    let parts = [alert, subject, since, status.as_str()].map(str::as_bytes);
    // No part is as long as 4 GiB.
    let lengths = parts.map(|part| u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
    version_5(&NAMESPACE, lengths.iter().zip(parts).flat_map(|(length, part)| [length, part]))
}

/// The normalized event as it is read again.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredAlert {
    id: String,
    status: String,
    tenant: Option<String>,
    correlation_id: Option<String>,
    product_id: Option<String>,
    session: Option<String>,
    expires: Option<String>,
    message: Option<String>,
    time: Option<String>,
    extra: BTreeMap<String, Box<RawValue>>,
}

/// Decodes the message of an alert.
pub(super) fn decode(message: &Message) -> Result<Event, Box<DecodeError>> {
    let invalid = |detail: String| {
        let detail = format!("the message is no alert of this version of the relay: {detail}");
        let (reason, correlation_id) = (Reason::InvalidField, message.properties.correlation_id.clone());
        Box::new(DecodeError { reason, detail, tenant: None, status: None, correlation_id })
    };
    let stored: StoredAlert = serde_json::from_slice(&message.body).map_err(|error| invalid(error.to_string()))?;
    let status: AlertStatus = stored.status.parse().map_err(|_| invalid("its status is unknown".to_owned()))?;
    Ok(Event {
        id: stored.id.parse().map_err(|_| invalid("its id is no UUID".to_owned()))?,
        kind: ALERT,
        source: message.source.clone(),
        tenant: stored.tenant.unwrap_or_default().into(),
        status: status.as_str(),
        outcome: Outcome::Alert,
        correlation_id: stored.correlation_id.unwrap_or_default(),
        product_id: stored.product_id,
        session: stored.session,
        expires: stored.expires,
        message: stored.message,
        time: stored.time,
        extra: stored.extra,
        warnings: Vec::new(),
    })
}

impl Event {
    /// What names the request of the event: its `correlationId`, or of an alert about no request its [key](Self::alert_key).
    #[must_use]
    pub fn request_name(&self) -> Cow<'_, str> {
        self.alert_key().map_or(Cow::Borrowed(&self.correlation_id), Cow::Owned)
    }

    /// The ordering key of an alert that is about no request: the same for both events of a pair. None for all other events.
    #[must_use]
    pub fn alert_key(&self) -> Option<String> {
        if self.kind != ALERT || !self.correlation_id.is_empty() {
            return None;
        }
        let text = |name| serde_json::from_str::<String>(self.extra.get(name)?.get()).ok();
        Some(format!("{}/{}", text(NAME)?, text(SUBJECT)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about_a_request(status: AlertStatus) -> AlertNotice {
        AlertNotice {
            alert: "granted-and-silent".to_owned(),
            subject: "request cnes-a c-1".to_owned(),
            status,
            since: "2026-01-02T03:04:05.678Z".to_owned(),
            at: 1_767_323_046,
            message: "no end of \"c-1\"\nwithin 24h".to_owned(),
            request: Some(AlertRequest {
                tenant: "cnes-a".into(),
                correlation_id: "c-1".to_owned(),
                product_id: Some("P".to_owned()),
                session: None,
                expires: Some("2026-01-03T00:00:00Z".to_owned()),
            }),
            details: Map::from_iter([("within".to_owned(), Value::from("24h"))]),
        }
    }

    fn about_a_sink(status: AlertStatus) -> AlertNotice {
        let subject = "sink on_call".to_owned();
        AlertNotice { alert: "trouble".to_owned(), subject, request: None, ..about_a_request(status) }
    }

    #[test]
    fn a_stored_alert_decodes_to_the_same_event() {
        for notice in [about_a_request(AlertStatus::Raised), about_a_sink(AlertStatus::Resolved)] {
            let (event, message) = notice.to_event();
            let again = Event::decode_as(&message, ALERT, &"".into()).unwrap();
            assert_eq!(format!("{again:?}"), format!("{event:?}"));
            assert_eq!(serde_json::to_vec(&again).unwrap(), message.body, "its message is the normalized event");
        }
    }

    #[test]
    fn only_an_alert_about_no_request_has_neither_tenant_nor_correlation_id() {
        let json = |notice: &AlertNotice| serde_json::to_value(notice.to_event().0).unwrap();
        let request = json(&about_a_request(AlertStatus::Raised));
        assert_eq!([&request["tenant"], &request["correlationId"]], ["cnes-a", "c-1"]);
        let sink = json(&about_a_sink(AlertStatus::Raised));
        assert_eq!([&sink["tenant"], &sink["correlationId"], &sink["expires"]], [&Value::Null; 3]);
        assert_eq!([&sink["type"], &sink["status"], &sink["outcome"]], [ALERT, "RAISED", "alert"]);
        assert_eq!(sink["extra"]["subject"], "sink on_call");
    }

    /// The published test vector of docs/event.md.
    #[test]
    fn the_recipe_never_changes() {
        let [raised, resolved] =
            [AlertStatus::Raised, AlertStatus::Resolved].map(|status| about_a_sink(status).to_event().0);
        assert_eq!(raised.id.to_string(), "cc7742fb-2cea-54b9-aa86-51854cef62f9");
        assert_ne!(raised.id, resolved.id);
    }

    #[test]
    fn both_events_of_a_pair_have_one_key() {
        let keys =
            [AlertStatus::Raised, AlertStatus::Resolved].map(|status| about_a_sink(status).to_event().0.alert_key());
        assert_eq!(keys, [Some("trouble/sink on_call".to_owned()), Some("trouble/sink on_call".to_owned())]);
        assert_eq!(about_a_request(AlertStatus::Raised).to_event().0.alert_key(), None, "it has that of its request");
    }
}
