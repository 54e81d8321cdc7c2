//! `demo`: the whole relay on one machine.

use std::process::ExitCode;

use super::Global;

/// The command's own arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {}

/// Does it.
pub fn run(_global: &Global, _arguments: &Arguments) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`demo` is not built yet")
}
