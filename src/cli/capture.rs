//! `capture`: samples of what comes in, from a running relay or, without one, out of the queue, which gets all of it back.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context as _;

use super::ask::{Asked, ask_for_lines, unexpected};
use super::place::Place;
use super::{Global, counted, load, load_offline, message};
use crate::admin::control::{Answer, Request};
use crate::config::SourceKind;
use crate::event::{SourceName, sample};
use crate::source::peek;

/// The command's own arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The source, where there are several
    #[arg(long)]
    source: Option<String>,
    /// How many messages
    #[arg(long, default_value_t = 10)]
    count: u64,
}

/// Writes samples to standard output, one a line, until there are enough of them, or the queue has no more.
pub fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let config = match load_offline(&global.config, global) {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    let source = message::source(&config, arguments.source.as_deref())?;
    let count = arguments.count;
    let mut out = io::stdout().lock();
    let mut captured = 0_u64;
    let place = Place::of(global)?;
    let request = |spool| Request::Capture { spool, source: source.to_string(), count };
    let asked = ask_for_lines(&place, request, |line| {
        captured += 1;
        out.write_all(line.as_bytes())?;
        out.flush()
    })?;
    match asked {
        Asked::Answered(Answer::Done) => {}
        Asked::Answered(other) => return Err(unexpected(&other)),
        Asked::Nobody => {
            let code = out_of_the_queue(global, &source, count, &mut captured, &mut out)?;
            if code != ExitCode::SUCCESS {
                return Ok(code);
            }
        }
    }
    // Nobody is there to read it.
    let _ = writeln!(io::stderr(), "{} of {source}", counted(captured, "sample"));
    Ok(ExitCode::SUCCESS)
}

fn out_of_the_queue(
    global: &Global,
    source: &SourceName,
    count: u64,
    captured: &mut u64,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let config = match load(global) {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    let Some(named) = config.sources.iter().find(|named| named.name == *source) else { return Ok(ExitCode::FAILURE) };
    let amqp = match &named.kind {
        SourceKind::Amqp(amqp) => amqp,
        SourceKind::Recording(recording) => {
            for found in message::samples(&recording.path, source)? {
                if *captured == count {
                    break;
                }
                writeln!(out, "{}", sample::print(&found?.message?))?;
                *captured += 1;
            }
            return Ok(ExitCode::SUCCESS);
        }
    };
    let mut written = Ok(());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let peeked = runtime.block_on(peek(amqp, source, &config.name, count, |message| {
        if written.is_ok() {
            written = writeln!(out, "{}", sample::print(message));
            *captured += 1;
        }
    }));
    peeked.with_context(|| format!("nothing can be captured out of the queue of {source}"))?;
    written?;
    Ok(ExitCode::SUCCESS)
}
