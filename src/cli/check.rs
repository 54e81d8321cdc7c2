//! `check`: every error and warning of the configuration with its line; with `--connect` also of its sources and sinks.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{self, StreamExt};

use super::{EXIT_INVALID_INPUT, Global, plural};
use crate::config::{Config, Options, PostgresConfig, StoreConfig, Strictness};
use crate::postgres::{self, ServerReport};
use crate::probe::{ProbeOutcome, ProbeResult};
use crate::rules::SinkIndex;
use crate::storage::in_memory_warning;
use crate::telemetry::{printable, use_colour};
use crate::{sink, source};

/// How many sources and sinks are probed at once.
const MAX_PROBES: usize = 16;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Configuration file [default: that of `--config`]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Fail also if there are only warnings
    #[arg(long)]
    strict: bool,
    /// Also connect and log in to every source and sink, and to the spool in PostgreSQL, without taking or sending a message
    #[arg(long)]
    connect: bool,
}

/// With `--connect` this has to be the machine on which the relay will run; without it, variables and files may be missing.
pub fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let &Arguments { strict, connect, .. } = arguments;
    let file = arguments.file.as_ref().unwrap_or(&global.config);
    let strictness = if connect { Strictness::Run } else { Strictness::Offline };
    let options = Options::of_process(strictness, Some(global.data_dir()));
    // Not locked: the probes may log.
    let mut out = IgnoreBrokenPipe(std::io::stderr());
    let Some(config) = check(file, &options, strict, &mut out)? else {
        return Ok(ExitCode::from(EXIT_INVALID_INPUT));
    };
    if !connect {
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("can't start threads")?;
    let probed = runtime.block_on(probe_all(&config, strict, &mut out));
    // A lookup that hangs in the resolver must not delay the exit.
    runtime.shutdown_background();
    Ok(if probed? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Output whose reader may close it early: the exit code still depends on all of the result.
struct IgnoreBrokenPipe<W>(W);

impl<W: Write> Write for IgnoreBrokenPipe<W> {
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

/// Probes every source and sink and prints the results. False if one failed, or with `strict` if there was a warning.
async fn probe_all(config: &Config, strict: bool, out: &mut impl Write) -> io::Result<bool> {
    let relay = &config.name;
    let sources = config.sources.iter().map(|one| (format!("source {}", one.name), source::probe(one, relay).boxed()));
    let sinks = config.sinks.iter().enumerate().map(|(index, one)| {
        let routes = config.rules.routes().iter().filter(move |route| route.to.contains(&SinkIndex(index)));
        let mut transforms: Vec<_> = routes.map(|route| route.transform.as_ref()).collect();
        if transforms.is_empty() {
            transforms.push(None);
        }
        (format!("sink {}", one.name), async move { sink::probe(one, relay, &transforms).await }.boxed())
    });
    let database = match &config.spool.store {
        StoreConfig::Postgres(database) => Some(database),
        StoreConfig::Sqlite(_) => None,
    };
    let spool = database.into_iter().map(|database| ("spool".to_owned(), probe_spool(database).boxed()));
    let probes = sources
        .chain(sinks)
        .chain(spool)
        .map(|(name, probe): (_, BoxFuture<'_, ProbeResult>)| async { (name, probe.await) });
    let mut probes = stream::iter(probes.collect::<Vec<_>>()).buffered(MAX_PROBES);
    let mut succeeded = true;
    while let Some((name, probed)) = probes.next().await {
        let (level, is_success, what) = match probed {
            Ok(ProbeOutcome::Reachable(what)) => ("ok", true, what),
            Ok(ProbeOutcome::Warning(what)) => ("warning", !strict, what),
            Err(what) => ("error", false, what),
        };
        succeeded &= is_success;
        writeln!(out, "{level}: {name}: {}", printable(&what))?;
    }
    if let Some(warning) = config.spool.store.file().and_then(in_memory_warning) {
        succeeded &= !strict;
        writeln!(out, "warning: {}", printable(&warning))?;
    }
    Ok(succeeded)
}

/// Tests whether the relay could keep its spool there, without changing anything.
async fn probe_spool(config: &PostgresConfig) -> ProbeResult {
    let ServerReport { summary, warnings } = postgres::inspect(config).await.map_err(|error| error.to_string())?;
    Ok(if warnings.is_empty() {
        ProbeOutcome::Reachable(summary)
    } else {
        ProbeOutcome::Warning(format!("{summary}; {}", warnings.join("; ")))
    })
}

/// Prints the errors and warnings of a file. `None` if it has an error, or with `strict` a warning.
fn check(path: &Path, options: &Options, strict: bool, out: &mut impl Write) -> io::Result<Option<Config>> {
    let checked = Config::load(path, options);
    let (Ok((_, found)) | Err(found)) = &checked;
    out.write_all(found.render(use_colour()).as_bytes())?;
    let (shown, warnings) = (path.display(), plural(found.warnings(), "warning"));
    match &checked {
        Ok((config, _)) => {
            let sources = plural(config.sources.len(), "source");
            let sinks = plural(config.sinks.len(), "sink");
            let routes = plural(config.rules.routes().len(), "route");
            let alerts = match config.alerts.len() {
                0 => String::new(),
                alerts => format!(", {}", plural(alerts, "alert")),
            };
            writeln!(out, "{shown}: {sources}, {sinks}, {routes}{alerts}; {warnings}")?;
        }
        Err(_) => writeln!(out, "{shown}: {}, {warnings}", plural(found.errors(), "error"))?,
    }
    let fails = strict && found.warnings() > 0;
    Ok(checked.ok().map(|(config, _)| config).filter(|_| !fails))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a file passes, without and with `--strict`, and the last line of the output.
    fn checked(text: &str) -> (bool, bool, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("routes.yaml");
        std::fs::write(&path, text).unwrap();
        let options = Options::of_process(Strictness::Offline, None);
        let mut out = Vec::new();
        let right = check(&path, &options, false, &mut out).unwrap().is_some();
        let strict = check(&path, &options, true, &mut Vec::new()).unwrap().is_some();
        let output = String::from_utf8(out).unwrap();
        let last = output.lines().last().unwrap_or_default().rsplit_once("routes.yaml: ").unwrap().1.to_owned();
        (right, strict, last)
    }

    const RIGHT: &str = "version: 1
sources: { regards: { amqp: { url: amqp://localhost, queue: q } } }
sinks: { screen: { stdout: {} } }
routes: [{ name: all, to: screen }]
unrouted: drop
";

    #[test]
    fn the_last_line_counts_entries_errors_and_warnings() {
        assert_eq!(checked(RIGHT), (true, true, "1 source, 1 sink, 1 route; no warnings".to_owned()));
        let watched = format!("{RIGHT}alerts: [{{ name: reload, reload_failed: {{}}, to: screen }}]\n");
        assert_eq!(checked(&watched), (true, true, "1 source, 1 sink, 1 route, 1 alert; no warnings".to_owned()));
        let unused = RIGHT.replace("stdout: {} } }", "stdout: {} }, other: { stdout: {} } }");
        assert_eq!(checked(&unused), (true, false, "1 source, 2 sinks, 1 route; 1 warning".to_owned()));
        let wrong = RIGHT.replace("to: screen", "too: screen").replace("queue", "queu");
        assert_eq!(checked(&wrong), (false, false, "4 errors, no warnings".to_owned()));
    }
}
