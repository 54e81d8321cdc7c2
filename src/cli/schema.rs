//! `schema`: the JSON Schemas.

use std::process::ExitCode;

/// The command's own arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {}

/// Does it.
pub fn run(_arguments: &Arguments) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`schema` is not built yet")
}
