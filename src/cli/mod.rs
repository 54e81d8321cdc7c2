//! The command line: one file a command.
//!
//! Exit codes: 0 done, 1 failed, 2 the configuration or the arguments are wrong. What a program reads goes to standard
//! output; what only a person reads goes to standard error.

mod ask;
mod capture;
mod check;
mod compare;
mod completions;
mod dead_letters;
mod demo;
mod explain;
mod graph;
mod message;
mod pause;
mod place;
mod progress;
mod reload;
pub mod run;
mod schema;
mod spool;
mod status;
mod table;
mod test;

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, Diagnostics, NamedFiles, Options, Strictness};
pub use crate::telemetry::LogFormat;

/// The exit code of wrong arguments or a wrong configuration.
pub const WRONG_INPUT: u8 = 2;

/// An argument that clap can't know to be wrong.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct WrongInput(String);

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "regards-relay", version, about = ABOUT, max_term_width = 100)]
struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const ABOUT: &str =
    "Relays REGARDS responses from RabbitMQ to Kafka, webhooks, AMQP exchanges and files, by the rules of routes.yaml";

/// The file of rules where none is named.
const DEFAULT_CONFIG: &str = "routes.yaml";

/// The options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// The rules: sources, sinks and routes
    #[arg(long, global = true, value_name = "FILE", env = "REGARDS_RELAY_CONFIG", default_value = DEFAULT_CONFIG)]
    pub config: PathBuf,
    /// Where what is written lies: the spool, the files of sinks [default: what systemd says, else ./data]
    #[arg(long, global = true, value_name = "DIR", env = "REGARDS_RELAY_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// How logs are written, to standard error
    #[arg(long, global = true, value_name = "FORMAT", default_value = "pretty")]
    pub log_format: LogFormat,
}

impl Global {
    /// Where what is written lies: `--data-dir`, `$REGARDS_RELAY_DATA_DIR`, systemd's `$STATE_DIRECTORY`, else `./data`.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        data_dir(self.data_dir.as_deref(), std::env::var_os("STATE_DIRECTORY"))
    }
}

fn data_dir(given: Option<&Path>, state_directory: Option<OsString>) -> PathBuf {
    if let Some(given) = given {
        return given.to_owned();
    }
    // systemd lists several with colons; the first is the unit's main one.
    let first = state_directory.and_then(|all| std::env::split_paths(&all).next());
    first.filter(|first| !first.as_os_str().is_empty()).unwrap_or_else(|| PathBuf::from("data"))
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Relay until stopped
    Run,
    /// Show every problem of the rules, at its line
    Check(check::Arguments),
    /// Show what becomes of one message, and why
    Explain(explain::Arguments),
    /// Run the cases beside the rules: what is expected of some messages
    Test(test::Arguments),
    /// Write samples of the messages that come in
    Capture(capture::Arguments),
    /// Show what recorded messages become by these rules and by others
    Compare(compare::Arguments),
    /// Print the JSON Schema of the rules or of the normalized event
    Schema(schema::Arguments),
    /// Print the routes as a Mermaid flowchart
    Graph,
    /// Print completions for a shell
    Completions(completions::Arguments),
    /// Watch the whole relay work on this machine, with nothing installed
    Demo,
    /// Look at what could not be read or delivered
    #[command(subcommand)]
    DeadLetters(dead_letters::Command),
    /// Show what waits, for which sink, and why
    Spool(spool::Arguments),
    /// Show what the running relay does: sources, sinks, jobs
    Status(status::Arguments),
    /// Show redrives and purges that are under way, or stop one
    Jobs(status::Jobs),
    /// Send nothing more to a sink, or take nothing more from a source, until it is resumed
    Pause(pause::Arguments),
    /// Let a paused sink or source go on
    Resume(pause::Arguments),
}

