//! From the event to the settled delivery: nothing is lost or out of order, and no sink, disk or clock that fails
//! affects another sink.

mod clean_stop;
mod clock_jumps;
mod damaged_rows;
mod dead_letter_copies;
mod digests;
mod failure_blame;
mod fsync_before_ack;
mod full_dead_letters;
mod full_disk;
mod full_spool;
mod isolation;
mod memory;
mod nothing_lost;
mod regrouping;
