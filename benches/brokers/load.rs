//! Fills the queue before a measurement.

use std::time::Duration;

use super::case::{Case, STATUSES, TENANTS};
use super::support::{Regards, Response};

/// Unconfirmed publishes at a time.
const BATCH: u64 = 10_000;
/// The time between two batches of a steady load.
const BETWEEN_BATCHES: Duration = Duration::from_millis(20);
/// So many requests are open at a time in a load of pairs: more than are in flight, so that no event waits for another one of its request.
const OPEN_REQUESTS: u64 = 5_000;

pub async fn fill(regards: &Regards, case: Case, events: u64) {
    let response = if case.is_paired() { paired_response } else { response };
    let mut next = 0;
    while next < events {
        let end = (next + BATCH).min(events);
        let batch: Vec<Response> = (next..end).map(response).collect();
        regards.publish_all(&batch).await;
        next = end;
    }
}

/// Publishes that many events at this rate, in events per second.
pub async fn fill_steadily(regards: &Regards, events: u64, rate: u64) {
    let mut ticks = tokio::time::interval(BETWEEN_BATCHES);
    let batch = (rate * u64::try_from(BETWEEN_BATCHES.as_millis()).expect("it fits") / 1_000).max(1);
    let mut next = 0;
    while next < events {
        ticks.tick().await;
        let end = (next + batch).min(events);
        regards.publish_all(&(next..end).map(response).collect::<Vec<_>>()).await;
        next = end;
    }
}

/// A response of typical size, about 300 bytes.
pub fn response(number: u64) -> Response {
    let place = usize::try_from(number).expect("it fits");
    let mut share = (place / TENANTS) % STATUSES.iter().map(|(_, share)| share).sum::<usize>();
    let status = STATUSES.iter().find(|(_, count)| {
        let is_it = share < *count;
        share = share.saturating_sub(*count);
        is_it
    });
    of_request(number, status.expect("one of them").0)
}

/// A response of the same size, one of two to its request.
fn paired_response(number: u64) -> Response {
    let (turn, place) = (number / (2 * OPEN_REQUESTS), number % (2 * OPEN_REQUESTS));
    let status = if place < OPEN_REQUESTS { "GRANTED" } else { "SUCCESS" };
    of_request(turn * OPEN_REQUESTS + place % OPEN_REQUESTS, status)
}

fn of_request(number: u64, status: &str) -> Response {
    let tenant = format!("tenant-{}", number % TENANTS as u64);
    Response::new(&tenant, &format!("1c0a8a5e-6b1f-4b9e-9d0e-{number:012}"), status)
        .field("productId", format!("URN:AIP:DATA:{tenant}:4f2e6a10-9f5b-3c43-b15e-{number:012}:V1"))
        .field("session", "2023-04-14 nominal")
        .field("expires", "2023-04-21T08:46:17.000Z")
}
