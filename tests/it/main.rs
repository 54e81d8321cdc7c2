//! The relay from outside: the built binary between real brokers. A client of its own reads each destination.
//!
//! `make test` runs all tests; `scripts/services.sh run -- cargo test --test it NAME` runs some. The tests in `offline`
//! need no broker.

// Tests report failures by panicking.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]
// Each test runs a complete scenario, which can be long.
#![allow(clippy::too_many_lines)]

#[macro_use]
mod configuration;
mod alerts;
mod delivery;
mod end_to_end;
mod examples;
mod explain_matches_run;
mod harness;
mod high_availability;
mod offline;
mod operations;
mod postgres;
mod routes;
mod sinks;
mod source;
mod support;
mod torture;
