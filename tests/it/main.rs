//! The relay from outside: the built binary between real brokers. A client of its own reads each destination.
//!
//! `make test` runs all tests; `scripts/services.sh run -- cargo test --test it NAME` runs some. The tests in `offline`
//! need no broker.

// A test that panics has failed, which is what it is for.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]
// A test is as long as the story that it tells.
#![allow(clippy::too_many_lines)]

#[macro_use]
mod configuration;
mod delivery;
mod end_to_end;
mod examples;
mod explain_matches_run;
mod harness;
mod offline;
mod operations;
mod routes;
mod sinks;
mod source;
mod support;
mod torture;
