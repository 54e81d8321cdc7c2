//! What an operator sees and does: commands, metrics, pauses, redrives, reloads.

mod backlog;
mod check_connect;
mod check_postgres;
mod commands;
mod dead_tasks;
mod jobs;
mod metrics;
mod orphans;
mod pause_and_reload;
mod postgres_connections;
mod purge;
mod replay;
mod send_test;
mod stalled_readers;
mod status;
mod trace;
