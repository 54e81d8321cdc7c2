//! The `recording` source: samples from a file go the same way as messages from a broker.

use std::io::Write;

use serde_json::json;

use crate::support::{Home, lines_of};

#[tokio::test]
async fn samples_are_relayed_and_the_relay_ends_with_them() {
    let home = Home::new(
        r"
version: 1
sources:
  samples:
    recording: { path: samples.ndjson, repeat: 2 }
    expects: lta
sinks:
  archive: { file: { path: 'archive/{{ tenant }}.ndjson' } }
  screen: { stdout: {} }
routes: [{ name: all, to: [archive, screen] }]
unrouted: dead_letter
",
    );
    let mut samples = Vec::new();
    for (number, status) in ["GRANTED", "SUCCESS"].iter().enumerate() {
        let body = json!({ "correlationId": format!("c-{number}"), "responseStatus": status });
        let properties = json!({ "app_id": "rs-lta-manager", "timestamp": 1_681_461_977 + number,
                                 "headers": { "regards.tenant": "cnes-a" } });
        writeln!(samples, "{}", json!({ "properties": properties, "body": body.to_string() })).unwrap();
    }
    writeln!(samples, "{}", json!({ "properties": { "headers": {} }, "body": "{}" })).unwrap();
    home.write("samples.ndjson", &String::from_utf8(samples).unwrap());

    let relay = home.start();
    let archive = home.data("archive/cnes-a.ndjson");
    let status = relay.ended().await;
    assert_eq!(status.code(), Some(0), "{status}");

    let statuses: Vec<_> = lines_of(&archive).iter().map(|event| event["status"].clone()).collect();
    assert_eq!(statuses, ["GRANTED", "SUCCESS", "GRANTED", "SUCCESS"]);
    assert_eq!(lines_of(&archive)[0]["source"], "samples");
    let on_screen: Vec<serde_json::Value> =
        home.output().lines().map(|line| serde_json::from_str(line).expect("only events on stdout")).collect();
    assert_eq!(on_screen, lines_of(&archive));
    assert_eq!(home.dead_letters().len(), 2);
}
