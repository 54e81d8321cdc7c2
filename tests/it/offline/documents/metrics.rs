//! docs/metrics.md is written from what a running relay shows: `UPDATE_EXPECT=1 cargo test --test it offline::documents`.

use std::fmt::Write;

use expect_test::expect_file;
use regards_relay::telemetry::LOG_FIELDS;

use crate::support::Home;

const INTRODUCTION: &str = "\
# Metrics and log fields

This page is generated from the output of a running relay.

## Metrics

`/metrics` on the admin listener (`admin.listen`) shows these metrics in the text format of Prometheus. All of them
exist from the start, with value 0 for each label that the configuration names.
[operations.md](operations.md#recommended-alerts) has recommended alerts.

| metric | type | labels | meaning |
|---|---|---|---|
";

const LOG: &str = "
## Log fields

The relay logs to standard error. With `--log-format json` each line is a JSON object with `timestamp`, `level`,
`message`, `target` and some of these fields, which have the same meaning in all messages.

| field | meaning |
|---|---|
";

/// One source receives a message, so that all labels exist. The other one keeps the relay running.
const ROUTES: &str = "
version: 1
sources:
  samples: { recording: { path: samples.ndjson } }
  regards: { amqp: { url: \"amqp://127.0.0.1:1\", queue: none } }
sinks: { archive: { file: { path: archive.ndjson } } }
routes: [{ name: everything, to: archive }]
alerts: [{ name: overdue, overdue: { within: 24h }, to: archive }]
unrouted: drop";

const SAMPLE: &str = r#"{"properties": {"headers": {"regards.tenant": "esa"}}, "body": {"correlationId": "c-1", "responseStatus": "GRANTED"}}"#;

#[tokio::test]
async fn the_metrics_reference_is_up_to_date() {
    let home = Home::new(ROUTES);
    home.write("samples.ndjson", SAMPLE);
    let relay = home.start();
    relay.wait_for_metric("deliveries_total", &[("result", "delivered")], 1.0).await;
    let (_, shown) = relay.page("/metrics").await.expect("metrics");
    relay.stop().await;
    expect_file!["../../../../docs/metrics.md"].assert_eq(&page(&shown));
}

fn page(shown: &str) -> String {
    let mut page = INTRODUCTION.to_owned();
    let lines: Vec<&str> = shown.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) else { continue };
        let kind = lines[at + 1].rsplit(' ').next().expect("a type");
        let labels = labels(lines.get(at + 2).expect("a sample"), name);
        let _ = writeln!(page, "| `{name}` | {kind} | {} | {help} |", labels.join(", "));
    }
    page.push_str(LOG);
    for (field, meaning) in LOG_FIELDS {
        let _ = writeln!(page, "| `{field}` | {meaning} |");
    }
    page
}

/// The labels of the sample in that line, without the bound of a bucket.
fn labels(sample: &str, metric: &str) -> Vec<String> {
    assert!(sample.starts_with(metric), "{metric} has no sample");
    let inside = sample.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    let labels = inside.into_iter().flat_map(|(labels, _)| labels.split("\","));
    labels
        .filter_map(|label| label.split_once('='))
        .map(|(label, _)| format!("`{label}`"))
        .filter(|label| label != "`le`")
        .collect()
}
