//! `capture`: samples of the messages that a source receives. If no relay runs, they are taken from the queue and returned to it.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context as _;

use super::client::{request_lines, unexpected};
use super::target::Target;
use super::{Global, load, load_offline, message, note, plural};
use crate::admin::control::{Command, Response};
use crate::config::SourceKind;
use crate::event::{SourceName, sample};
use crate::source::peek_queue;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Source; needed if the configuration has several
    #[arg(long)]
    source: Option<String>,
    /// Number of messages to capture
    #[arg(long, default_value_t = 10)]
    count: u64,
}

pub fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let config = match load_offline(&global.config, global) {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    let source = message::source(&config, arguments.source.as_deref())?;
    let count = arguments.count;
    let mut out = io::stdout().lock();
    let mut captured = 0_u64;
    let target = Target::find(global)?;
    let command = Command::Capture { source: source.to_string(), count };
    let response = request_lines(&target, command, |line| {
        captured += 1;
        out.write_all(line.as_bytes())?;
        out.flush()
    })?;
    match response {
        Some(Response::Done) => {}
        Some(other) => return Err(unexpected(&other)),
        None => {
            let code = capture_from_source(global, &source, count, &mut captured, &mut out)?;
            if code != ExitCode::SUCCESS {
                return Ok(code);
            }
        }
    }
    note(&format!("{} of {source} captured", plural(captured, "message")));
    Ok(ExitCode::SUCCESS)
}

fn capture_from_source(
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
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("can't start threads")?;
    let peeked = runtime.block_on(peek_queue(amqp, source, &config.name, count, |message| {
        if written.is_ok() {
            written = writeln!(out, "{}", sample::print(message));
            *captured += 1;
        }
    }));
    peeked.with_context(|| format!("can't capture messages from the queue of source {source}"))?;
    written?;
    Ok(ExitCode::SUCCESS)
}
