//! `check`: every problem of routes.yaml at its line; and, where asked, of what it connects to.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{self, StreamExt};

use super::{Global, WRONG_INPUT, counted};
use crate::config::{Config, Options, Strictness};
use crate::probe::{ProbeOutcome, ProbeResult};
use crate::spool::lost_at_reboot;
use crate::telemetry::printable;
use crate::{sink, source};

/// How many sources and sinks are tried at once.
const TRIED_AT_ONCE: usize = 16;

/// The command's own arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The file [default: what `--config` names]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Fail on warnings, too
    #[arg(long)]
    strict: bool,
    /// Try every source and sink, too: connect and log in, without taking or sending anything
    #[arg(long)]
    connect: bool,
}

/// Says all that is wrong with the file, as far as it can be read without the machine it will run on; with `--connect` this
/// is that machine.
pub fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let &Arguments { strict, connect, .. } = arguments;
    let file = arguments.file.as_ref().unwrap_or(&global.config);
    let strictness = if connect { Strictness::Run } else { Strictness::Offline };
    let options = Options::of_process(strictness, Some(global.data_dir()));
    // Not locked: what connects may have something to log.
    let mut out = UntilClosed(std::io::stderr());
    let colour = out.0.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let Some(config) = check(file, &options, strict, colour, &mut out)? else {
        return Ok(ExitCode::from(WRONG_INPUT));
    };
    if !connect {
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let tried = runtime.block_on(try_all(&config, strict, &mut out));
    // What hangs in a resolver must not hold up the exit.
    runtime.shutdown_background();
    Ok(if tried? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whoever reads may have seen enough: what is found still says how this ends.
struct UntilClosed<W>(W);

impl<W: Write> Write for UntilClosed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(bytes.len()),
            written => written,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Tries every source and sink, and says what each comes to. Whether all are there; with `strict`, beyond doubt.
async fn try_all(config: &Config, strict: bool, out: &mut impl Write) -> io::Result<bool> {
    let relay = &config.name;
    let sources = config.sources.iter().map(|of| (format!("source {}", of.name), source::probe(of, relay).boxed()));
    let sinks = config.sinks.iter().map(|of| (format!("sink {}", of.name), sink::probe(of, relay).boxed()));
    let tried =
        sources.chain(sinks).map(|(name, probe): (_, BoxFuture<'_, ProbeResult>)| async { (name, probe.await) });
    let mut tried = stream::iter(tried.collect::<Vec<_>>()).buffered(TRIED_AT_ONCE);
    let mut right = true;
    while let Some((name, probed)) = tried.next().await {
        let (level, is_right, what) = match probed {
            Ok(ProbeOutcome::Reachable(what)) => ("ok", true, what),
            Ok(ProbeOutcome::Warning(what)) => ("warning", !strict, what),
            Err(what) => ("error", false, what),
        };
        right &= is_right;
        writeln!(out, "{level}: {name}: {}", printable(&what))?;
    }
    if let Some(warning) = lost_at_reboot(&config.spool.path) {
        right &= !strict;
        writeln!(out, "warning: {}", printable(&warning))?;
    }
    Ok(right)
}

/// The configuration of a file that can be used; with `strict`, only of one that nothing is said about.
fn check(
    path: &Path,
    options: &Options,
    strict: bool,
    colour: bool,
    out: &mut impl Write,
) -> io::Result<Option<Config>> {
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
    let fails = strict && found.warnings() > 0;
    Ok(checked.ok().map(|(config, _)| config).filter(|_| !fails))
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
        let right = check(&path, &options, false, false, &mut out).unwrap().is_some();
        let strict = check(&path, &options, true, false, &mut Vec::new()).unwrap().is_some();
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
