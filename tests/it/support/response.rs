//! One response of `rs-lta-manager`, with the properties and headers of Spring AMQP.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Map, Value};

use super::regards::EXCHANGE;

/// The Java class that REGARDS names in `__TypeId__` and `regards.type`.
pub const JAVA_TYPE: &str = "fr.cnes.regards.modules.ltamanager.amqp.output.SubmissionResponseDtoEvent";

/// 2023-04-14T08:46:17Z
pub const TIMESTAMP: u64 = 1_681_461_977;

/// A message to be published. It starts complete; each test changes the fields that it checks.
#[derive(Debug, Clone)]
pub struct Response {
    pub body: Vec<u8>,
    pub correlation_id: Option<String>,
    pub app_id: String,
    pub content_encoding: String,
    pub priority: u8,
    pub timestamp: u64,
    pub headers: Vec<(String, AMQPValue)>,
}

impl Response {
    /// Creates a response with the two mandatory fields and a product.
    pub fn new(tenant: &str, correlation_id: &str, status: &str) -> Self {
        let body = serde_json::json!({
            "correlationId": correlation_id,
            "productId": format!("product of {correlation_id}"),
            "responseStatus": status,
        });
        Self::with_body(tenant, body.to_string())
    }

    /// Creates a message with this text or these bytes as its body. The property `correlation_id` is the one in the
    /// body, if the body is readable.
    pub fn with_body(tenant: &str, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        let parsed: Map<String, Value> = serde_json::from_slice(&body).unwrap_or_default();
        let text = |text: &str| AMQPValue::LongString(text.into());
        Self {
            correlation_id: parsed.get("correlationId").and_then(Value::as_str).map(str::to_owned),
            app_id: "rs-lta-manager".to_owned(),
            content_encoding: "UTF-8".to_owned(),
            priority: 1,
            timestamp: TIMESTAMP,
            headers: vec![
                ("regards.tenant".to_owned(), text(tenant)),
                ("__TypeId__".to_owned(), text(JAVA_TYPE)),
                ("regards.type".to_owned(), text(JAVA_TYPE)),
                ("regards.converter".to_owned(), text("GSON")),
            ],
            body,
        }
    }

    pub fn field(mut self, name: &str, value: impl Into<Value>) -> Self {
        let mut body: Map<String, Value> = serde_json::from_slice(&self.body).expect("a body that is an object");
        body.insert(name.to_owned(), value.into());
        self.body = Value::Object(body).to_string().into_bytes();
        self
    }

    pub fn header(mut self, name: &str, value: AMQPValue) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.to_owned(), value));
        self
    }

    pub fn without_header(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    pub fn encoding(mut self, content_encoding: &str) -> Self {
        content_encoding.clone_into(&mut self.content_encoding);
        self
    }

    /// The message as a sample, which the relay's commands read.
    pub fn sample(&self) -> String {
        let headers: Map<String, Value> =
            self.headers.iter().map(|(name, value)| (name.clone(), json_of(value))).collect();
        let mut properties = serde_json::json!({
            "app_id": self.app_id, "timestamp": self.timestamp, "priority": self.priority, "delivery_mode": 2,
            "content_type": "application/json", "content_encoding": self.content_encoding, "headers": headers,
        });
        if let Some(id) = &self.correlation_id {
            properties["correlation_id"] = id.as_str().into();
        }
        let body = String::from_utf8(self.body.clone()).expect("UTF-8");
        serde_json::json!({ "properties": properties, "body": body }).to_string()
    }

    pub fn properties(&self) -> BasicProperties {
        let mut headers = FieldTable::default();
        for (name, value) in &self.headers {
            headers.insert(name.as_str().into(), value.clone());
        }
        let properties = BasicProperties::default()
            .with_app_id(self.app_id.as_str().into())
            .with_priority(self.priority)
            .with_timestamp(self.timestamp)
            .with_content_type("application/json".into())
            .with_content_encoding(self.content_encoding.as_str().into())
            .with_delivery_mode(2)
            .with_headers(headers);
        match &self.correlation_id {
            Some(id) => properties.with_correlation_id(id.as_str().into()),
            None => properties,
        }
    }
}

/// Converts a header value to the format of samples.
pub fn json_of(value: &AMQPValue) -> Value {
    match value {
        AMQPValue::LongString(text) => text.to_string().into(),
        AMQPValue::ShortString(text) => text.to_string().into(),
        AMQPValue::Boolean(value) => (*value).into(),
        AMQPValue::LongInt(number) => (*number).into(),
        AMQPValue::LongLongInt(number) => (*number).into(),
        AMQPValue::Void => Value::Null,
        AMQPValue::FieldArray(values) => values.as_slice().iter().map(json_of).collect(),
        AMQPValue::FieldTable(table) => {
            table.inner().iter().map(|(name, value)| (name.to_string(), json_of(value))).collect()
        }
        other => panic!("{other:?}"),
    }
}

/// GRANTED and then SUCCESS for each of `count` requests. All GRANTED responses precede the first SUCCESS.
pub fn lives(tenant: &str, stem: &str, count: usize) -> Vec<Response> {
    let half =
        |status: &'static str| (0..count).map(move |number| Response::new(tenant, &format!("{stem}-{number}"), status));
    half("GRANTED").chain(half("SUCCESS")).collect()
}

#[test]
fn a_response_names_the_exchange_it_goes_to() {
    assert!(EXCHANGE.ends_with(JAVA_TYPE));
}
