//! The command line: one file a command.
//!
//! Exit codes: 0 success, 1 failure, 2 invalid configuration or arguments. Output that a program reads goes to standard output;
//! text for people only goes to standard error.

mod capture;
mod check;
mod client;
mod compare;
mod completions;
mod dead_letters;
mod demo;
mod explain;
mod graph;
mod init;
mod message;
mod pause;
mod progress;
mod reload;
mod remote;
mod replay;
pub mod run;
mod schema;
mod send_test;
mod spool;
mod status;
mod table;
mod target;
mod test;
mod topology;
mod trace;
mod units;

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, Diagnostics, NamedFiles, Options, Strictness};
pub use crate::telemetry::LogFormat;

/// The exit code for invalid arguments or an invalid configuration.
pub const EXIT_INVALID_INPUT: u8 = 2;

/// An invalid argument or input, which clap itself cannot detect.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct InvalidInput(String);

#[derive(Debug, Parser)]
#[command(name = "regards-relay", version, about = ABOUT, max_term_width = 100)]
struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const ABOUT: &str =
    "Relays REGARDS responses from RabbitMQ to Kafka, webhooks, AMQP exchanges and files, as routes.yaml says";

const DEFAULT_CONFIG: &str = "routes.yaml";

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// Configuration file: sources, sinks and routes
    #[arg(long, global = true, value_name = "FILE", env = "REGARDS_RELAY_CONFIG", default_value = DEFAULT_CONFIG)]
    pub config: PathBuf,
    /// Data directory: the spool and the files of file sinks [default: the state directory that systemd sets, else ./data]
    #[arg(long, global = true, value_name = "DIR", env = "REGARDS_RELAY_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Format of the log, which goes to standard error
    #[arg(long, global = true, value_name = "FORMAT", default_value = "pretty")]
    pub log_format: LogFormat,
}

impl Global {
    /// `--data-dir`, else `$REGARDS_RELAY_DATA_DIR`, else systemd's `$STATE_DIRECTORY`, else `./data`.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        data_dir(self.data_dir.as_deref(), std::env::var_os("STATE_DIRECTORY"))
    }
}

fn data_dir(given: Option<&Path>, state_directory: Option<OsString>) -> PathBuf {
    if let Some(given) = given {
        return given.to_owned();
    }
    // systemd separates several directories with colons; the first is the unit's main one.
    let first = state_directory.and_then(|all| std::env::split_paths(&all).next());
    first.filter(|first| !first.as_os_str().is_empty()).unwrap_or_else(|| PathBuf::from("data"))
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a commented configuration to begin with, to the file that `--config` names
    Init,
    /// Run the relay until it is stopped
    Run,
    /// Check the configuration: show every error and warning with its line
    Check(check::Arguments),
    /// Show how one message is routed and what each sink would get, without sending anything
    Explain(explain::Arguments),
    /// Run the test cases for the routes
    Test(test::Arguments),
    /// Write the next messages of a source to standard output, as samples
    Capture(capture::Arguments),
    /// Compare what two configurations do with recorded messages
    Compare(compare::Arguments),
    /// Print a schema of the configuration or of the normalized event, or describe who gets which messages
    Schema(schema::Arguments),
    /// Print the routes as a Mermaid flowchart
    Graph,
    /// Print what has to be made in RabbitMQ for sources with several queues, as definitions to import
    Topology(topology::Arguments),
    /// Print a completion script for a shell
    Completions(completions::Arguments),
    /// Run a demonstration on this machine, which needs no broker
    Demo,
    /// List, show, redrive or purge dead letters
    #[command(subcommand)]
    DeadLetters(dead_letters::Command),
    /// Show the spooled deliveries of each sink, and why they are not delivered
    Spool(spool::Arguments),
    /// Show the state of the running relay: what is wrong, sources, sinks, spool, dead letters and jobs
    Status(status::Arguments),
    /// Deliver events of the journal again, the oldest first, to one sink
    Replay(replay::Arguments),
    /// Show what became of a request: its events, and who got each of them when and where
    Trace(trace::Arguments),
    /// Send one test event through a sink, and show what its destination answered
    SendTest(send_test::Arguments),
    /// List the running redrives and purges, or stop one
    Jobs(status::Jobs),
    /// Pause a sink or a source until it is resumed
    Pause(pause::Arguments),
    /// Resume a paused sink or source
    Resume(pause::Arguments),
}

