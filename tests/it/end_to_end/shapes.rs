//! Responses in every shape that REGARDS sends, each with the expected event.

use std::path::Path;

use lapin::types::AMQPValue;
use serde_json::{Value, json};

use crate::support::Response;
use crate::support::response::JAVA_TYPE;

/// A response and its expected event, without the `id` and with any text for each warning.
pub struct Shape {
    pub response: Response,
    pub event: Value,
}

/// The examples in REGARDS' own documents, byte for byte: the older page sends to `cnes-a`, the newer one to `esa`.
pub fn of_the_documents() -> Vec<Shape> {
    let mut shapes = Vec::new();
    for (page, tenant) in [("v1", "cnes-a"), ("v2", "esa")] {
        let expires = if page == "v2" { json!("2022-12-22T10:25:52.243Z") } else { Value::Null };
        shapes.extend([
            document(page, tenant, "granted", json!({ "status": "GRANTED", "outcome": "accepted" })),
            document(
                page,
                tenant,
                "success",
                json!({ "status": "SUCCESS", "outcome": "succeeded", "session": "xxx", "expires": expires }),
            ),
            document(
                page,
                tenant,
                "denied",
                if page == "v1" {
                    json!({ "status": "DENIED", "outcome": "rejected", "session": "xxx" })
                } else {
                    json!({ "status": "DENIED", "outcome": "rejected" })
                },
            ),
            document(
                page,
                tenant,
                "error",
                json!({ "status": "ERROR", "outcome": "failed", "session": "xxx", "expires": expires,
                        "message": "Cause of the internal error" }),
            ),
        ]);
    }
    shapes
}

fn document(page: &str, tenant: &str, example: &str, differs: Value) -> Shape {
    let file = format!("tests/fixtures/documents/lta-{page}-{example}.json");
    let body = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(&file));
    let mut response = Response::with_body(tenant, body.unwrap_or_else(|error| panic!("{file}: {error}")));
    // The bodies on the older page have a trailing comma. The client still recognizes its request.
    response.correlation_id = Some("xxx".to_owned());
    if page == "v1" {
        // That page also shows the properties: these, and the tenant as the only header.
        "REGARDS".clone_into(&mut response.app_id);
        response.headers.retain(|(name, _)| name == "regards.tenant");
    }
    let event = with(event(tenant, "xxx"), json!({ "productId": "xxx" }));
    Shape { response, event: with(event, differs) }
}

/// All other shapes that are possible according to the facts about REGARDS.
pub fn of_every_kind() -> Vec<Shape> {
    let mut shapes = fields();
    shapes.extend(dates());
    shapes.extend(correlation_ids());
    shapes.extend(properties());
    shapes
}

/// Fields that are missing, null, empty, of another type, or unknown.
fn fields() -> Vec<Shape> {
    let causes = "Product not found | Storage offline\\n";
    vec![
        shape("cnes-a", "only-what-is-never-missing", json!({ "responseStatus": "DENIED" }), denied()),
        shape(
            "cnes-a",
            "explicit-nulls",
            json!({ "responseStatus": "ERROR", "productId": null, "session": null, "expires": null, "message": null }),
            failed(),
        ),
        shape(
            "esa",
            "empty-texts",
            json!({ "responseStatus": "ERROR", "productId": "", "session": "", "expires": "", "message": "" }),
            failed(),
        ),
        shape(
            "esa",
            "all-of-granted",
            json!({ "responseStatus": "GRANTED", "productId": "p", "session": "s", "expires": "2025-05-01T00:00:00Z" }),
            json!({ "status": "GRANTED", "outcome": "accepted", "productId": "p", "session": "s",
                    "expires": "2025-05-01T00:00:00Z" }),
        ),
        shape(
            "cnes-a",
            "session-of-denied",
            json!({ "responseStatus": "DENIED", "session": "s", "message": causes }),
            with(denied(), json!({ "session": "s", "message": causes })),
        ),
        shape(
            "cnes-a",
            "unknown-fields",
            json!({ "responseStatus": "SUCCESS", "checksum": "abc", "parts": [1, { "of": 2.50 }] }),
            with(succeeded(), json!({ "extra": { "checksum": "abc", "parts": [1, { "of": 2.50 }] } })),
        ),
        shape(
            "esa",
            "another-type",
            json!({ "responseStatus": "SUCCESS", "productId": 7 }),
            with(succeeded(), json!({ "warnings": ["about productId"] })),
        ),
        shape(
            "esa",
            "texts-of-any-kind",
            json!({ "responseStatus": "ERROR", "message": "«Échec» \"quoted\" \u{1F6F0}\ttab\nline" }),
            with(failed(), json!({ "message": "«Échec» \"quoted\" \u{1F6F0}\ttab\nline" })),
        ),
    ]
}

