//! Generated messages and routes: a test knows nothing about them in advance.

use fastrand::Rng;
use lapin::types::AMQPValue;
use serde_json::{Map, Value, json};

use super::Response;

/// The sinks of all generated routes.
pub const SINKS: [&str; 5] = ["archive", "on_call", "partner", "pipeline", "screen"];
/// The response statuses that REGARDS sends.
pub const STATUSES: [&str; 4] = ["GRANTED", "DENIED", "SUCCESS", "ERROR"];
const TENANTS: [&str; 4] = ["cnes-a", "cnes-b", "esa", "DLR é"];

/// Generates a message, in most cases one that becomes an event.
pub fn message(rng: &mut Rng, number: usize) -> Response {
    let tenant = TENANTS[rng.usize(..TENANTS.len())];
    let mut body = Map::new();
    body.insert("correlationId".to_owned(), format!("c-{number}").into());
    let statuses = [&STATUSES[..], &["UNHEARD"]].concat();
    body.insert("responseStatus".to_owned(), statuses[rng.usize(..statuses.len())].into());
    for (name, values) in [
        ("productId", vec![json!("URN:p/1 é"), json!("a\"b\\c"), json!(null), json!(7)]),
        ("session", vec![json!("test-1"), json!("night"), json!("")]),
        ("message", vec![json!("no quota left | try {{ later }}"), json!("line\nbreak\\n"), json!(null)]),
        ("expires", vec![json!("2025-05-01T00:00:00.243Z"), json!("2025-05-01T02:00:00+02:00"), json!("soon")]),
        ("size", vec![json!(3), json!(12.5), json!("large"), json!({ "value": [1, null, "x"] })]),
        ("x-1", vec![json!(true), json!([])]),
    ] {
        if rng.u8(..4) > 0 {
            body.insert(name.to_owned(), values[rng.usize(..values.len())].clone());
        }
    }
    let text = |text: &str| AMQPValue::LongString(text.into());
    let mut message = Response::with_body(tenant, Value::Object(body).to_string());
    message.priority = 1;
    for (name, value) in [
        ("traceparent", text("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")),
        ("regards.owner", text("someone é")),
        ("number", AMQPValue::LongLongInt(-7)),
        ("truth", AMQPValue::Boolean(true)),
        ("list", AMQPValue::FieldArray(vec![text("a"), AMQPValue::Void].into())),
        ("x-death", text("the broker's")),
        ("regards-relay-status", text("another relay's")),
        ("regards-relay-hops", AMQPValue::LongLongInt(i64::from(rng.u8(..10)))),
    ] {
        if rng.bool() {
            message = message.header(name, value);
        }
    }
    if rng.u8(..12) == 0 { message.without_header("regards.tenant") } else { message }
}

