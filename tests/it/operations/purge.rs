//! Purging dead letters, with a running relay and without one.

use crate::support::{Home, Regards, Response, until};

#[tokio::test]
async fn dead_letters_are_purged_beside_a_relay_and_without_one() {
    let regards = Regards::new().await;
    let home = Home::of(
        &regards,
        r#"
version: 1
sources: { regards: { amqp: { url: "${REGARDS}", queue: "${QUEUE}" }, expects: lta } }
sinks: { archive: { file: { path: archive.ndjson } } }
routes: [{ name: all, to: archive }]
unrouted: dead_letter
"#,
    );
    let relay = home.start_ready().await;
    for body in ["not JSON", "nor this", "[]"] {
        let mut response = Response::new("t", "purged", "SUCCESS");
        response.body = body.as_bytes().to_vec();
        regards.publish(&response).await;
    }
    relay.wait_for_metric("dead_letters_total", &[], 3.0).await;

    assert_eq!(purge(&home, &["--reason", "not_json", "--limit", "1"]), r#"{"purged":1}"#);
    assert_eq!(purge(&home, &["--reason", "not_json"]), r#"{"purged":1}"#);
    assert_eq!(purge(&home, &["--tenant", "other"]), r#"{"purged":0}"#);
    until("the relay to have counted what is left", async || match relay.metric("dead_letters_stored", &[]).await? {
        Some(1.0) => Ok(()),
        seen => Err(format!("{seen:?}")),
    })
    .await;
    let left: Vec<_> = home.dead_letters().iter().map(|letter| letter["reason"].to_string()).collect();
    assert_eq!(left, [r#""not_an_object""#]);

    // The socket of the killed relay remains, and no process answers on it.
    relay.kill();
    assert_eq!(purge(&home, &["--yes"]), r#"{"purged":1}"#);
    assert!(home.dead_letters().is_empty());
}

fn purge(home: &Home, which: &[&str]) -> String {
    let purged = home.run(&[&["dead-letters", "purge", "--json"], which].concat());
    assert!(purged.status.success(), "{}", String::from_utf8_lossy(&purged.stderr));
    String::from_utf8(purged.stdout).expect("UTF-8").trim().to_owned()
}