/// Reads the arguments, does what they say, and says how it ended.
#[must_use]
pub fn main() -> ExitCode {
    let Arguments { global, command } = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version go to standard output and are no error.
            let code = if error.use_stderr() { ExitCode::from(WRONG_INPUT) } else { ExitCode::SUCCESS };
            // Nobody is there to read it.
            let _ = error.print();
            return code;
        }
    };
    match command {
        Command::Demo => crate::telemetry::start_quietly(global.log_format),
        Command::Run => {
            if let Err(cause) = crate::telemetry::start_for_relay(global.log_format) {
                crate::telemetry::say(&format!("error: can't start the thread that writes the log: {cause}\n"));
                return ExitCode::FAILURE;
            }
        }
        _ => crate::telemetry::start(global.log_format),
    }
    let ended = match command {
        Command::Run => {
            let rules = NamedFiles::now([global.config.as_path()]);
            load(&global).map_or_else(Ok, |config| run::run(config, rules, &global))
        }
        Command::Check(arguments) => check::run(&global, &arguments),
        Command::Explain(arguments) => explain::run(&global, &arguments),
        Command::Test(arguments) => test::run(&global, &arguments),
        Command::Compare(arguments) => compare::run(&global, &arguments),
        Command::Graph => graph::run(&global),
        Command::Completions(arguments) => completions::run(&arguments),
        Command::Capture(arguments) => capture::run(&global, &arguments),
        Command::Schema(arguments) => schema::run(&arguments),
        Command::Demo => demo::run(),
        Command::Status(arguments) => status::run(&global, &arguments),
        Command::Jobs(arguments) => status::jobs(&global, &arguments),
        Command::Pause(arguments) => pause::run(&global, &arguments, true),
        Command::Resume(arguments) => pause::run(&global, &arguments, false),
        Command::Spool(arguments) => spool::run(&global, &arguments),
        Command::DeadLetters(command) => dead_letters::run(&global, &command),
    };
    let code = read_enough(ended).unwrap_or_else(|error| {
        let code = if error.is::<WrongInput>() { ExitCode::from(WRONG_INPUT) } else { ExitCode::FAILURE };
        let line = format!("error: {error:#}");
        crate::telemetry::say(&format!("{}\n", crate::telemetry::printable(&line)));
        code
    });
    crate::telemetry::flush();
    code
}

/// The configuration, with everything that running it needs; what is to be said of it is said to standard error. `Err` is
/// the exit code of one that is wrong.
fn load(global: &Global) -> Result<Config, ExitCode> {
    let options = Options::of_process(Strictness::Run, Some(global.data_dir()));
    let (config, found) = match Config::load(&global.config, &options) {
        Ok((config, warnings)) => (Ok(config), warnings),
        Err(errors) => (Err(ExitCode::from(WRONG_INPUT)), errors),
    };
    if found.iter().next().is_none() {
        return config;
    }
    if global.log_format == LogFormat::Json {
        // A log that a machine reads has nothing in it but its lines.
        let (errors, warnings) = (found.errors(), found.warnings());
        tracing::warn!(errors, warnings, problems = found.render(false), "the configuration has problems");
        return config;
    }
    show(&found);
    config
}

/// The configuration as far as it can be read without the machine it will run on. `Err` is the exit code of one that is wrong.
fn load_offline(path: &Path, global: &Global) -> Result<Config, ExitCode> {
    match Config::load(path, &Options::of_process(Strictness::Offline, Some(global.data_dir()))) {
        Ok((config, found)) => {
            if found.warnings() > 0 {
                let warnings = counted(found.warnings(), "warning");
                let line = format!("{}: {warnings}, which `regards-relay check` shows\n", path.display());
                crate::telemetry::say(&line);
            }
            Ok(config)
        }
        Err(found) => {
            show(&found);
            Err(ExitCode::from(WRONG_INPUT))
        }
    }
}

/// Shows people what was found.
fn show(found: &Diagnostics) {
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    crate::telemetry::say(&found.render(colour));
}

/// One line of JSON, which can't steer a terminal either.
fn write_json(value: &impl serde::Serialize, out: &mut (impl Write + ?Sized)) -> std::io::Result<()> {
    let json = serde_json::to_string(value)?;
    writeln!(out, "{}", crate::telemetry::printable_json(&json))
}

/// Asks a person, where one is there; nobody says yes.
fn agreed(what: impl FnOnce() -> String) -> std::io::Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(true);
    }
    let mut err = std::io::stderr();
    write!(err, "{}? [y/N] ", what())?;
    err.flush()?;
    let mut said = String::new();
    std::io::stdin().read_line(&mut said)?;
    Ok(matches!(said.trim(), "y" | "Y" | "yes"))
}

/// `no routes`, `1 route`, `2 routes`; `2 deliveries`.
fn counted<N: Copy + Display + PartialEq + From<u8>>(number: N, what: &str) -> String {
    if number == N::from(1) {
        return format!("1 {what}");
    }
    let what = what.strip_suffix('y').map_or_else(|| format!("{what}s"), |stem| format!("{stem}ies"));
    if number == N::from(0) { format!("no {what}") } else { format!("{number} {what}") }
}

/// Whoever reads our output may have seen enough of it: `regards-relay dead-letters list | head`.
fn read_enough(ended: anyhow::Result<ExitCode>) -> anyhow::Result<ExitCode> {
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
    fn the_definition_of_the_arguments_is_sound() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_data_directory_comes_from_where_it_is_named_first() {
        let state = || Some(OsString::from("/var/lib/relay:/var/lib/other"));
        assert_eq!(data_dir(Some(Path::new("/given")), state()), PathBuf::from("/given"));
        assert_eq!(data_dir(None, state()), PathBuf::from("/var/lib/relay"));
        assert_eq!(data_dir(None, Some(OsString::new())), PathBuf::from("data"));
        assert_eq!(data_dir(None, None), PathBuf::from("data"));
    }
}
