//! The latest schema of a subject.

use std::sync::Arc;

use regards_relay::timer::DIVISOR;
use serde_json::{Value, json};

use super::{Cell, Scene, Source, UNITS, for_each};
use crate::support::{Relay, until};

/// The partner's schema with one more field.
fn with_message(schema: &str, kind: &str) -> String {
    if kind == "protobuf" {
        return schema.replace("  Units units = 3;", "  Units units = 3;\n  string message = 4;");
    }
    let mut schema: Value = serde_json::from_str(schema).expect("JSON");
    if kind == "avro" {
        let field = json!({"name": "message", "type": ["null", "string"], "default": null});
        schema["fields"].as_array_mut().expect("fields").push(field);
    } else {
        schema["properties"]["message"] = json!({"type": ["string", "null"]});
    }
    schema.to_string()
}

async fn register_next(scene: &Scene) -> u32 {
    let schema = scene.schema();
    let next = with_message(&schema, scene.cell.kind);
    assert_ne!(next, schema);
    let import = scene.import();
    let references = match scene.cell.kind {
        "protobuf" => json!([{"name": import, "subject": import, "version": 1}]),
        _ => json!([]),
    };
    scene.registry.register_with(&scene.subject(), scene.cell.word(), &next, &references).await
}

async fn wait_until_read(scene: &Scene, id: u32) {
    let line = format!("has another schema under the subject {}, id {id};", scene.subject());
    until(&format!("the schema {id} to be read"), async || {
        if scene.home.log().contains(&line) { Ok(()) } else { Err(scene.home.log()) }
    })
    .await;
}

async fn assert_used_after_a_reload(scene: &mut Scene, relay: Relay<'_>, [first, second]: [u32; 2]) {
    relay.signal("HUP");
    wait_until_read(scene, second).await;
    scene.publish("cnes", "three").await;
    assert_eq!(scene.assert_complete().await, [first, second], "{:?}", scene.cell);
    relay.stop().await;
}

#[tokio::test]
async fn a_new_latest_schema_is_read_at_a_reload() {
    for_each(&[Source::Latest], |cell| async move {
        let mut scene = Scene::new(cell, "").await;
        let first = scene.register(&scene.subject()).await;
        let home = Arc::clone(&scene.home);
        let relay = home.start_ready().await;
        scene.publish("cnes", "one").await;
        assert_eq!(scene.assert_complete().await, [first], "{cell:?}");
        let second = register_next(&scene).await;
        scene.publish("cnes", "two").await;
        assert_eq!(scene.assert_complete().await, [first], "{cell:?}: it isn't asked for with each event");
        assert_used_after_a_reload(&mut scene, relay, [first, second]).await;
    })
    .await;
}

#[tokio::test]
async fn a_new_latest_schema_is_read_from_time_to_time() {
    let cell = Cell { kind: "avro", source: Source::Latest };
    let mut scene = Scene::new(cell, "").await;
    let first = scene.register(&scene.subject()).await;
    let home = Arc::clone(&scene.home);
    // Each second instead of every five minutes.
    let relay = home.start_with(DIVISOR, "300");
    relay.wait_until_ready().await;
    scene.publish("cnes", "one").await;
    assert_eq!(scene.assert_complete().await, [first]);
    let second = register_next(&scene).await;
    wait_until_read(&scene, second).await;
    scene.publish("cnes", "two").await;
    assert_eq!(scene.assert_complete().await, [first, second]);
    relay.stop().await;
}

/// A schema of that kind that the registry takes and the relay can't use.
fn unusable(kind: &str) -> &'static str {
    match kind {
        "avro" => {
            r#"{"type": "record", "name": "Money", "fields": [{"name": "sum", "type": {"type": "bytes", "logicalType": "decimal", "precision": 2000, "scale": 2}}]}"#
        }
        "json_schema" => r##"{"type": "object", "properties": {"sum": {"$ref": "#/definitions/money"}}}"##,
        // It has not the message that the sink sends.
        _ => "syntax = \"proto3\";\npackage demo;\nmessage Money {\n  string sum = 1;\n}\n",
    }
}

#[tokio::test]
async fn a_new_latest_schema_that_cannot_be_used_changes_nothing() {
    for_each(&[Source::Latest], |cell| async move {
        let mut scene = Scene::new(cell, "").await;
        let subject = scene.subject();
        let first = scene.register(&subject).await;
        let home = Arc::clone(&scene.home);
        let relay = home.start_ready().await;
        scene.publish("cnes", "one").await;
        assert_eq!(scene.assert_complete().await, [first], "{cell:?}");
        scene.registry.set_compatibility(&subject, "NONE").await;
        scene.registry.register(&subject, cell.word(), unusable(cell.kind)).await;
        relay.signal("HUP");
        scene
            .wait_for_warning(&[&subject, "(version 2) can't be used", "deliveries go on by the schema that is known"])
            .await;
        scene.publish("cnes", "two").await;
        assert_eq!(scene.assert_complete().await, [first], "{cell:?}");
        let second = register_next(&scene).await;
        assert_used_after_a_reload(&mut scene, relay, [first, second]).await;
    })
    .await;
}

