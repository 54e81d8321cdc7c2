//! A rule-driven relay from REGARDS' responses on `RabbitMQ` to Kafka topics, webhooks, AMQP exchanges and files.
//!
//! The library is internal: users rely on the program, its configuration, commands and formats.
//!
//! The modules are listed in the order of the data flow. Each imports only modules above it; a test reads the source and
//! fails on any other import.
//!
//! - [`failpoints`]: faults that tests enable to show that they would detect them; a release build has none.
//! - [`tasks`]: the threads and tasks of the relay; a panic in one of them ends it.
//! - [`telemetry`]: the log.
//! - [`timer`]: a timer for `select!` loops, and long waits that tests shorten.
//! - [`clock`]: the wall clock, for people, and the time since boot, for waits and ages.
//! - [`net`]: an HTTP client, TLS of a client, forbidden addresses, back-off, rate limits.
//! - [`event`]: a [`Message`](event::Message) becomes an [`Event`](event::Event), and an event becomes bytes.
//! - [`rules`]: an event becomes a [`Plan`](rules::Plan): which sinks get it, and by which route.
//! - [`config`]: `routes.yaml` becomes a [`Config`](config::Config); every mistake is reported at its line.
//! - [`oauth`]: access tokens by OAuth 2.0: fetched, shared and renewed.
//! - [`registry`]: the ids of schemas in a schema registry.
//! - [`amqp`]: what a source and a sink on a broker share: connecting, values, errors in plain words.
//! - [`postgres`]: connecting to PostgreSQL, errors in plain words.
//! - [`probe`]: the result of `check --connect` for one source or sink, or for the spool.
//! - [`source`]: receives messages, each with a [`Receipt`](source::Receipt); the watermark acknowledges settled messages.
//! - [`sink`]: sends one rendered event in an [`Attempt`](sink::Attempt), which ends with one [`Verdict`](sink::Verdict).
//! - [`dry_run`]: what the relay would do with one message, without sending anything.
//! - [`storage`]: what the SQLite files of the relay have in common.
//! - [`journal`]: a record of what became of each event, on disk.
//! - [`spool`]: deliveries and dead letters on disk.
//! - [`delivery`]: delivers one event to one sink until the delivery is settled: lanes, retries, breaker.
//! - [`trace`]: what became of one request: the journal, the spool and the dead letters together.
//! - [`relay`]: puts everything together: start, reload, stop.
//! - [`admin`]: health and metrics over HTTP; the control socket.
//! - [`cli`]: the command line, one file per command.

// A test may be as long as the scenario that it shows.
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
pub mod journal;
pub mod net;
pub mod oauth;
pub mod postgres;
pub mod probe;
pub mod registry;
pub mod relay;
pub mod rules;
pub mod sink;
pub mod source;
pub mod spool;
pub mod storage;
pub mod tasks;
pub mod telemetry;
pub mod timer;
pub mod trace;
