//! `capture` prints samples of incoming messages.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::{Home, Regards, Response, until};

const ROUTES: &str = r#"
version: 1
sources: { regards: { amqp: { url: "${REGARDS}", queue: "${QUEUE}" }, expects: lta } }
sinks: { archive: { file: { path: archive.ndjson } } }
routes: [{ name: all, to: archive }]
unrouted: drop
"#;

fn messages(ids: &[&str]) -> Vec<Response> {
    ids.iter().map(|id| Response::new("esa", id, "GRANTED").field("name", "é \" \\ ")).collect()
}

/// The bodies of the samples. Each sample must hold the complete message.
fn bodies(samples: &str, published: &[Response]) -> Vec<String> {
    let sample = |line: &str| serde_json::from_str::<Value>(line).expect("a sample");
    let samples: Vec<_> = samples.lines().map(sample).collect();
    for sample in &samples {
        let original = published.iter().map(Response::sample).find(|original| {
            let original: Value = serde_json::from_str(original).expect("a sample");
            original == *sample
        });
        assert!(original.is_some(), "{sample}");
    }
    samples.iter().map(|sample| sample["body"].as_str().expect("text").to_owned()).collect()
}

#[tokio::test]
async fn capture_without_a_relay_gives_the_messages_back() {
    let regards = Regards::new().await;
    let home = Home::of(&regards, ROUTES);
    let published = messages(&["one", "two", "three"]);
    regards.publish_all(&published).await;
    let captured = home.does(&["capture", "--count", "2"]);
    assert_eq!(bodies(&captured, &published).len(), 2);
    let captured = home.does(&["capture", "--count", "9"]);
    assert_eq!(bodies(&captured, &published).len(), 3, "and no more");
    assert_eq!(regards.vhost.left_in(&regards.queue).await, 3);
    home.write("samples.ndjson", &captured);
    let explained: Value = serde_json::from_str(&home.does(&["explain", "samples.ndjson#1", "--json"])).expect("JSON");
    assert_eq!(explained["event"]["tenant"], json!("esa"));

    let relay = home.start_ready().await;
    let lines = home.wait_for_lines("archive.ndjson", 3).await;
    assert_eq!(lines[0]["id"], explained["event"]["id"], "the same message is the same event");
    relay.stop().await;
    regards.assert_left_as_found().await;
}

#[tokio::test]
async fn capture_beside_a_relay_does_not_delay_it() {
    let regards = Regards::new().await;
    let home = Home::of(&regards, ROUTES);
    let relay = home.start_ready().await;
    let mut capture = home.begin(&["capture", "--source", "regards", "--count", "2"], Stdio::piped());
    let mut endless = home.begin(&["capture", "--count", "1000000"], Stdio::piped());
    let mut published = Vec::new();
    // Publishes until both captures receive messages.
    until("what was captured", async || {
        let more = messages(&[&format!("c-{}", published.len())]);
        regards.publish_all(&more).await;
        published.extend(more);
        capture.try_wait().expect("a process").map(drop).ok_or("not yet".to_owned())
    })
    .await;
    let captured = capture.wait_with_output().expect("its output");
    assert!(captured.status.success());
    assert_eq!(bodies(&String::from_utf8_lossy(&captured.stdout), &published).len(), 2);
    endless.kill().expect("killed");
    endless.wait().expect("ended");
    let more = messages(&["last"]);
    regards.publish_all(&more).await;
    home.wait_for_lines("archive.ndjson", published.len() + 1).await;
    let unknown = home.run(&["capture", "--source", "regrads"]);
    assert_eq!(unknown.status.code(), Some(2), "{}", String::from_utf8_lossy(&unknown.stderr));
    relay.stop().await;
    regards.assert_left_as_found().await;
}
