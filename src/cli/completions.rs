//! `completions`: a script for a shell that completes this command line.

use std::io::Write;
use std::process::ExitCode;

use clap::CommandFactory as _;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Shell that the script is for
    shell: clap_complete::Shell,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut command = super::Arguments::command();
    let name = command.get_name().to_owned();
    // `generate` panics if it can't write, so it does not write to standard output.
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
