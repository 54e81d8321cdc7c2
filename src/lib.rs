//! A rule-driven relay from REGARDS' responses on `RabbitMQ` to Kafka topics, webhooks, AMQP exchanges and files.
//!
//! The library is internal: the product is the program, and its promises are its configuration, commands and formats.
//!
//! The modules in the order data flows; each may use those above it and knows nothing of those below (a test reads the
//! source and says so):
//!
//! - [`failpoints`]: faults that tests enable to show that they would notice them; a release build has none.
//! - [`tasks`]: the threads and tasks of the relay; a panic in one of them ends it.
//! - [`telemetry`]: the log.
//! - [`timer`]: a timer for `select!` loops, and long waits that tests shorten.
//! - [`clock`]: the wall clock, for what people read, and the time since boot, for all waiting and all ages.
//! - [`net`]: TLS of a client, forbidden addresses, back-off, rate limits.
//! - [`event`]: a [`Message`](event::Message) becomes an [`Event`](event::Event), and an event becomes bytes.
//! - [`rules`]: an event becomes a [`Plan`](rules::Plan): which sinks get it, and which route says so.
//! - [`config`]: `routes.yaml` becomes a [`Config`](config::Config), every mistake at its line.
//! - [`amqp`]: what a source and a sink on a broker share: connecting, values, errors in plain words.
//! - [`probe`]: the result of `check --connect` for one source or sink.
//! - [`source`]: messages come in with a [`Receipt`](source::Receipt); the watermark acknowledges what is settled.
//! - [`sink`]: one rendered event goes out in an [`Attempt`](sink::Attempt), which ends in one [`Verdict`](sink::Verdict).
//! - [`dry_run`]: what the relay would do with one message, without sending anything.
//! - [`spool`]: what is kept on disk: deliveries that wait, and dead letters.
//! - [`delivery`]: one event for one sink, until it is settled: lanes and retries.
//! - [`relay`]: all of it together: start, stop.
//! - [`admin`]: health and metrics over HTTP; the control socket.
//! - [`cli`]: one file a command.

// A test is as long as the story that it tells.
#![cfg_attr(test, allow(clippy::too_many_lines))]

pub mod admin;
pub mod amqp;
pub mod cli;
pub mod clock;
pub mod config;
pub mod delivery;
pub mod dry_run;
pub mod event;
pub mod failpoints;
pub mod net;
pub mod probe;
pub mod relay;
pub mod rules;
pub mod sink;
pub mod source;
pub mod spool;
pub mod tasks;
pub mod telemetry;
pub mod timer;
