//! An alert as people write it, to see what its sinks would get.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{AlertNotice, AlertRequest, AlertStatus};

/// The moment of an alert that names none.
const SOME_TIME: &str = "1970-01-01T00:00:00.000Z";

/// What `explain` and `test` take as `alert: { … }`. Only the name is required.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AlertSample {
    pub name: String,
    #[serde(default)]
    status: SampleStatus,
    subject: Option<String>,
    since: Option<String>,
    message: Option<String>,
    tenant: Option<String>,
    correlation_id: Option<String>,
    product_id: Option<String>,
    session: Option<String>,
    expires: Option<String>,
    /// The sink that it is about, which doesn't get it.
    pub sink: Option<String>,
    /// The source that it is about.
    source: Option<String>,
    /// Further members of `extra`.
    #[serde(default)]
    extra: Map<String, Value>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum SampleStatus {
    #[default]
    Raised,
    Resolved,
}

impl AlertSample {
    pub fn parse(json: &Value) -> Result<Self, String> {
        Self::deserialize(json).map_err(|error| error.to_string())
    }

    /// What the event of such an alert says.
    #[must_use]
    pub fn notice(&self) -> AlertNotice {
        let status = match self.status {
            SampleStatus::Raised => AlertStatus::Raised,
            SampleStatus::Resolved => AlertStatus::Resolved,
        };
        let request = self.request();
        let about = request.as_ref().map(|request| format!("request {} {}", request.tenant, request.correlation_id));
        let about = about
            .or_else(|| self.sink.as_ref().map(|sink| format!("sink {sink}")))
            .or_else(|| self.source.as_ref().map(|source| format!("source {source}")));
        let subject = self.subject.clone().or(about).unwrap_or_else(|| self.name.clone());
        let since = self.since.clone().unwrap_or_else(|| SOME_TIME.to_owned());
        let mut details = self.extra.clone();
        for (name, value) in [("sink", &self.sink), ("source", &self.source)] {
            if let Some(value) = value {
                details.insert(name.to_owned(), value.as_str().into());
            }
        }
        let message = self.message.clone().unwrap_or_else(|| format!("{} {subject}", status.as_str()));
        AlertNotice { alert: self.name.clone(), subject, status, since, at: 0, message, request, details }
    }

    fn request(&self) -> Option<AlertRequest> {
        let correlation_id = self.correlation_id.clone()?;
        let tenant = self.tenant.as_deref().unwrap_or_default().into();
        let (product_id, session, expires) = (self.product_id.clone(), self.session.clone(), self.expires.clone());
        Some(AlertRequest { tenant, correlation_id, product_id, session, expires })
    }
}