/// Generates routes with every kind of sink: `${KAFKA}`, `${PARTNER}`, a webhook, files, standard output.
pub fn rules(rng: &mut Rng, hook: &str, stem: &str) -> String {
    let mut pick = |all: &[&str]| all[rng.usize(..all.len())].to_owned();
    let base = hook.strip_suffix("/regards").expect("the receiver's path");
    let topic = pick(&[
        "{{ status }}",
        "{{ status | default('none') }}",
        "{% if session %}none{% else %}{{ status }}{% endif %}",
    ]);
    let key = pick(&[
        "{{ correlationId }}",
        "{{ productId }}",
        "{{ session | default('none') }}",
        "{{ tenant }}-{{ status }}",
    ]);
    let url = [hook.to_owned(), format!("{base}/{{{{ tenant }}}}?id={{{{ correlationId }}}}&of={{{{ session }}}}")];
    let url = pick(&[&url[0], &url[1]]);
    let header = pick(&["{{ productId }}", "{{ message | default('none') | replace('\n', ' ') }}", "fixed"]);
    let team = pick(&["{{ tenant }}/{{ session }}", "{{ message }}", "fixed"]);
    let routing_key = pick(&["{{ tenant }}.{{ status }}", "{{ session }}", "{{ productId | default('none') }}"]);
    let path = pick(&["{{ tenant }}/{{ status }}", "{{ tenant }}/{{ session }}", "all/{{ outcome }}.ndjson"]);
    let timestamp = pick(&["sent", "event"]);
    let mut sinks = json!({
        "pipeline": { "kafka": { "brokers": "${KAFKA}", "topic": format!("{stem}.{topic}"), "key": key, "timestamp": timestamp,
            "headers": { "team": team, "x-what": header, "traceparent": "00-9-9-00" } } },
        "on_call": { "webhook": { "url": url, "headers": { "X-What": header } } },
        "partner": { "amqp": { "url": "${PARTNER}", "exchange": "products", "routing_key": routing_key,
            "headers": { "team": team, "what": header } } },
        "archive": { "file": { "path": path } },
        "screen": { "stdout": {} },
    });
    for sink in SINKS {
        match pick(&["normalized", "original", "cloudevents", "body"]).as_str() {
            "body" => {
                let body = [
                    "{{ message }} of {{ headers['regards.owner'] }}",
                    "{{ extra | tojson }}{{ time }}",
                    "{{ properties.priority + 1 }}",
                ];
                sinks[sink]["body"] = pick(&body).into();
            }
            // A body with line breaks would take several lines of the output.
            format => sinks[sink]["format"] = format.into(),
        }
        let keep: &[&str] = match pick(&["none", "regards", "all"]).as_str() {
            "none" => &[],
            "regards" => &["regards.*"],
            _ => &["*"],
        };
        sinks[sink]["keep_headers"] = json!(keep);
    }
    let routes: Vec<_> = (0..rng.usize(1..6)).map(|number| route(rng, number)).collect();
    let unrouted = [json!("drop"), json!("dead_letter"), json!(["screen", "archive"])];
    let unrouted = &unrouted[rng.usize(..unrouted.len())];
    format!(
        "version: 1\nname: urn:test\nsources: {{ regards: {{ amqp: {{ url: \"${{REGARDS}}\", queue: \"${{QUEUE}}\" }}, expects: lta }} }}\n\
         sinks: {sinks}\nroutes: {}\nunrouted: {unrouted}\n",
        Value::Array(routes)
    )
}

fn route(rng: &mut Rng, number: usize) -> Value {
    let mut when = Map::new();
    for (name, values) in [
        ("tenant", vec![json!("cnes-*"), json!(["esa", "cnes-a"]), json!("?LR é")]),
        ("status", vec![json!(["ERROR", "DENIED"]), json!("GRANTED")]),
        ("outcome", vec![json!(["failed", "succeeded"]), json!("*ed")]),
        ("session", vec![json!("*")]),
        ("not", vec![json!({ "session": "test-*" }), json!([{ "status": "ERROR", "tenant": "esa" }])]),
        (
            "if",
            vec![
                json!("extra.size > 3"),
                json!("message != null && message.contains('quota')"),
                json!("headers['regards.owner'] != null || properties.priority == 2"),
            ],
        ),
    ] {
        if rng.u8(..4) == 0 {
            when.insert(name.to_owned(), values[rng.usize(..values.len())].clone());
        }
    }
    let to: Vec<_> = SINKS.iter().filter(|_| rng.bool()).collect();
    let mut route = json!({ "name": format!("route-{number}"), "when": when, "to": to });
    let steps = [
        json!({ "set": { "message": { "cel": "tenant + '/' + status" }, "kept": extra_list() } }),
        json!({ "set": { "session": { "cel": "extra.size" }, "team": "storage" } }),
        json!({ "rename": { "warnings": "remarks" } }),
        json!({ "set": { "productId": null } }),
    ];
    let steps: Vec<_> = steps.into_iter().filter(|_| rng.u8(..3) == 0).collect();
    if !steps.is_empty() {
        route["transform"] = steps.into();
    }
    route["final"] = (rng.u8(..6) == 0).into();
    route
}

fn extra_list() -> Value {
    json!([1, 2.5, "three", null, { "a": true }])
}
