//! What rules can say beyond names, in a relay between real brokers.

use serde_json::Value;

use crate::support::{Home, Regards, Response};

const ROUTES: &str = r#"
version: 1
sources: { regards: { amqp: { url: "${REGARDS}", queue: "${QUEUE}" }, expects: lta } }
sinks:
  large: { file: { path: large.ndjson } }
  archive: { file: { path: "{{ tenant }}.ndjson" } }
routes:
  - { name: large, when: { if: "headers['regards.converter'] == 'GSON' && extra.size > 3" }, to: large }
  - { name: cnes, when: { tenant: "cnes-*" }, to: archive }
unrouted: drop
"#;

#[tokio::test]
async fn an_event_whose_condition_fails_goes_another_way_or_is_kept_until_the_rule_is_right() {
    let regards = Regards::new().await;
    let home = Home::of(&regards, ROUTES);
    let relay = home.start_ready().await;
    let sized = |tenant: &str, id: &str, size: Value| Response::new(tenant, id, "ERROR").field("size", size);
    regards
        .publish_all(&[
            sized("esa", "small", 3.into()),
            sized("esa", "large", 4.into()),
            sized("esa", "unknown", "about 5".into()),
            sized("cnes-a", "unknown, too", "6?".into()),
            sized("cnes-a", "large, too", 7.into()),
        ])
        .await;
    let went = |lines: Vec<Value>| lines.iter().map(|line| line["correlationId"].clone()).collect::<Vec<_>>();
    assert_eq!(went(home.wait_for_lines("large.ndjson", 2).await), ["large", "large, too"]);
    assert_eq!(went(home.wait_for_lines("cnes-a.ndjson", 2).await), ["unknown, too", "large, too"]);
    relay.wait_for_metric("dead_letters_total", &[("reason", "rule_error")], 1.0).await;
    assert_eq!(relay.metric("route_errors_total", &[("route", "large")]).await, Ok(Some(2.0)));
    assert_eq!(relay.metric("unrouted_events_total", &[]).await, Ok(Some(1.0)), "the small one");
    let [letter] = &home.dead_letters()[..] else { panic!("one dead letter: {:?}", home.dead_letters()) };
    assert_eq!((&letter["correlationId"], &letter["reason"]), (&"unknown".into(), &"rule_error".into()));
    let detail = letter["detail"].as_str().expect("text");
    assert!(detail.starts_with("`if:` of the route large: ") && detail.contains("string"), "{detail}");
    assert_eq!(home.warnings_with(&["the `if:` of a route could not be evaluated", "large"]).len(), 1, "once a minute");

    let rehearsed = home.does(&["dead-letters", "redrive", "--dry-run", "--json"]);
    assert!(rehearsed.starts_with(r#"{"redriven":0,"sinks":{},"left":{"`if:` of the route large: "#), "{rehearsed}");
    let right = ROUTES.replace("extra.size > 3", "(string(extra.size).startsWith('about') || extra.size > 3)");
    relay.reload(&right, "success").await;
    assert_eq!(home.does(&["dead-letters", "redrive", "--json"]), r#"{"redriven":1,"sinks":{"large":1},"left":{}}"#);
    assert_eq!(went(home.wait_for_lines("large.ndjson", 3).await), ["large", "large, too", "unknown"]);
    relay.stop().await;
    regards.assert_left_as_found().await;
}
