//! `/metrics` has every metric from the start, at zero for every configured label, and counts.

use crate::support::{Home, Regards, Response, until};

type Labels<'a> = &'a [(&'a str, &'a str)];

const ROUTES: &str = r#"
version: 1
sources: { regards: { amqp: { url: "${REGARDS}", queue: "${QUEUE}" }, expects: lta } }
sinks:
  archive: { file: { path: archive.ndjson } }
  spare: { file: { path: spare.ndjson } }
routes:
  - { name: esa, when: { tenant: esa }, to: archive }
  - { name: spare, when: { tenant: never }, to: spare }
unrouted: drop
"#;

#[tokio::test]
async fn every_metric_starts_at_zero_and_counts() {
    let regards = Regards::new().await;
    let home = Home::of(&regards, ROUTES);
    let relay = home.start_ready().await;
    let source = [("source", "regards")];
    let zero: [(&str, Labels<'_>); 15] = [
        ("source_last_message_timestamp_seconds", &source),
        ("source_reconnects_total", &source),
        ("messages_received_total", &source),
        ("events_total", &[("source", "regards"), ("tenant", "esa"), ("status", "SUCCESS")]),
        ("route_events_total", &[("route", "esa")]),
        ("route_events_total", &[("route", "spare")]),
        ("unrouted_events_total", &[]),
        ("deliveries_total", &[("sink", "spare"), ("result", "delivered")]),
        ("delivery_attempts_total", &[("sink", "archive"), ("result", "retry")]),
        ("delivery_attempts_total", &[("sink", "archive"), ("result", "refused")]),
        ("delivery_duration_seconds_count", &[("sink", "archive")]),
        ("deliveries_in_flight", &[("sink", "archive")]),
        ("dead_letters_total", &[("reason", "not_json")]),
        ("dead_letters_total", &[("reason", "refused"), ("sink", "archive")]),
        ("dead_letters_stored", &[("reason", "not_json")]),
    ];
    for (name, labels) in zero {
        assert_eq!(relay.metric(name, labels).await, Ok(Some(0.0)), "{name}{labels:?}");
    }
    assert_eq!(relay.metric("source_up", &source).await, Ok(Some(1.0)));
    assert_eq!(relay.metric("build_info", &[("version", env!("CARGO_PKG_VERSION"))]).await, Ok(Some(1.0)));

    let esa: Vec<_> = (0..3).map(|number| Response::new("esa", &format!("c-{number}"), "SUCCESS")).collect();
    regards.publish_all(&esa).await;
    regards.publish(&Response::new("nobody's", "c", "ERROR")).await;
    regards.publish(&Response::with_body("esa", "not JSON")).await;

    let counted: [(&str, Labels<'_>, f64); 8] = [
        ("messages_received_total", &source, 5.0),
        (
            "events_total",
            &[("tenant", "esa"), ("status", "SUCCESS"), ("type", "fr.cnes.regards.lta.submission.response")],
            3.0,
        ),
        ("route_events_total", &[("route", "esa")], 3.0),
        ("unrouted_events_total", &[], 1.0),
        ("deliveries_total", &[("sink", "archive"), ("result", "delivered")], 3.0),
        ("delivery_duration_seconds_count", &[("sink", "archive")], 3.0),
        ("dead_letters_total", &[("reason", "not_json")], 1.0),
        ("dead_letters_stored", &[("reason", "not_json")], 1.0),
    ];
    for (name, labels, expected) in counted {
        until(&format!("{name}{labels:?} to be {expected}"), async || match relay.metric(name, labels).await? {
            Some(seen) if (seen - expected).abs() < f64::EPSILON => Ok(()),
            seen => Err(format!("{seen:?}")),
        })
        .await;
    }
    assert!(relay.metric("source_last_message_timestamp_seconds", &source).await.unwrap() > Some(1.7e9));
    relay.stop().await;
    regards.assert_left_as_found().await;
}
