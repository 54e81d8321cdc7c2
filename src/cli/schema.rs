//! `schema`: the schemas of the configuration and of the normalized event, and a description of the channels of a configuration.

mod asyncapi;

pub(super) use asyncapi::vhost;

use std::io::Write;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::{Global, load_offline};
use crate::event::{ALERT, AlertStatus, FAMILIES, Outcome, Schema, SchemaKind};
use crate::telemetry::printable_json;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Which of the schemas
    #[arg(value_enum, default_value = "config")]
    schema: SchemaName,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum SchemaName {
    /// The configuration; editors use it for completion
    Config,
    /// The normalized event, for its consumers
    Event,
    /// The normalized event as `format: { avro: {} }` encodes it: an Avro schema
    Avro,
    /// The normalized event as `format: { json_schema: {} }` has it: a JSON Schema without the words of this version
    #[value(name = "json_schema")]
    JsonSchema,
    /// The normalized event as `format: { protobuf: {} }` encodes it: a .proto file
    Protobuf,
    #[value(
        name = "asyncapi",
        help = "The queues, topics, exchanges and URLs of the configuration and the messages there: an AsyncAPI 3.0 document"
    )]
    AsyncApi,
}

pub fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    // Serialized first: an error of serde_json would hide a broken pipe.
    let text = match arguments.schema {
        SchemaName::Config => serde_json::to_string_pretty(&crate::config::schema().to_value())? + "\n",
        SchemaName::Event => serde_json::to_string_pretty(&event())? + "\n",
        SchemaName::Avro => text_of(SchemaKind::Avro),
        SchemaName::JsonSchema => text_of(SchemaKind::JsonSchema),
        SchemaName::Protobuf => text_of(SchemaKind::Protobuf),
        SchemaName::AsyncApi => match load_offline(&global.config, global) {
            Ok(config) => {
                printable_json(&serde_json::to_string_pretty(&asyncapi::document(&config))?).into_owned() + "\n"
            }
            Err(code) => return Ok(code),
        },
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn text_of(kind: SchemaKind) -> String {
    Schema::of_event(kind).text().text.clone()
}

/// Unknown fields are allowed, because later versions may add some.
fn event() -> Value {
    let types: Vec<_> = FAMILIES.iter().map(|family| family.kind).chain([ALERT]).collect();
    let mut statuses: Vec<_> = FAMILIES.iter().flat_map(|family| family.statuses).map(|(status, _)| *status).collect();
    statuses.sort_unstable();
    statuses.dedup();
    statuses.extend([AlertStatus::Raised, AlertStatus::Resolved].map(AlertStatus::as_str));
    let outcomes: Vec<_> = Outcome::NAMES.iter().copied().chain([Outcome::Alert.as_str()]).collect();
    let text = |description: &str| json!({ "type": "string", "description": description });
    let optional = |description: &str| json!({ "type": ["string", "null"], "description": description });
    let date =
        |description: &str| json!({ "type": ["string", "null"], "format": "date-time", "description": description });
    let properties = json!({
        "id": { "type": "string", "format": "uuid", "description": "Identifies the response; the same for every copy and delivery attempt" },
        "type": { "type": "string", "description": "Family of the response, or an alert of the relay", "examples": types },
        "source": text("Name of the source in routes.yaml that received the response; `alerts` in an alert"),
        "tenant": optional("Tenant of the request; null in an alert that is about no request"),
        "status": { "type": "string", "description": "Status, in the words of its family", "examples": statuses },
        "outcome": { "enum": outcomes, "description": "State of the request, in the same words for all families" },
        "correlationId": optional("Identifier that the requester chose; null in an alert that is about no request"),
        "productId": optional("Identifier of the product"),
        "session": optional("Session of the requester"),
        "expires": date("Time until which the product is available, in UTC"),
        "message": optional("Message of REGARDS, such as the reason of a failure"),
        "time": date("Time at which REGARDS sent the response, in UTC, whole seconds"),
        "extra": { "type": "object", "description": "All other fields of the response" },
        "warnings": {
            "type": "array",
            "items": { "type": "string" },
            "description": "Deviations that were tolerated when the response was decoded",
        },
    });
    let required: Vec<_> =
        properties.as_object().into_iter().flat_map(|properties| properties.keys().cloned()).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A normalized REGARDS response",
        "type": "object",
        "properties": properties,
        "required": required,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{
        DecodeOptions, Event, ExpectedFamily, Family, HeaderValue, Message, Properties, SourceName, Validation,
    };

    #[test]
    fn the_schema_of_events_has_exactly_the_fields_of_an_event() {
        let headers = vec![("regards.tenant".to_owned(), HeaderValue::Text("esa".to_owned()))];
        let message = Message {
            source: SourceName::new("regards"),
            body: r#"{"correlationId":"c","responseStatus":"SUCCESS"}"#.into(),
            properties: Properties { headers, ..Properties::default() },
            redelivered: false,
        };
        let family = Family::named("lta").unwrap();
        let options = DecodeOptions {
            expects: ExpectedFamily::One(family),
            validation: Validation::Lenient,
            tenant: None,
            max_body: 1024,
        };
        let read = serde_json::to_value(Event::decode(&message, &options).unwrap()).unwrap();
        let fields: Vec<_> = read.as_object().unwrap().keys().cloned().collect();
        let schema = event();
        let described: Vec<_> = schema["properties"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(fields, described);
        assert_eq!(schema["required"], json!(fields));
        let published: Value = serde_json::from_str(&text_of(SchemaKind::JsonSchema)).unwrap();
        assert_eq!(fields, published["properties"].as_object().unwrap().keys().cloned().collect::<Vec<_>>());
    }
}
