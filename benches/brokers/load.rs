//! Fills the queue before a measurement.

use super::case::{STATUSES, TENANTS};
use super::support::{Regards, Response};

/// Unconfirmed publishes at a time.
const BATCH: u64 = 10_000;

pub async fn fill(regards: &Regards, events: u64) {
    let mut next = 0;
    while next < events {
        let end = (next + BATCH).min(events);
        let batch: Vec<Response> = (next..end).map(response).collect();
        regards.publish_all(&batch).await;
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
    let tenant = format!("tenant-{}", place % TENANTS);
    Response::new(&tenant, &format!("1c0a8a5e-6b1f-4b9e-9d0e-{number:012}"), status.expect("one of them").0)
        .field("productId", format!("URN:AIP:DATA:{tenant}:4f2e6a10-9f5b-3c43-b15e-{number:012}:V1"))
        .field("session", "2023-04-14 nominal")
        .field("expires", "2023-04-21T08:46:17.000Z")
}
