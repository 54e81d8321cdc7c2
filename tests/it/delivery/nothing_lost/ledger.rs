//! Compares what was published with what arrived.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::Response;
use crate::support::kafka::Record;

/// Maps (correlationId, status) to the copies of that event that arrived.
pub type Copies = BTreeMap<(String, String), Arrived>;

#[derive(Debug, Clone)]
pub struct Arrived {
    pub id: String,
    pub count: usize,
    /// Position of the first copy within its partition or file, the unit that keeps an order.
    first: (String, usize),
}

/// Collects the copies from Kafka records. Order is checked within each partition.
pub fn copies(records: &[Record]) -> Copies {
    of_events(records.iter().map(|record| (format!("{}/{}", record.topic, record.partition), record.json())))
}

/// Takes pairs of partition or file and event, in the order of arrival.
pub fn of_events(events: impl Iterator<Item = (String, Value)>) -> Copies {
    let mut copies = Copies::new();
    for (position, (lane, event)) in events.enumerate() {
        let text = |field: &str| event[field].as_str().expect("a text").to_owned();
        let first = Arrived { id: text("id"), count: 0, first: (lane, position) };
        let arrived = copies.entry((text("correlationId"), text("status"))).or_insert(first);
        assert_eq!(arrived.id, text("id"), "every copy has the same id: {event}");
        arrived.count += 1;
    }
    copies
}

/// Checks that every published event arrived and no other, and that each request's GRANTED came before its SUCCESS.
pub fn assert_nothing_lost(published: &[Response], arrived: &Copies) {
    let mut lost = Vec::new();
    for response in published {
        let body: Value = serde_json::from_slice(&response.body).expect("JSON");
        let text = |field: &str| body[field].as_str().expect("a text").to_owned();
        let event = (text("correlationId"), text("responseStatus"));
        if !arrived.contains_key(&event) {
            lost.push(event);
        }
    }
    let some = &lost[..lost.len().min(10)];
    assert!(lost.is_empty(), "{} of {} lost: {some:?} …", lost.len(), published.len());
    assert_eq!(arrived.len(), published.len(), "nothing came from nowhere");

    for ((correlation_id, status), success) in arrived {
        if status == "SUCCESS" {
            let granted = &arrived[&(correlation_id.clone(), "GRANTED".to_owned())];
            assert_eq!(granted.first.0, success.first.0, "{correlation_id}: one key, one partition");
            assert!(granted.first.1 < success.first.1, "{correlation_id}: SUCCESS came before GRANTED");
        }
    }
}
