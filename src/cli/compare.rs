//! `compare`: what recorded messages become by one file of rules and by another.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;
use serde_json::Value;

use super::table::Table;
use super::{Global, counted, load_offline, message};
use crate::config::Config;
use crate::event::Event;
use crate::rehearsal::{Change, Changed, ChangedValue, DeadLetter, Difference, Rehearsal, SinkDifference, rehearse};
use crate::telemetry::printable;

/// What people are shown of a value, in characters.
const MAX_SHOWN: usize = 200;

/// The command's own arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Recorded messages, one sample a line
    samples: PathBuf,
    /// The other rules
    #[arg(long, value_name = "FILE")]
    against: PathBuf,
    /// The source that gets them, where there are several
    #[arg(long)]
    source: Option<String>,
    /// Each difference as JSON, one a line, and the counts in the last
    #[arg(long)]
    json: bool,
    /// Exit with 1 if anything differs
    #[arg(long)]
    exit_code: bool,
}

/// How one message is treated differently, as programs get it. These names are relied on.
#[derive(Serialize)]
struct Document<'d> {
    line: usize,
    event: Option<&'d Event>,
    #[serde(flatten)]
    difference: &'d Difference,
}

/// What came of all of them. These names are relied on.
#[derive(Debug, Default, Serialize)]
struct Summary {
    samples: u64,
    different: u64,
    sinks: BTreeMap<String, Counts>,
}

/// What came to one sink.
#[derive(Debug, Default, Clone, Copy, Serialize)]
struct Counts {
    before: u64,
    after: u64,
    added: u64,
    removed: u64,
    changed: u64,
    /// Something of its settings differs, be it where it connects to or how it retries.
    settings_differ: bool,
}

/// Says to standard output what differs.
pub fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (before, after) = match (load_offline(&global.config, global), load_offline(&arguments.against, global)) {
        (Ok(before), Ok(after)) => (before, after),
        (Err(code), _) | (_, Err(code)) => return Ok(code),
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    let summary = compare(&before, &after, arguments, &mut out)?;
    if arguments.json {
        serde_json::to_writer(&mut out, &summary).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        for_people(&summary, &mut out)?;
    }
    out.flush()?;
    let differs = arguments.exit_code && summary.different > 0;
    Ok(if differs { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn compare(before: &Config, after: &Config, arguments: &Arguments, out: &mut impl Write) -> anyhow::Result<Summary> {
    let source = message::source(before, arguments.source.as_deref())?;
    let other_source = message::source(after, arguments.source.as_deref())?;
    let mut summary = Summary::default();
    for sink in before.sinks.iter().chain(&after.sinks) {
        let of = |config: &Config| config.sinks.iter().find(|other| other.name == sink.name).cloned();
        let settings_differ = of(before) != of(after);
        summary.sinks.insert(sink.name.to_string(), Counts { settings_differ, ..Counts::default() });
    }
    for found in message::samples(&arguments.samples, &source)? {
        let (line, mut message) = found?;
        let old = rehearse(before, &message)?;
        message.source = other_source.clone();
        let new = rehearse(after, &message)?;
        let difference = Difference::between(&old, &new);
        summary.count(&old, &new, difference.as_ref());
        let Some(difference) = difference else { continue };
        let event = old.event.as_ref().or(new.event.as_ref());
        if arguments.json {
            let document = Document { line, event, difference: &difference };
            serde_json::to_writer(&mut *out, &document).map_err(io::Error::from)?;
            writeln!(out)?;
        } else {
            show(&arguments.samples, line, event, &difference, out)?;
        }
    }
    Ok(summary)
}

impl Summary {
    fn count(&mut self, old: &Rehearsal<'_>, new: &Rehearsal<'_>, difference: Option<&Difference>) {
        self.samples += 1;
        self.different += u64::from(difference.is_some());
        for planned in &old.deliveries {
            self.of(planned.sink.name.as_str()).before += 1;
        }
        for planned in &new.deliveries {
            self.of(planned.sink.name.as_str()).after += 1;
        }
        for SinkDifference { sink, change } in difference.iter().flat_map(|difference| &difference.sinks) {
            let counts = self.of(sink);
            let count = match change {
                Change::Added { .. } => &mut counts.added,
                Change::Removed { .. } => &mut counts.removed,
                Change::Changed { .. } => &mut counts.changed,
            };
            *count += 1;
        }
    }

    fn of(&mut self, sink: &str) -> &mut Counts {
        self.sinks.entry(sink.to_owned()).or_default()
    }
}

fn show(
    samples: &Path,
    line: usize,
    event: Option<&Event>,
    difference: &Difference,
    out: &mut impl Write,
) -> io::Result<()> {
    let event = event.map_or_else(
        || "can't be read as an event".to_owned(),
        |event| format!("{} {} {}", event.tenant, event.status, event.correlation_id),
    );
    writeln!(out, "{}:{line}: {}", samples.display(), printable(&event))?;
    if let Some(Changed { before, after }) = &difference.dead_letter {
        let told = |letter: &Option<DeadLetter>| {
            letter.as_ref().map_or("none".to_owned(), |DeadLetter { reason, detail }| format!("{reason} ({detail})"))
        };
        writeln!(out, "  dead letter: {} -> {}", printable(&told(before)), printable(&told(after)))?;
    }
    for SinkDifference { sink, change } in &difference.sinks {
        let by = |route: &Option<String>| {
            route.as_ref().map_or_else(|| "`unrouted:`".to_owned(), |route| format!("the route {route}"))
        };
        match change {
            Change::Added { route } => writeln!(out, "  + {sink}, by {}", by(route))?,
            Change::Removed { route } => writeln!(out, "  - {sink}, which got it by {}", by(route))?,
            Change::Changed { values } => {
                // Of what is not shown: spaces in JSON, or secrets.
                let hidden = if values.is_empty() { ", in what is not shown" } else { "" };
                writeln!(out, "  ~ {sink}{hidden}")?;
                for ChangedValue { path, changed: Changed { before, after } } in values {
                    writeln!(out, "      {}: {} -> {}", printable(path), shown(before), shown(after))?;
                }
            }
        }
    }
    Ok(())
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    let cut = text.char_indices().nth(MAX_SHOWN).and_then(|(end, _)| text.get(..end));
    let text = cut.map_or_else(|| text.clone(), |cut| format!("{cut}…"));
    printable(&text).into_owned()
}

fn for_people(summary: &Summary, out: &mut impl Write) -> io::Result<()> {
    if summary.different > 0 {
        writeln!(out)?;
    }
    let mut table = Table::new(["SINK", "BEFORE", "AFTER", "NEW", "GONE", "CHANGED", "SETTINGS"]);
    for (sink, counts) in &summary.sinks {
        let Counts { before, after, added, removed, changed, settings_differ } = counts;
        let numbers = [before, after, added, removed, changed].map(u64::to_string);
        let [before, after, added, removed, changed] = numbers;
        let settings = if *settings_differ { "differ" } else { "same" };
        table.row([sink.clone(), before, after, added, removed, changed, settings.to_owned()], out)?;
    }
    table.finish(out)?;
    let Summary { samples, different, .. } = summary;
    let differ = match different {
        0 => "no difference".to_owned(),
        1 => "1 is treated differently".to_owned(),
        _ => format!("{different} are treated differently"),
    };
    writeln!(out, "\n{}: {differ}", counted(*samples, "sample"))
}
