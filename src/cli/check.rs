//! `check`: every problem of routes.yaml at its line.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use super::{Global, WRONG_INPUT};
use crate::config::{Config, Options, Strictness};

/// The command's own arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Fail on warnings, too
    #[arg(long)]
    strict: bool,
}

/// Reads the file as far as that is possible without the machine it will run on, and says all that is wrong with it.
pub fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let options = Options::of_process(Strictness::Offline, Some(global.data_dir()));
    let checked = Config::load(&global.config, &options);
    let (config, found) = match &checked {
        Ok((config, warnings)) => (Some(config), warnings),
        Err(errors) => (None, errors),
    };
    let mut out = std::io::stderr().lock();
    let colour = out.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    out.write_all(found.render(colour).as_bytes())?;
    let path = global.config.display();
    let Some(config) = config else {
        writeln!(out, "{path}: {}, {}", counted(found.errors(), "error"), counted(found.warnings(), "warning"))?;
        return Ok(ExitCode::from(WRONG_INPUT));
    };
    writeln!(
        out,
        "{path}: {}, {}, {}; {}",
        counted(config.sources.len(), "source"),
        counted(config.sinks.len(), "sink"),
        counted(config.rules.routes.len(), "route"),
        counted(found.warnings(), "warning"),
    )?;
    let refused = arguments.strict && found.warnings() > 0;
    Ok(if refused { ExitCode::from(WRONG_INPUT) } else { ExitCode::SUCCESS })
}

fn counted(number: usize, what: &str) -> String {
    match number {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}
