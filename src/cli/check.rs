//! `check`: every problem of routes.yaml at its line.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use super::{Global, WRONG_INPUT, counted};
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
    let mut out = std::io::stderr().lock();
    let colour = out.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let right = check(&global.config, &options, arguments.strict, colour, &mut out)?;
    Ok(if right { ExitCode::SUCCESS } else { ExitCode::from(WRONG_INPUT) })
}

/// Whether the file can be used; with `strict`, only one that nothing is said about.
fn check(path: &Path, options: &Options, strict: bool, colour: bool, out: &mut impl Write) -> io::Result<bool> {
    let checked = Config::load(path, options);
    let (Ok((_, found)) | Err(found)) = &checked;
    out.write_all(found.render(colour).as_bytes())?;
    let (shown, warnings) = (path.display(), counted(found.warnings(), "warning"));
    match &checked {
        Ok((config, _)) => {
            let sources = counted(config.sources.len(), "source");
            let sinks = counted(config.sinks.len(), "sink");
            let routes = counted(config.rules.routes().len(), "route");
            writeln!(out, "{shown}: {sources}, {sinks}, {routes}; {warnings}")?;
        }
        Err(_) => writeln!(out, "{shown}: {}, {warnings}", counted(found.errors(), "error"))?,
    }
    Ok(checked.is_ok() && !(strict && found.warnings() > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a file is right, without and with `--strict`, and the last line about it.
    fn checked(text: &str) -> (bool, bool, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("routes.yaml");
        std::fs::write(&path, text).unwrap();
        let options = Options::of_process(Strictness::Offline, None);
        let mut out = Vec::new();
        let right = check(&path, &options, false, false, &mut out).unwrap();
        let strict = check(&path, &options, true, false, &mut Vec::new()).unwrap();
        let said = String::from_utf8(out).unwrap();
        let last = said.lines().last().unwrap_or_default().rsplit_once("routes.yaml: ").unwrap().1.to_owned();
        (right, strict, last)
    }

    const RIGHT: &str = "version: 1
sources: { regards: { amqp: { url: amqp://localhost, queue: q } } }
sinks: { screen: { stdout: {} } }
routes: [{ name: all, to: screen }]
unrouted: drop
";

    #[test]
    fn one_line_says_how_it_went() {
        assert_eq!(checked(RIGHT), (true, true, "1 source, 1 sink, 1 route; no warnings".to_owned()));
        let unused = RIGHT.replace("stdout: {} } }", "stdout: {} }, other: { stdout: {} } }");
        assert_eq!(checked(&unused), (true, false, "1 source, 2 sinks, 1 route; 1 warning".to_owned()));
        let wrong = RIGHT.replace("to: screen", "too: screen").replace("queue", "queu");
        assert_eq!(checked(&wrong), (false, false, "4 errors, no warnings".to_owned()));
    }
}