/// Every format in which REGARDS writes or reads a date.
fn dates() -> Vec<Shape> {
    let dates = [
        ("2025-05-01T00:00:00Z", "2025-05-01T00:00:00Z"),
        ("2025-05-01T00:00:00.243Z", "2025-05-01T00:00:00.243Z"),
        ("2025-05-01T00:00:00.243117Z", "2025-05-01T00:00:00.243117Z"),
        ("2025-05-01T01:30:00+02:00", "2025-04-30T23:30:00Z"),
        ("2025-05-01T01:30:00.500+0200", "2025-04-30T23:30:00.500Z"),
        ("2025-05-01T01:30:00+02", "2025-04-30T23:30:00Z"),
        ("2025-05-01T00:00:00", "2025-05-01T00:00:00Z"),
    ];
    let mut shapes: Vec<Shape> = dates
        .iter()
        .map(|(written, read)| {
            let fields = json!({ "responseStatus": "SUCCESS", "expires": written });
            shape("cnes-a", &format!("expires-{written}"), fields, with(succeeded(), json!({ "expires": read })))
        })
        .collect();
    shapes.push(shape(
        "cnes-a",
        "expires-some-day",
        json!({ "responseStatus": "SUCCESS", "expires": "some day" }),
        with(succeeded(), json!({ "warnings": ["about expires"] })),
    ));
    shapes
}

/// The requester chooses these fields, so they may hold any text.
fn correlation_ids() -> Vec<Shape> {
    let long = "long-".repeat(80);
    let ids = ["with spaces & / ? # %41", "ünï\u{1F6F0}ced", "\"quoted\\\"", long.as_str(), "{{ tenant }}", "${HOME}"];
    ids.iter().map(|id| shape("esa", id, json!({ "responseStatus": "ERROR" }), failed())).collect()
}

/// Properties and headers as different REGARDS services set them.
fn properties() -> Vec<Shape> {
    let plain = |id: &str| shape("cnes-a", id, json!({ "responseStatus": "SUCCESS" }), succeeded());
    let mut urgent = plain("priority-of-the-request");
    urgent.response.priority = 255;
    let mut type_id_only = plain("type-id-only");
    type_id_only.response = type_id_only.response.without_header("regards.type");
    let mut type_only = plain("regards-type-only");
    type_only.response = type_only.response.without_header("__TypeId__");
    let mut jackson = plain("jackson");
    jackson.response = jackson.response.header("regards.converter", AMQPValue::LongString("JACKSON".into()));
    let mut tenant_only = plain("tenant-only");
    tenant_only.response.headers.retain(|(name, _)| name == "regards.tenant");
    let mut other_id = plain("differs-from-its-property");
    other_id.response.correlation_id = Some("something else".to_owned());
    other_id.event = with(other_id.event, json!({ "warnings": ["about correlation_id"] }));
    let mut other_headers = plain("other-headers");
    other_headers.response = other_headers
        .response
        .header("spring_listener_return_correlation", AMQPValue::LongString("c5".into()))
        .header("count", AMQPValue::LongLongInt(7))
        .header("flag", AMQPValue::Boolean(true))
        .header("class", AMQPValue::LongString(JAVA_TYPE.into()))
        .header("nothing", AMQPValue::Void);
    vec![urgent, type_id_only, type_only, jackson, tenant_only, other_id, other_headers]
}

fn shape(tenant: &str, correlation_id: &str, fields: Value, differs: Value) -> Shape {
    let body = with(json!({ "correlationId": correlation_id }), fields);
    let mut response = Response::with_body(tenant, body.to_string());
    // This is the maximum length of a short string.
    response.correlation_id = response.correlation_id.filter(|id| id.len() <= 255);
    Shape { response, event: with(event(tenant, correlation_id), differs) }
}

/// An event for which only the origin is known.
fn event(tenant: &str, correlation_id: &str) -> Value {
    json!({
        "type": "fr.cnes.regards.lta.submission.response",
        "source": "regards",
        "tenant": tenant,
        "status": null,
        "outcome": null,
        "correlationId": correlation_id,
        "productId": null,
        "session": null,
        "expires": null,
        "message": null,
        "time": "2023-04-14T08:46:17Z",
        "extra": {},
        "warnings": [],
    })
}

fn denied() -> Value {
    json!({ "status": "DENIED", "outcome": "rejected" })
}

fn succeeded() -> Value {
    json!({ "status": "SUCCESS", "outcome": "succeeded" })
}

fn failed() -> Value {
    json!({ "status": "ERROR", "outcome": "failed" })
}

fn with(object: Value, fields: Value) -> Value {
    match (object, fields) {
        (Value::Object(mut object), Value::Object(fields)) => {
            object.extend(fields);
            Value::Object(object)
        }
        (object, fields) => panic!("two objects, not {object} and {fields}"),
    }
}