/// Runs the command and returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let Arguments { global, command } = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version go to standard output, and are not errors.
            let code = if error.use_stderr() { ExitCode::from(EXIT_INVALID_INPUT) } else { ExitCode::SUCCESS };
            // If it can't be printed, that error can't be printed either.
            let _ = error.print();
            return code;
        }
    };
    match command {
        Command::Demo | Command::SendTest(_) => crate::telemetry::start_quietly(global.log_format),
        Command::Run => {
            if let Err(error) = crate::telemetry::start_for_relay(global.log_format) {
                note(&format!("error: can't start the thread that writes the log: {error}"));
                return ExitCode::FAILURE;
            }
        }
        _ => crate::telemetry::start(global.log_format),
    }
    let ended = match command {
        Command::Run => {
            let file = NamedFiles::read([global.config.as_path()]);
            load(&global).map_or_else(Ok, |config| run::run(config, file, &global))
        }
        Command::Init => init::run(&global),
        Command::Check(arguments) => check::run(&global, &arguments),
        Command::Explain(arguments) => explain::run(&global, &arguments),
        Command::Test(arguments) => test::run(&global, &arguments),
        Command::Compare(arguments) => compare::run(&global, &arguments),
        Command::Graph => graph::run(&global),
        Command::Topology(arguments) => topology::run(&global, &arguments),
        Command::Completions(arguments) => completions::run(&arguments),
        Command::Capture(arguments) => capture::run(&global, &arguments),
        Command::Schema(arguments) => schema::run(&global, &arguments),
        Command::Demo => demo::run(),
        Command::Status(arguments) => status::run(&global, &arguments),
        Command::Replay(arguments) => replay::run(&global, &arguments),
        Command::Trace(arguments) => trace::run(&global, &arguments),
        Command::SendTest(arguments) => send_test::run(&global, &arguments),
        Command::Jobs(arguments) => status::jobs(&global, &arguments),
        Command::Pause(arguments) => pause::run(&global, &arguments, true),
        Command::Resume(arguments) => pause::run(&global, &arguments, false),
        Command::Spool(arguments) => spool::run(&global, &arguments),
        Command::DeadLetters(command) => dead_letters::run(&global, &command),
    };
    let code = ignore_broken_pipe(ended).unwrap_or_else(|error| {
        let code = if error.is::<InvalidInput>() { ExitCode::from(EXIT_INVALID_INPUT) } else { ExitCode::FAILURE };
        note(&format!("error: {error:#}"));
        code
    });
    crate::telemetry::flush();
    code
}

/// Loads the configuration for running it, and reports its errors and warnings on standard error. `Err` is the exit code for an
/// invalid one.
fn load(global: &Global) -> Result<Config, ExitCode> {
    let options = Options::of_process(Strictness::Run, Some(global.data_dir()));
    let (config, found) = match Config::load(&global.config, &options) {
        Ok((config, warnings)) => (Ok(config), warnings),
        Err(errors) => (Err(ExitCode::from(EXIT_INVALID_INPUT)), errors),
    };
    if found.iter().next().is_none() {
        return config;
    }
    if global.log_format == LogFormat::Json {
        // A program reads this log line by line, so the diagnostics are in one line.
        let (errors, warnings) = (plural(found.errors(), "error"), plural(found.warnings(), "warning"));
        tracing::warn!(error = found.render(false), "the configuration has {errors} and {warnings}");
        return config;
    }
    print_diagnostics(&found);
    config
}

/// Loads the configuration for a command that does not run it: variables and files may be missing. `Err` is the exit code for
/// an invalid one.
fn load_offline(path: &Path, global: &Global) -> Result<Config, ExitCode> {
    load_briefly(path, global, Strictness::Offline)
}

/// Loads the configuration and shows its errors; of its warnings only the number. `Err` is the exit code for an invalid one.
fn load_briefly(path: &Path, global: &Global, strictness: Strictness) -> Result<Config, ExitCode> {
    match Config::load(path, &Options::of_process(strictness, Some(global.data_dir()))) {
        Ok((config, found)) => {
            if found.warnings() > 0 {
                let warnings = plural(found.warnings(), "warning");
                note(&format!("{}: {warnings}; `regards-relay check` shows them", path.display()));
            }
            Ok(config)
        }
        Err(found) => {
            print_diagnostics(&found);
            Err(ExitCode::from(EXIT_INVALID_INPUT))
        }
    }
}

fn print_diagnostics(found: &Diagnostics) {
    crate::telemetry::print_stderr(&found.render(crate::telemetry::use_colour()));
}

/// Prints a line for people to standard error. What came from outside is escaped.
fn note(line: &str) {
    crate::telemetry::print_stderr(&format!("{}\n", crate::telemetry::printable(line)));
}

/// Writes one line of JSON, escaped for terminals.
fn write_json(value: &impl serde::Serialize, out: &mut (impl Write + ?Sized)) -> std::io::Result<()> {
    let json = serde_json::to_string(value)?;
    writeln!(out, "{}", crate::telemetry::printable_json(&json))
}

/// Asks for confirmation on a terminal; where there is none, the answer is yes.
fn confirm(what: impl FnOnce() -> String) -> std::io::Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(true);
    }
    let mut err = std::io::stderr();
    write!(err, "{}? [y/N] ", what())?;
    err.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// `no routes`, `1 route`, `2 routes`; `2 deliveries`.
fn plural<N: Copy + Display + PartialEq + From<u8>>(number: N, what: &str) -> String {
    if number == N::from(1) {
        return format!("1 {what}");
    }
    let what = what.strip_suffix('y').map_or_else(|| format!("{what}s"), |stem| format!("{stem}ies"));
    if number == N::from(0) { format!("no {what}") } else { format!("{number} {what}") }
}

/// A reader may close the pipe before the end of the output, as in `regards-relay dead-letters list | head`.
fn ignore_broken_pipe(ended: anyhow::Result<ExitCode>) -> anyhow::Result<ExitCode> {
    let is_broken_pipe = |error: &anyhow::Error| {
        let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
        causes.any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
    };
    match ended {
        Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
        ended => ended,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_arguments_is_valid() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_data_directory_comes_from_the_option_then_from_systemd() {
        let state = || Some(OsString::from("/var/lib/relay:/var/lib/other"));
        assert_eq!(data_dir(Some(Path::new("/given")), state()), PathBuf::from("/given"));
        assert_eq!(data_dir(None, state()), PathBuf::from("/var/lib/relay"));
        assert_eq!(data_dir(None, Some(OsString::new())), PathBuf::from("data"));
        assert_eq!(data_dir(None, None), PathBuf::from("data"));
    }
}
