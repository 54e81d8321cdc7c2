//! `schema`: the JSON Schemas of routes.yaml and of the normalized event.

use std::io::Write;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::event::{FAMILIES, Outcome};

/// The command's own arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Of what
    #[arg(value_enum, default_value = "config")]
    of: Of,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Of {
    /// Of routes.yaml, for editors
    Config,
    /// Of the normalized event, for those who read it
    Event,
}

/// Prints it to standard output.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let schema = match arguments.of {
        Of::Config => crate::config::schema().to_value(),
        Of::Event => event(),
    };
    let mut out = std::io::stdout().lock();
    // Written at once, so that a closed pipe is known for what it is.
    let text = serde_json::to_string_pretty(&schema)?;
    writeln!(out, "{text}")?;
    Ok(ExitCode::SUCCESS)
}

/// What every normalized event is. Fields are only ever added, so unknown ones are allowed.
fn event() -> Value {
    let types: Vec<_> = FAMILIES.iter().map(|family| family.kind).collect();
    let mut statuses: Vec<_> = FAMILIES.iter().flat_map(|family| family.statuses).map(|(status, _)| *status).collect();
    statuses.sort_unstable();
    statuses.dedup();
    let outcomes = Outcome::NAMES;
    let text = |description: &str| json!({ "type": "string", "description": description });
    let optional = |description: &str| json!({ "type": ["string", "null"], "description": description });
    let date =
        |description: &str| json!({ "type": ["string", "null"], "format": "date-time", "description": description });
    let properties = json!({
        "id": { "type": "string", "format": "uuid", "description": "The same for every copy and attempt of one response" },
        "type": { "type": "string", "description": "The kind of response", "examples": types },
        "source": text("The source it came from, by its name in routes.yaml"),
        "tenant": text("The tenant"),
        "status": { "type": "string", "description": "The family's own word", "examples": statuses },
        "outcome": { "enum": outcomes, "description": "One word over all families for how the request fares" },
        "correlationId": text("The requester's own identifier"),
        "productId": optional("The product's identifier"),
        "session": optional("The requester's session"),
        "expires": date("Until when the product is kept, in UTC"),
        "message": optional("What REGARDS says about it"),
        "time": date("When REGARDS sent it, in UTC, whole seconds"),
        "extra": { "type": "object", "description": "Fields of the response that have no place of their own" },
        "warnings": {
            "type": "array",
            "items": { "type": "string" },
            "description": "What was tolerated when the response was read",
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
    }
}
