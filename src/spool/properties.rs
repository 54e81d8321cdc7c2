//! AMQP properties as the JSON that they are stored and shown in.

use crate::event::Properties;

/// The text that is stored.
pub(super) fn to_json(properties: &Properties) -> String {
    let mut json = serde_json::Map::new();
    let mut put = |name: &str, value: Option<&String>| {
        if let Some(value) = value {
            json.insert(name.to_owned(), value.as_str().into());
        }
    };
    put("app_id", properties.app_id.as_ref());
    put("correlation_id", properties.correlation_id.as_ref());
    put("content_type", properties.content_type.as_ref());
    serde_json::Value::Object(json).to_string()
}

/// What was stored, or why it can't be read.
pub(super) fn from_json(json: &str) -> Result<Properties, String> {
    let json: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(json).map_err(|cause| cause.to_string())?;
    let get = |name: &str| json.get(name).and_then(|value| value.as_str()).map(str::to_owned);
    Ok(Properties {
        app_id: get("app_id"),
        correlation_id: get("correlation_id"),
        content_type: get("content_type"),
        ..Properties::default()
    })
}
