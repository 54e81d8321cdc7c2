//! The relay from outside: the built binary between real brokers, each destination read by a client of its own.
//!
//! `make test` runs all of it; `scripts/services.sh run -- cargo test --test it NAME` runs some. What is in `offline`
//! needs no broker.

// A test that panics has failed, which is what it is for.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]
// A test is as long as the story that it tells.
#![allow(clippy::too_many_lines)]

mod agreement;
mod backlog;
mod blame;
mod capture;
mod channel_limits;
mod clean_stop;
mod clock_jumps;
mod commands;
mod conformance;
mod connect;
mod damaged_rows;
mod dead_helpers;
mod dead_letter_copies;
mod examples;
mod families;
mod file_sinks;
mod full_dead_letters;
mod full_disk;
mod full_spool;
mod harness;
mod header_types;
mod invalid_messages;
mod isolation;
mod jobs;
mod main_job;
mod memory;
mod metrics;
mod nothing_lost;
mod offline;
mod operations;
mod orphans;
mod poisoned;
mod purge;
mod queue_kinds;
mod recording;
mod redelivery;
mod renewal;
mod rules;
mod secure_connections;
mod stalled_readers;
mod standing_by;
mod support;
mod system_calls;
mod tenants;
mod torture;
mod troubles;
mod unroutable;
