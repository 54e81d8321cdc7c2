//! Alerts: requests that stay without an end, and parts of the relay that don't work.

mod conditions;
mod overdue;
