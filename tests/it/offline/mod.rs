//! What can be tested with nothing but the source and the binary.

mod cases;
mod compare;
mod documents;
mod explain;
mod graph;
mod layers;
mod ready_rules;
mod redrive;
mod style;
