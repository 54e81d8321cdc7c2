//! Alerts: requests that stay without an end, and parts of the relay that don't work.

mod changed_configuration;
mod conditions;
mod outages;
mod overdue;
mod time;