#[tokio::test]
async fn a_subject_with_a_schema_of_another_kind_is_told() {
    let cell = Cell { kind: "avro", source: Source::Latest };
    let mut scene = Scene::new(cell, "").await;
    let subject = scene.subject();
    scene.registry.register(&subject, "PROTOBUF", UNITS).await;
    let home = Arc::clone(&scene.home);
    let relay = home.start_ready().await;
    scene.publish("cnes", "one").await;
    scene
        .wait_for_warning(&[&subject, "is of the type PROTOBUF, and the sink encodes by AVRO", "check `subject`"])
        .await;
    scene.regards.wait_until_acknowledged().await;
    relay.stop().await;
}

#[tokio::test]
async fn schemas_that_the_latest_one_refers_to_are_fetched_with_it() {
    for kind in ["avro", "json_schema"] {
        let cell = Cell { kind, source: Source::Latest };
        let mut scene = Scene::new(cell, "").await;
        let (subject, other) = (scene.subject(), format!("{}-state", scene.records.topic()));
        let (name, state, schema) = if kind == "avro" {
            let state = r#"{"type": "enum", "name": "State", "namespace": "demo", "symbols": ["GRANTED", "SUCCESS"]}"#;
            let schema = r#"{"type": "record", "name": "Partner", "namespace": "demo", "fields": [{"name": "correlationId", "type": "string"}, {"name": "status", "type": "demo.State"}]}"#;
            ("demo.State", state, schema)
        } else {
            let state = r#"{"$schema": "http://json-schema.org/draft-07/schema#", "type": "string", "enum": ["GRANTED", "SUCCESS"]}"#;
            let schema = r#"{"type": "object", "required": ["correlationId", "status"], "properties": {"correlationId": {"type": "string"}, "status": {"$ref": "state.json"}}}"#;
            ("state.json", state, schema)
        };
        scene.registry.register(&other, cell.word(), state).await;
        let references = json!([{"name": name, "subject": other, "version": 1}]);
        let id = scene.registry.register_with(&subject, cell.word(), schema, &references).await;
        let home = Arc::clone(&scene.home);
        let checked = scene.check_connect();
        assert!(checked.contains(&format!("a schema under the subject {subject} (id {id})")), "{checked}");
        let relay = home.start_ready().await;
        scene.publish("cnes", "one").await;
        let records = scene.records.wait_for(scene.published).await;
        for record in records {
            assert_eq!(record.body.get(..5), Some(&[&[0][..], &id.to_be_bytes()].concat()[..]), "{cell:?}");
        }
        if kind == "avro" {
            // Two texts of Avro would be longer: the second is the place of the symbol.
            assert!(records.iter().all(|record| matches!(record.body.last(), Some(0 | 2))), "{records:?}");
        }
        relay.stop().await;
    }
}

#[tokio::test]
async fn explain_reads_the_latest_schema_if_it_may_connect() {
    let cell = Cell { kind: "avro", source: Source::Latest };
    let scene = Scene::new(cell, "").await;
    let message = crate::support::Response::new("cnes", "c-1", "GRANTED");
    scene.home.write("sample.json", &message.sample());
    let explain = |more: &[&str]| -> Value {
        let shown = scene.home.does(&[&["explain", "--json"], more, &["sample.json"]].concat());
        serde_json::from_str(&shown).expect("JSON")
    };
    let subject = scene.subject();
    let offline = &explain(&[])["deliveries"][0];
    assert_eq!(
        offline["encoded"],
        json!({"format": "avro", "schema": "latest", "subject": subject, "id": null, "bytes": null})
    );
    let failed = scene.home.run(&["explain", "--connect", "sample.json"]);
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(!failed.status.success() && said.contains("has no schema under the subject"), "{said}");
    let id = scene.register(&subject).await;
    let connected = &explain(&["--connect"])["deliveries"][0];
    assert_eq!((&connected["encoded"]["id"], &connected["body"]), (&json!(id), &offline["body"]));
    let bytes = connected["encoded"]["bytes"].as_str().expect("base64");
    assert!(bytes.starts_with("AAAA"), "{bytes}: a zero byte and a small id");
}
