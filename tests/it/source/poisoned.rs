//! No single message stops a source: bytes that are not UTF-8 where AMQP clients expect text, and silent brokers.

use std::collections::BTreeMap;

use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use crate::configuration::Edit;
use crate::support::raw_amqp::{Login, RawMessage, long, properties, publish_raw, short};
use crate::support::regards::EXCHANGE;
use crate::support::response::lives;
use crate::support::{Home, Regards, until};

const ROUTES: &str = r#"
version: 1
sources: { regards: { amqp: { url: "${REGARDS}", queue: "${QUEUE}" }, expects: lta, validation: VALIDATION } }
sinks: { archive: { file: { path: archive.ndjson }, order_by: none } }
routes: [{ name: all, to: archive }]
unrouted: dead_letter
"#;

/// Invalid UTF-8 between valid characters.
const POISON: &[u8] = b"caf\xe9 \xc3\xa9";

/// The bit of each property's flag, and the name of the property in the warning.
const PROPERTIES: [(u16, &str); 9] = [
    (15, "content_type"),
    (10, "correlation_id"),
    (9, "reply_to"),
    (7, "message_id"),
    (5, "type"),
    (3, "app_id"),
    (2, "cluster_id"),
    (0, "a header's name"),
    (0, "the name of a header in a table in an array"),
];

/// Each invalid property: its name, the properties of a message of this tenant, and the routing key.
pub fn poisoned(tenant: &str) -> Vec<(&'static str, Vec<u8>, &'static [u8])> {
    let name = [&short(POISON)[..], b"V"].concat();
    let table = [&b"F"[..], &long(&name)].concat();
    let deep = [&short(b"list")[..], b"A", &long(&table)].concat();
    let mut messages: Vec<_> = PROPERTIES
        .iter()
        .map(|(bit, what)| match *what {
            "a header's name" => (*what, properties(tenant, &[], &name), &b""[..]),
            "the name of a header in a table in an array" => (*what, properties(tenant, &[], &deep), &b""[..]),
            _ => (*what, properties(tenant, &[(*bit, POISON)], &[]), &b""[..]),
        })
        .collect();
    messages.push(("the routing key", properties(tenant, &[], &[]), POISON));
    messages
}

fn body(id: &str) -> String {
    serde_json::json!({ "correlationId": id, "responseStatus": "SUCCESS" }).to_string()
}

async fn publish_poisoned(regards: &Regards, what: &'static str, properties: Vec<u8>, routing_key: &'static [u8]) {
    let publish = move |login: &Login<'_>| {
        let body = body(what);
        publish_raw(login, EXCHANGE, &[RawMessage { routing_key, properties, body: body.as_bytes() }]);
    };
    regards.publish_by_hand(publish).await;
}

#[tokio::test]
async fn a_property_that_is_not_utf8_blocks_no_later_message() {
    const BEHIND: usize = 1_000;
    let regards = Regards::new().await;
    regards.use_cheap_queue().await;
    let home = Home::of(&regards, &ROUTES.edit("VALIDATION", "lenient"));
    // With this memory limit, the thread stacks of earlier versions do not fit.
    let relay = home.start_under(&["sh", "-c", r#"ulimit -v 1048576; exec "$0" "$@""#]);
    relay.wait_until_ready().await;
    let cases = poisoned("t");
    for (number, (what, properties, routing_key)) in cases.iter().enumerate() {
        publish_poisoned(&regards, what, properties.clone(), routing_key).await;
        let behind = lives("t", &format!("behind {number}"), BEHIND / 2);
        regards.publish_all(&behind).await;
    }
    let lines = home.wait_for_lines("archive.ndjson", cases.len() * (BEHIND + 1)).await;
    assert_eq!(relay.metric("source_reconnects_total", &[]).await, Ok(Some(0.0)));
    relay.stop().await;
    assert_eq!(lines.len(), cases.len() * (BEHIND + 1), "each once");
    let events: BTreeMap<&str, &Value> =
        lines.iter().map(|event| (event["correlationId"].as_str().expect("text"), event)).collect();
    for (what, ..) in &cases {
        let warnings = &events[what]["warnings"];
        let expected = match *what {
            "the routing key" => serde_json::json!([]),
            "a header's name" | "the name of a header in a table in an array" => {
                serde_json::json!([r#"the name of a header is not UTF-8 ("caf\xe9 \xc3\xa9"); it is kept as "caf? é""#])
            }
            what => serde_json::json!([format!(r#"the property {what} is not UTF-8 ("caf\xe9 \xc3\xa9")"#)]),
        };
        assert_eq!(*warnings, expected, "{what}");
    }
    regards.assert_left_as_found().await;
}

#[tokio::test]
async fn strict_validation_makes_it_a_dead_letter_with_its_bytes() {
    let regards = Regards::new().await;
    let home = Home::of(&regards, &ROUTES.edit("VALIDATION", "strict"));
    // Inspecting the queue must be as safe as consuming it.
    publish_poisoned(&regards, "message_id", properties("t", &[(7, POISON)], &[]), b"").await;
    let captured = home.does(&["capture", "--count", "1"]);
    let captured: Value = serde_json::from_str(&captured).expect("a sample");
    assert_eq!(captured["properties"]["not_utf8"]["message_id"]["$binary"], "Y2Fm6SDDqQ==", "{captured}");
    let relay = home.start_ready().await;
    relay.wait_for_metric("dead_letters_total", &[("reason", "invalid_field")], 1.0).await;
    relay.stop().await;
    let letters = home.dead_letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0]["detail"], r#"the property message_id is not UTF-8 ("caf\xe9 \xc3\xa9")"#);
    assert_eq!(letters[0]["properties"]["message_id"], Value::Null);
    assert_eq!(letters[0]["properties"]["not_utf8"]["message_id"]["$binary"], "Y2Fm6SDDqQ==");
    regards.assert_left_as_found().await;
}

#[tokio::test]
async fn a_silent_broker_leaks_no_thread_and_no_socket() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = silent.local_addr().expect("an address").port();
    let url = format!("amqp://guest:guest@127.0.0.1:{port}");
    let home = Home::new(&ROUTES.edit("VALIDATION", "lenient")).with("REGARDS", &url).with("QUEUE", "any");
    let relay = home.start();
    for attempt in 1..=3 {
        let (mut socket, _) = silent.accept().await.expect("a connection");
        let mut header = [0; 8];
        socket.read_exact(&mut header).await.expect("AMQP's header");
        assert_eq!(&header, b"AMQP\0\0\x09\x01");
        let ended = tokio::time::timeout(std::time::Duration::from_mins(1), socket.read(&mut header)).await;
        assert!(matches!(ended, Ok(Ok(0) | Err(_))), "the socket of attempt {attempt} is open: {ended:?}");
        until("the threads of attempts that ended to be gone", async || match loops(relay.pid()) {
            0..=1 => Ok(()),
            more => Err(format!("{more} of lapin's threads")),
        })
        .await;
    }
    relay.stop().await;
}

/// Counts the lapin threads of a process.
fn loops(pid: u32) -> usize {
    let names = std::fs::read_dir(format!("/proc/{pid}/task")).expect("threads").filter_map(|thread| {
        // A thread may end while the test reads the list.
        std::fs::read_to_string(thread.ok()?.path().join("comm")).ok()
    });
    names.filter(|name| name.starts_with("lapin")).count()
}
