//! The output of `explain`, as text and JSON.

use std::fmt::Write;

use expect_test::expect;

use crate::support::{Home, Response};

const ROUTES: &str = r#"
version: 1
name: urn:test
sources:
  regards: { amqp: { url: "amqp://127.0.0.1", queue: q }, expects: lta }
sinks:
  pipeline: { kafka: { brokers: "127.0.0.1:9092", topic: "regards.{{ tenant }}", key: "{{ session }}" }, keep_headers: ["regards.owner"] }
  on_call:
    webhook: { url: "https://pager.example.org/${TOKEN}", headers: { X-Key: "${KEY}", X-Team: "{{ team }}" } }
    body: '{"key": "${KEY}", "text": {{ message | tojson }}}'
  partner: { amqp: { url: "amqp://127.0.0.1", exchange: products, routing_key: "{{ productId }}" }, format: original }
  archive: { file: { path: "{{ tenant }}/{{ status }}.ndjson" }, body: "{{ correlationId }} {{ team | default('-') }}" }
routes:
  - { name: failures, when: { outcome: [failed, rejected] }, to: [on_call, archive], transform: [{ set: { team: storage } }] }
  - { name: large, when: { tenant: "esa*", not: { session: "test-*" }, if: "extra.size > 3" }, to: partner, final: true }
  - { name: nights, when: { session: night }, to: pipeline }
  - { name: rest, to: pipeline }
unrouted: dead_letter
"#;

fn home() -> Home {
    Home::new(ROUTES).with("TOKEN", "T0p-s3cret").with("KEY", "K3y-s3cret")
}

fn explained(home: &Home, message: &Response, arguments: &[&str]) -> String {
    home.write("message.json", &message.sample());
    let said = home.does(&[&["explain", "message.json"], arguments].concat());
    assert!(!said.contains("s3cret"), "{said}");
    said.replace(&home.data("").display().to_string(), "DATA/")
}

