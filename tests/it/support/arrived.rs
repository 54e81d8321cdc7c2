//! Checks of the events that arrived at a destination.

use std::collections::BTreeMap;

use serde_json::Value;

/// Checks that this number of events arrived, each of them once.
pub fn assert_each_once(destination: &str, events: &[Value], count: usize) {
    let mut copies = BTreeMap::<&str, usize>::new();
    for event in events {
        *copies.entry(event["id"].as_str().expect("an id")).or_default() += 1;
    }
    let repeated = copies.values().filter(|&&copies| copies > 1).count();
    assert_eq!((copies.len(), repeated), (count, 0), "{destination}: (events, of them repeated)");
}

/// Checks that the first GRANTED of each request came before its first SUCCESS.
pub fn assert_in_order(events: impl Iterator<Item = Value>) {
    let mut requests = BTreeMap::<String, Vec<String>>::new();
    for event in events {
        let statuses = requests.entry(event["correlationId"].to_string()).or_default();
        let status = event["status"].as_str().expect("a status").to_owned();
        if !statuses.contains(&status) {
            statuses.push(status);
        }
    }
    for (request, statuses) in requests {
        assert_eq!(statuses, ["GRANTED", "SUCCESS"], "{request}");
    }
}
