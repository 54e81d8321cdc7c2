//! `spool`: what waits, for which sink, and why.
//!
//! Reads the spool's file beside a running relay, or without one.

use std::io::{BufWriter, Write};
use std::process::ExitCode;

use serde::Serialize;

use super::place::Place;
use super::{Global, table};
use crate::config::Config;
use crate::delivery::State;
use crate::spool::{Millis, Waits, waits};

/// How to show it.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

const HEADS: [&str; 7] = ["SINK", "COUNT", "BYTES", "OLDEST", "NEXT ATTEMPT", "ORPHANS", "LAST ERROR"];

/// Prints what waits.
pub fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let place = Place::of(global)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut table = table::Table::new(HEADS);
    let mut waiting = 0;
    for sink in waits(&place.spool)? {
        waiting += sink.count;
        let line = Line::of(&sink, place.config.as_ref());
        if arguments.json {
            serde_json::to_writer(&mut out, &line).map_err(std::io::Error::from)?;
            writeln!(out)?;
        } else {
            table.row(line.cells(), &mut out)?;
        }
    }
    table.finish(&mut out)?;
    out.flush()?;
    if waiting == 0 && !arguments.json {
        // Nobody is there to read it.
        let _ = writeln!(std::io::stderr(), "nothing waits in {}", place.spool.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// What waits for a sink, as programs get it. These keys are relied on.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    sink: &'a str,
    count: u64,
    bytes: u64,
    /// RFC 3339.
    oldest: Option<String>,
    /// RFC 3339; none where a person has to resume the sink.
    next_attempt: Option<String>,
    last_error: Option<String>,
    /// How many of them no sink of the configuration is for.
    orphans: u64,
}

impl<'a> Line<'a> {
    /// `config` is the relay's, where it can be read.
    fn of(waits: &'a Waits, config: Option<&Config>) -> Self {
        let has_sink = |config: &Config| config.sinks.iter().any(|sink| sink.name.as_str() == waits.sink);
        let is_orphan = config.is_some_and(|config| !has_sink(config));
        let state = State::parse(waits.state.as_deref());
        let next = waits.next.zip(state.not_before()).map(|(Millis(due), not_before)| Millis(due.max(not_before)));
        Self {
            sink: &waits.sink,
            count: waits.count,
            bytes: waits.bytes,
            oldest: waits.oldest.map(Millis::to_rfc3339),
            next_attempt: next.filter(|_| !is_orphan).map(Millis::to_rfc3339),
            last_error: state.trouble().or_else(|| waits.cause.clone()),
            orphans: if is_orphan { waits.count } else { 0 },
        }
    }

    fn cells(&self) -> [String; HEADS.len()] {
        [
            table::cell(Some(self.sink)),
            self.count.to_string(),
            self.bytes.to_string(),
            table::cell(self.oldest.as_deref()),
            table::cell(self.next_attempt.as_deref()),
            self.orphans.to_string(),
            table::cell(self.last_error.as_deref()),
        ]
    }
}