#[test]
fn text_shows_the_event_its_routes_and_deliveries() {
    let message = Response::new("esa", "c-1", "ERROR").field("message", "no quota left").field("size", 4);
    expect![[r#"
        event
            {
              "id": "5350f234-2714-5eb4-b0aa-b0256045971f",
              "type": "fr.cnes.regards.lta.submission.response",
              "source": "regards",
              "tenant": "esa",
              "status": "ERROR",
              "outcome": "failed",
              "correlationId": "c-1",
              "productId": "product of c-1",
              "session": null,
              "expires": null,
              "message": "no quota left",
              "time": "2023-04-14T08:46:17Z",
              "extra": {
                "size": 4
              },
              "warnings": []
            }

        routes
          matches  failures  outcome is failed
          matches  large     tenant is esa, `not:` doesn't exclude it, `if:` is true
          -        nights    the route large before it is final
          -        rest      the route large before it is final

        on_call (webhook), by the route failures
          url          https://pager.example.org/***
          headers      webhook-id: 5350f234-2714-5eb4-b0aa-b0256045971f
                       x-key: ***
                       x-team: storage
                       content-type: application/json
          body
            {"key": "***", "text": "no quota left"}

        archive (file), by the route failures
          path         DATA/esa/ERROR.ndjson
          body
            c-1 storage

        partner (amqp), by the route large
          exchange     products
          routing key  product of c-1
          headers      regards-relay-id: 5350f234-2714-5eb4-b0aa-b0256045971f
                       regards-relay-type: fr.cnes.regards.lta.submission.response
                       regards-relay-tenant: esa
                       regards-relay-status: ERROR
                       __TypeId__: fr.cnes.regards.modules.ltamanager.amqp.output.SubmissionResponseDtoEvent
                       regards.converter: GSON
                       regards.tenant: esa
                       regards.type: fr.cnes.regards.modules.ltamanager.amqp.output.SubmissionResponseDtoEvent
                       regards-relay-hops: 1
          properties   app_id: rs-lta-manager
                       content_encoding: UTF-8
                       content_type: application/json
                       correlation_id: c-1
                       delivery_mode: 2
                       message_id: 5350f234-2714-5eb4-b0aa-b0256045971f
                       priority: 1
                       timestamp: 1681461977
                       type: fr.cnes.regards.lta.submission.response
          body
            {"correlationId":"c-1","message":"no quota left","productId":"product of c-1","responseStatus":"ERROR","size":4}"#]].assert_eq(&explained(&home(), &message, &[]));
}

#[test]
fn json_is_one_object() {
    let message = Response::new("cnes", "c-2", "GRANTED").field("session", "night");
    expect![[r#"{"event":{"id":"e6841a99-296b-5a6f-98d6-d1299abb60ec","type":"fr.cnes.regards.lta.submission.response","source":"regards","tenant":"cnes","status":"GRANTED","outcome":"accepted","correlationId":"c-2","productId":"product of c-2","session":"night","expires":null,"message":null,"time":"2023-04-14T08:46:17Z","extra":{},"warnings":[]},"dead_letter":null,"routes":[{"name":"failures","matched":false,"because":"outcome is accepted, not failed or rejected"},{"name":"large","matched":false,"because":"tenant is cnes, not esa*"},{"name":"nights","matched":true,"because":"session is night"},{"name":"rest","matched":true,"because":"it matches every event"}],"alerts":[],"deliveries":[{"sink":"pipeline","kind":"kafka","route":"nights","destination":{"topic":"regards.cnes","key":"night"},"headers":{"regards-relay-id":"e6841a99-296b-5a6f-98d6-d1299abb60ec","regards-relay-type":"fr.cnes.regards.lta.submission.response","regards-relay-tenant":"cnes","regards-relay-status":"GRANTED"},"body":"{\"id\":\"e6841a99-296b-5a6f-98d6-d1299abb60ec\",\"type\":\"fr.cnes.regards.lta.submission.response\",\"source\":\"regards\",\"tenant\":\"cnes\",\"status\":\"GRANTED\",\"outcome\":\"accepted\",\"correlationId\":\"c-2\",\"productId\":\"product of c-2\",\"session\":\"night\",\"expires\":null,\"message\":null,\"time\":\"2023-04-14T08:46:17Z\",\"extra\":{},\"warnings\":[]}"}]}"#]].assert_eq(&explained(&home(), &message, &["--json"]));
}

#[test]
fn text_shows_why_an_event_is_not_delivered() {
    let home = home();
    let mut seen = String::new();
    let message = |body: &str| Response::with_body("esa", body);
    for (message, arguments) in [
        (message("<html>"), &[][..]),
        (message(r#"{"correlationId": "c", "responseStatus": "GRANTED", "size": "large"}"#), &[]),
        (message(r#"{"correlationId": "c", "responseStatus": "GRANTED", "size": 4}"#), &[]),
        (Response::new("esa", "c", "GRANTED").without_header("regards.tenant"), &[]),
        (Response::new("esa", "c", "DENIED").without_header("regards.tenant"), &["--tenant", "t"]),
    ] {
        let said = explained(&home, &message, arguments);
        // Another test covers the event.
        let rest = said.split_once("\n\n").filter(|_| said.starts_with("event")).map_or(&*said, |(_, rest)| rest);
        seen.extend([rest.trim(), "\n---\n"]);
    }
    expect![[r#"
        dead letter
          not_json: the body is not JSON: expected value at line 1 column 1
        ---
        routes
          -        failures  outcome is accepted, not failed or rejected
          -        large     `if:` can't be evaluated: found no matching overload for '_>_' applied to '(string, int)'
          -        nights    session is null, which matches nothing
          matches  rest      it matches every event

        pipeline (kafka), by the route rest
          topic        regards.esa
          key          null
          headers      regards-relay-id: 62c03b7e-6a18-5a98-8533-803a813b1acc
                       regards-relay-type: fr.cnes.regards.lta.submission.response
                       regards-relay-tenant: esa
                       regards-relay-status: GRANTED
          body
            {"id":"62c03b7e-6a18-5a98-8533-803a813b1acc","type":"fr.cnes.regards.lta.submission.response","source":"regards","tenant":"esa","status":"GRANTED","outcome":"accepted","correlationId":"c","productId":null,"session":null,"expires":null,"message":null,"time":"2023-04-14T08:46:17Z","extra":{"size":"large"},"warnings":[]}
        ---
        routes
          -        failures  outcome is accepted, not failed or rejected
          matches  large     tenant is esa, `not:` doesn't exclude it, `if:` is true
          -        nights    the route large before it is final
          -        rest      the route large before it is final

        partner (amqp), by the route large
          a dead letter, render_failed: routing key: productId is null for this event; to use another value then, write {{ productId | default("…") }}
        ---
        dead letter
          missing_tenant: no header regards.tenant, and the source has no tenant of its own
          name one with `--tenant` to see how the message would be routed
        ---
        routes
          matches  failures  outcome is rejected
          -        large     tenant is t, not esa*
          -        nights    session is null, which matches nothing
          matches  rest      it matches every event

        on_call (webhook), by the route failures
          url          https://pager.example.org/***
          headers      webhook-id: 19de85c5-4a1e-5bf1-842f-96dc21ebbe91
                       x-key: ***
                       x-team: storage
                       content-type: application/json
          body
            {"key": "***", "text": null}

        archive (file), by the route failures
          path         DATA/t/DENIED.ndjson
          body
            c storage

        pipeline (kafka), by the route rest
          topic        regards.t
          key          null
          headers      regards-relay-id: 19de85c5-4a1e-5bf1-842f-96dc21ebbe91
                       regards-relay-type: fr.cnes.regards.lta.submission.response
                       regards-relay-tenant: t
                       regards-relay-status: DENIED
          body
            {"id":"19de85c5-4a1e-5bf1-842f-96dc21ebbe91","type":"fr.cnes.regards.lta.submission.response","source":"regards","tenant":"t","status":"DENIED","outcome":"rejected","correlationId":"c","productId":"product of c","session":null,"expires":null,"message":null,"time":"2023-04-14T08:46:17Z","extra":{},"warnings":[]}
        ---
    "#]].assert_eq(&seen);
}

#[test]
fn a_message_can_be_a_sample_one_of_many_or_a_bare_body() {
    let home = home();
    let body = r#"{"correlationId": "bare", "responseStatus": "GRANTED",}"#;
    home.write("bare.json", body);
    let samples: Vec<_> = ["first", "second"].map(|id| Response::new("t", id, "SUCCESS").sample()).into();
    home.write("samples.ndjson", &format!("{}\n\n{}\n", samples[0], samples[1]));
    let id = |arguments: &[&str]| {
        let done = home.run(&[&["explain", "--json"], arguments].concat());
        let said: Result<serde_json::Value, _> = serde_json::from_slice(&done.stdout);
        let stderr = String::from_utf8_lossy(&done.stderr).trim().to_owned();
        let id = said.map(|said| format!("{} of {}", said["event"]["correlationId"], said["event"]["tenant"]));
        (done.status.code().expect("an exit code"), id.unwrap_or(stderr))
    };
    let mut seen = String::new();
    for arguments in [
        &["bare.json", "--tenant", "esa"][..],
        &["samples.ndjson#1"],
        &["samples.ndjson#3"],
        &["samples.ndjson#2"],
        &["samples.ndjson"],
        &["nowhere.json"],
        &["bare.json", "--source", "regrads"],
    ] {
        let (code, said) = id(arguments);
        writeln!(seen, "{}: {code}, {said}", arguments.join(" ")).expect("text");
    }
    expect![[r#"
        bare.json --tenant esa: 0, "bare" of "esa"
        samples.ndjson#1: 0, "first" of "t"
        samples.ndjson#3: 0, "second" of "t"
        samples.ndjson#2: 2, routes.yaml: 3 warnings; `regards-relay check` shows them
        error: there is no sample in line 2 of samples.ndjson
        samples.ndjson: 2, routes.yaml: 3 warnings; `regards-relay check` shows them
        error: samples.ndjson has 2 samples: name the line of one as samples.ndjson#LINE
        nowhere.json: 1, routes.yaml: 3 warnings; `regards-relay check` shows them
        error: nowhere.json can't be read: No such file or directory (os error 2)
        bare.json --source regrads: 2, routes.yaml: 3 warnings; `regards-relay check` shows them
        error: there is no source regrads; there are regards; did you mean `regards`?
    "#]]
    .assert_eq(&seen);
}

#[test]
fn a_sink_with_groups_is_shown_with_the_digest_of_the_event_alone() {
    let home = Home::new(
        r#"
version: 1
sources: { regards: { amqp: { url: "amqp://127.0.0.1", queue: q }, expects: lta } }
sinks:
  digests:
    amqp: { url: "amqp://127.0.0.1", exchange: digests, routing_key: "{{ tenant }}" }
    group: { by: [tenant, session], wait: 5m }
    body: "{{ count }} of {{ tenant }} {{ session }}: {% for event in events %}{{ event.correlationId }}{% endfor %}"
routes: [{ name: all, to: digests }]
unrouted: drop
"#,
    );
    let message = Response::new("esa", "c-1", "ERROR");
    let said = explained(&home, &message, &[]);
    let (_, delivery) = said.split_once("digests (amqp)").expect("the delivery");
    expect![[r"
        , by the route all
          group        session null, tenant esa (waits 5m, or until there are 100); shown is the digest of this event alone
          exchange     digests
          routing key  esa
          headers      regards-relay-id: e40a2a86-9f06-545e-b3b3-83eb46ce4643
                       regards-relay-type: fr.cnes.regards.relay.digest
                       regards-relay-tenant: esa
                       regards-relay-hops: 1
          properties   app_id: regards-relay
                       content_type: text/plain; charset=utf-8
                       delivery_mode: 2
                       message_id: e40a2a86-9f06-545e-b3b3-83eb46ce4643
                       priority: 1
                       type: fr.cnes.regards.relay.digest
          body
            1 of esa : c-1"]]
    .assert_eq(delivery);
    let json: serde_json::Value = serde_json::from_str(&explained(&home, &message, &["--json"])).expect("JSON");
    let group = serde_json::json!({ "by": { "tenant": "esa", "session": null }, "wait": "5m", "max": 100 });
    assert_eq!(json["deliveries"][0]["group"], group);
}

#[test]
fn a_body_that_a_schema_encodes_is_shown_as_json_and_as_bytes() {
    let routes = r#"
version: 1
sources: { regards: { amqp: { url: "amqp://127.0.0.1", queue: q } } }
sinks:
  avro: { kafka: { brokers: "127.0.0.1:9092", topic: t }, format: { avro: {} } }
  json: { stdout: {}, format: { json_schema: {} } }
routes: [{ name: all, to: [avro, json] }]
unrouted: drop
"#;
    let home = Home::new(routes);
    let message = Response::new("esa", "c-1", "GRANTED");
    let explained: serde_json::Value =
        serde_json::from_str(&self::explained(&home, &message, &["--json"])).expect("JSON");
    let [avro, json] = [&explained["deliveries"][0], &explained["deliveries"][1]];
    let shown = |delivery: &serde_json::Value| {
        let body = delivery["body"].as_str().expect("text");
        assert_eq!(serde_json::from_str::<serde_json::Value>(body).expect("JSON"), explained["event"]);
        delivery["encoded"].to_string()
    };
    expect![[r#"{"bytes":"SGUxODM4NGE4LTc2ZjctNTU2Yi1hZTk0LTdlM2I0ZGFmN2MyNE5mci5jbmVzLnJlZ2FyZHMubHRhLnN1Ym1pc3Npb24ucmVzcG9uc2UOcmVnYXJkcwIGZXNhDkdSQU5URUQQYWNjZXB0ZWQCBmMtMQIccHJvZHVjdCBvZiBjLTEAAAACKDIwMjMtMDQtMTRUMDg6NDY6MTdaBHt9AA==","format":"avro","id":null,"schema":"event","subject":null}"#]].assert_eq(&shown(avro));
    assert_eq!(avro["headers"]["content-type"], "application/vnd.apache.avro");
    assert_eq!(json["encoded"]["format"], "json_schema");
    shown(json);
    let text = self::explained(&home, &message, &[]);
    assert!(text.contains("  encoded      avro by the schema event: SGUx"), "{text}");
}

#[test]
fn the_bytes_of_a_body_with_a_secret_are_not_shown() {
    let routes = r#"
version: 1
sources: { regards: { amqp: { url: "amqp://127.0.0.1", queue: q } } }
sinks:
  out:
    kafka: { brokers: "127.0.0.1:9092", topic: t }
    format: { protobuf: { schema: p.proto } }
    body: '{"key": "${KEY}", "id": {{ correlationId | tojson }}}'
routes: [{ name: all, to: out }]
unrouted: drop
"#;
    let home = Home::new(routes).with("KEY", "K3y-s3cret");
    home.write("p.proto", "syntax = \"proto3\";\nmessage P { string key = 1; string id = 2; }");
    let explained = explained(&home, &Response::new("esa", "c-1", "GRANTED"), &["--json"]);
    let explained: serde_json::Value = serde_json::from_str(&explained).expect("JSON");
    let delivery = &explained["deliveries"][0];
    assert_eq!(
        (&delivery["body"], &delivery["encoded"]["bytes"]),
        (&r#"{"key": "***", "id": "c-1"}"#.into(), &"***".into())
    );
}
