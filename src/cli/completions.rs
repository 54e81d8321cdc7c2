//! `completions`: what a shell needs to complete this command line.

use std::io::Write;
use std::process::ExitCode;

use clap::CommandFactory as _;

/// The command's own arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Of which shell
    shell: clap_complete::Shell,
}

/// Prints it to standard output.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut command = super::Arguments::command();
    let name = command.get_name().to_owned();
    // It panics where it can't write, as into a pipe that nobody reads any more.
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, &name, &mut script);
    let mut script = String::from_utf8(script)?;
    if arguments.shell == clap_complete::Shell::Bash {
        // clap_complete names a program with a hyphen in two ways in one script, so that nothing completes behind a
        // subcommand (https://github.com/clap-rs/clap/issues/6421).
        script = script.replace(&name.replace('-', "__subcmd__"), &name.replace('-', "__"));
    }
    std::io::stdout().lock().write_all(script.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
