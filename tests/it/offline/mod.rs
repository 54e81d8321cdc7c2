//! What can be tested with nothing but the source and the binary.

mod alerts;
mod asyncapi;
mod cases;
mod compare;
mod documents;
mod example_files;
mod explain;
mod graph;
mod init;
mod layers;
mod redrive;
mod style;
