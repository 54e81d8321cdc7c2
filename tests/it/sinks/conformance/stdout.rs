//! Standard output: the promises that apply to it.

use serde_json::Value;

use crate::support::response::lives;
use crate::support::{Home, Regards, until};

#[tokio::test]
async fn every_event_is_one_line_in_order() {
    let regards = Regards::new().await;
    let home = Home::of(
        &regards,
        r#"
version: 1
sources: { regards: { amqp: { url: "${REGARDS}", queue: "${QUEUE}" }, expects: lta } }
sinks: { screen: { stdout: {} } }
routes: [{ name: all, to: screen }]
unrouted: dead_letter
"#,
    );
    let relay = home.start_ready().await;
    regards.publish_all(&lives("t", "screen", 50)).await;
    let shown = || -> Vec<Value> {
        home.output().lines().map(|line| serde_json::from_str(line).expect("only events on stdout")).collect()
    };
    until("100 lines", async || match home.output().matches('\n').count() {
        seen if seen >= 100 => Ok(()),
        seen => Err(seen.to_string()),
    })
    .await;
    relay.stop().await;
    let statuses: Vec<_> = shown().iter().map(|event| event["status"].clone()).collect();
    assert_eq!(statuses, [vec!["GRANTED"; 50], vec!["SUCCESS"; 50]].concat());
    regards.assert_left_as_found().await;
}
