//! `dead-letters`: what could not be read or delivered.

use std::process::ExitCode;

use super::Global;

/// What to do with them.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List them, the newest first
    List,
    /// Show one, whole
    Show,
}

/// Does it.
pub fn run(_global: &Global, _command: &Command) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`dead-letters` is not built yet")
}
