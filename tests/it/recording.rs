//! The `recording` source: samples from a file take the same way as messages from a broker.

use std::io::Write;

use serde_json::json;

use crate::support::{Home, lines_of, until};

#[tokio::test]
async fn samples_are_relayed_and_the_relay_goes_on() {
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

    let mut relay = home.start();
    let archive = home.data("archive/cnes-a.ndjson");
    until("both samples, twice", async || match lines_of(&archive).len() {
        seen if seen >= 4 => Ok(()),
        seen => Err(seen.to_string()),
    })
    .await;
    relay.wait_for_metric("dead_letters_total", &[], 2.0).await;
    relay.wait_until_ready().await;
    assert!(relay.runs(), "what is recorded may end, the relay doesn't");
    relay.stop().await;

    let statuses: Vec<_> = lines_of(&archive).iter().map(|event| event["status"].clone()).collect();
    assert_eq!(statuses, ["GRANTED", "SUCCESS", "GRANTED", "SUCCESS"]);
    assert_eq!(lines_of(&archive)[0]["source"], "samples");
    let on_screen: Vec<serde_json::Value> =
        home.output().lines().map(|line| serde_json::from_str(line).expect("only events on stdout")).collect();
    assert_eq!(on_screen, lines_of(&archive));
    assert_eq!(home.dead_letters().len(), 2);
}
