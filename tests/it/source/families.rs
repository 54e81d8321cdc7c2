//! The responses of each REGARDS service through the real brokers: each family with its own source, and all families
//! with one source.

use std::collections::BTreeSet;

use lapin::ExchangeKind;
use lapin::options::BasicPublishOptions;
use lapin::types::{AMQPValue, FieldTable};
use regards_relay::event::{FAMILIES, Family};
use serde_json::{Map, Value, json};

use crate::support::{Home, Rabbit, Response, VHost};

/// The expected result for each family's messages, one per line: `body`, and the `event` or the reason of the
/// `dead_letter`.
fn fixtures(family: &str) -> Vec<Value> {
    let path = format!("{}/tests/fixtures/responses/{family}.ndjson", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("fixtures of every family");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn the_fixtures_have_every_status() {
    for family in FAMILIES {
        let events: Vec<_> = fixtures(family.name).iter().map(|fixture| fixture["event"]["status"].clone()).collect();
        let seen: BTreeSet<_> = events.iter().filter_map(Value::as_str).collect();
        assert_eq!(seen, family.statuses.iter().map(|(status, _)| *status).collect(), "{}", family.name);
    }
}

/// The names as REGARDS defines them.
fn exchange(family: &Family) -> String {
    format!("regards.broadcast.{}", family.classes[0])
}

/// The family's messages as the REGARDS service sends them.
async fn publish(vhost: &VHost, family: &Family) {
    let channel = vhost.channel().await;
    for fixture in fixtures(family.name) {
        let mut message = Response::with_body("cnes-a", fixture["body"].to_string());
        // REGARDS sets it only for responses of rs-lta-manager.
        message.correlation_id = message.correlation_id.filter(|_| family.name == "lta");
        message.headers.retain(|(name, _)| !["__TypeId__", "regards.type"].contains(&name.as_str()));
        let name = if family.name == "worker" { "regards.type" } else { "__TypeId__" };
        let message = message.header(name, AMQPValue::LongString(family.classes[0].into()));
        let options = BasicPublishOptions::default();
        let sent = channel.basic_publish(
            exchange(family).as_str().into(),
            "".into(),
            options,
            &message.body,
            message.properties(),
        );
        sent.await.expect("sent").await.expect("confirmed");
    }
}

/// The complete event for a fixture that lists some of its fields.
fn event(family: &Family, fixture: &Value) -> Value {
    let mut event = json!({
        "type": family.kind, "tenant": "cnes-a", "productId": null, "session": null, "expires": null, "message": null,
        "extra": {}, "warnings": [], "time": "2023-04-14T08:46:17Z",
    });
    let said: Map<_, _> = fixture["event"].as_object().expect("an event").clone();
    event.as_object_mut().expect("an object").extend(said);
    event
}

#[tokio::test]
async fn every_family_is_read_by_a_source_of_its_own_and_by_one_for_all() {
    let vhost = Rabbit::shared().new_vhost().await;
    let names = FAMILIES.iter().map(|family| family.name).chain(["auto"]);
    let source = |name| format!("  {name}: {{ amqp: {{ url: \"${{REGARDS}}\", queue: {name} }}, expects: {name} }}");
    let sources = names.map(source).collect::<Vec<_>>().join("\n");
    let routes = format!(
        "version: 1\nsources:\n{sources}\nsinks: {{ archive: {{ file: {{ path: \"{{{{ source }}}}.ndjson\" }} }} }}\n\
         routes: [{{ name: all, to: archive }}]\nunrouted: drop\n"
    );
    let home = Home::new(&routes).with("REGARDS", &vhost.admin_url());
    vhost.queue("auto", FieldTable::default()).await;
    for family in FAMILIES {
        vhost.queue(family.name, FieldTable::default()).await;
        vhost.exchange(&exchange(family), ExchangeKind::Fanout).await;
        for queue in [family.name, "auto"] {
            vhost.bind(queue, &exchange(family), "").await;
        }
    }
    let relay = home.start_ready().await;
    for family in FAMILIES {
        publish(&vhost, family).await;
    }
    let mut of_all = Vec::new();
    for family in FAMILIES {
        let fixtures = fixtures(family.name);
        let events = fixtures.iter().filter(|fixture| fixture["event"].is_object());
        let expected: Vec<_> = events.map(|fixture| event(family, fixture)).collect();
        let lines = home.wait_for_lines(&format!("{}.ndjson", family.name), expected.len()).await;
        assert_eq!(sorted(without_source(lines)), sorted(expected.clone()), "{}", family.name);
        of_all.extend(expected);
    }
    let lines = home.wait_for_lines("auto.ndjson", of_all.len()).await;
    assert_eq!(sorted(without_source(lines)), sorted(of_all), "told apart by their headers");

    let all: Vec<_> = FAMILIES.iter().flat_map(|family| fixtures(family.name)).collect();
    let mut expected: Vec<_> = all.iter().filter_map(|fixture| fixture["dead_letter"].as_str()).collect();
    expected.extend_from_within(..);
    expected.sort_unstable();
    #[allow(clippy::cast_precision_loss, reason = "they are few")]
    relay.wait_for_metric("dead_letters_total", &[], expected.len() as f64).await;
    let letters = home.dead_letters();
    let mut reasons: Vec<_> = letters.iter().filter_map(|letter| letter["reason"].as_str()).collect();
    reasons.sort_unstable();
    assert_eq!(reasons, expected);
    let counted = |kind: &'static str| [("source", "auto"), ("type", kind), ("status", "SUCCESS")];
    let lta = FAMILIES[0].kind;
    assert_eq!(relay.metric("events_total", &counted(lta)).await, Ok(Some(1.0)));
    relay.stop().await;
}

/// Events with different keys have no defined order.
fn sorted(mut events: Vec<Value>) -> Vec<Value> {
    events.sort_by_key(Value::to_string);
    events
}

fn without_source(lines: Vec<Value>) -> Vec<Value> {
    let without = |mut line: Value| {
        let event = line.as_object_mut().expect("an event");
        event.remove("id");
        event.remove("source");
        line
    };
    lines.into_iter().map(without).collect()
}
