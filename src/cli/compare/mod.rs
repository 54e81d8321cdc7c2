//! `compare`: what two configurations do with the same recorded messages.

mod output;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use self::output::{DifferenceGroups, DifferenceWriter, EachDifference};
use super::progress::Progress;
use super::table::Table;
use super::{Global, InvalidInput, load_offline, message, note, plural};
use crate::config::Config;
use crate::dry_run::{Difference, DryRun, SinkChange, SinkDifference};

/// How many errors about unreadable lines are printed.
const MAX_UNREADABLE: u64 = 10;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// File of recorded messages, one sample per line
    samples: PathBuf,
    /// Other configuration, to compare with that of `--config`
    #[arg(long, value_name = "FILE")]
    against: PathBuf,
    /// Source that receives the messages; needed if the configuration has several
    #[arg(long)]
    source: Option<String>,
    /// Print each difference as a line of JSON, then a line with the counts
    #[arg(long)]
    json: bool,
    /// Show equal differences once, with the number of messages
    #[arg(long)]
    summary: bool,
    /// Exit with code 1 if anything differs
    #[arg(long)]
    exit_code: bool,
}

/// Users rely on these names.
#[derive(Debug, Default, Serialize)]
struct Summary {
    samples: u64,
    different: u64,
    /// Lines that are no samples and were not compared.
    unreadable: u64,
    sinks: BTreeMap<String, Counts>,
}

/// The deliveries for one sink.
#[derive(Debug, Default, Clone, Copy, Serialize)]
struct Counts {
    before: u64,
    after: u64,
    added: u64,
    removed: u64,
    changed: u64,
    /// Any setting of the sink differs, such as its destination or its retries.
    settings_differ: bool,
}

pub fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (before, after) = match (load_offline(&global.config, global), load_offline(&arguments.against, global)) {
        (Ok(before), Ok(after)) => (before, after),
        (Err(code), _) | (_, Err(code)) => return Ok(code),
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    let json = arguments.json;
    let mut differences: Box<dyn DifferenceWriter> = if arguments.summary {
        Box::new(DifferenceGroups::new(json))
    } else {
        Box::new(EachDifference { samples: arguments.samples.clone(), json })
    };
    let summary = compare(&before, &after, arguments, &mut *differences, &mut out)?;
    differences.finish(&mut out)?;
    if arguments.json {
        crate::cli::write_json(&summary, &mut out)?;
    } else {
        write_text(&summary, &mut out)?;
    }
    out.flush()?;
    let differs = arguments.exit_code && summary.different > 0;
    Ok(if differs || summary.unreadable > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn compare(
    before: &Config,
    after: &Config,
    arguments: &Arguments,
    differences: &mut dyn DifferenceWriter,
    out: &mut dyn Write,
) -> anyhow::Result<Summary> {
    let source = message::source(before, arguments.source.as_deref())?;
    let other_source = message::source(after, arguments.source.as_deref())?;
    let mut summary = Summary::default();
    for sink in before.sinks.iter().chain(&after.sinks) {
        let of = |config: &Config| config.sinks.iter().find(|other| other.name == sink.name).cloned();
        let settings_differ = of(before) != of(after);
        summary.sinks.insert(sink.name.to_string(), Counts { settings_differ, ..Counts::default() });
    }
    let mut progress = Progress::new("compared", "sample", None);
    for found in message::samples(&arguments.samples, &source)? {
        let found = found?;
        let mut message = match found.message {
            Ok(message) => message,
            Err(error) => {
                summary.count_unreadable(&error);
                continue;
            }
        };
        let old = DryRun::of(before, &message)?;
        message.source = other_source.clone();
        let new = DryRun::of(after, &message)?;
        let difference = Difference::between(&old, &new);
        summary.count(&old, &new, difference.as_ref());
        progress.tick(summary.samples);
        if let Some(difference) = difference {
            differences.add(found.line, old.event.as_ref().or(new.event.as_ref()), difference, out)?;
        }
    }
    Ok(summary)
}

impl Summary {
    /// Counts all of them, prints the first ones.
    fn count_unreadable(&mut self, error: &InvalidInput) {
        self.unreadable += 1;
        if self.unreadable <= MAX_UNREADABLE {
            note(&error.to_string());
        }
    }

    fn count(&mut self, old: &DryRun<'_>, new: &DryRun<'_>, difference: Option<&Difference>) {
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
                SinkChange::Added { .. } => &mut counts.added,
                SinkChange::Removed { .. } => &mut counts.removed,
                SinkChange::Changed { .. } => &mut counts.changed,
            };
            *count += 1;
        }
    }

    fn of(&mut self, sink: &str) -> &mut Counts {
        self.sinks.entry(sink.to_owned()).or_default()
    }
}

fn write_text(summary: &Summary, out: &mut impl Write) -> io::Result<()> {
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
    let Summary { samples, different, unreadable, .. } = summary;
    let differ = match different {
        0 => "no difference".to_owned(),
        1 => "1 is treated differently".to_owned(),
        _ => format!("{different} are treated differently"),
    };
    writeln!(out, "\n{}: {differ}", plural(*samples, "sample"))?;
    match unreadable {
        0 => Ok(()),
        1 => writeln!(out, "1 line not compared, because it is no sample"),
        _ => writeln!(out, "{} not compared, because they are no samples", plural(*unreadable, "line")),
    }
}
