//! `compare`: what recorded messages become by one file of rules and by another.

mod output;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use self::output::{Differences, Each, Groups};
use super::progress::Progress;
use super::table::Table;
use super::{Global, WrongInput, counted, load_offline, message};
use crate::config::Config;
use crate::dry_run::{Change, Difference, DryRun, SinkDifference};
use crate::telemetry::printable;

/// So many lines that are no samples are shown.
const MAX_UNREADABLE: u64 = 10;

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
    /// Show equal differences once, with how many samples have them
    #[arg(long)]
    summary: bool,
    /// Exit with 1 if anything differs
    #[arg(long)]
    exit_code: bool,
}

/// What came of all of them. These names are relied on.
#[derive(Debug, Default, Serialize)]
struct Summary {
    samples: u64,
    different: u64,
    /// Lines that are no samples, so that nothing was compared.
    unreadable: u64,
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
    let json = arguments.json;
    let mut differences: Box<dyn Differences> = if arguments.summary {
        Box::new(Groups::new(json))
    } else {
        Box::new(Each { samples: arguments.samples.clone(), json })
    };
    let summary = compare(&before, &after, arguments, &mut *differences, &mut out)?;
    differences.finish(&mut out)?;
    if arguments.json {
        crate::cli::write_json(&summary, &mut out)?;
    } else {
        for_people(&summary, &mut out)?;
    }
    out.flush()?;
    let differs = arguments.exit_code && summary.different > 0;
    Ok(if differs || summary.unreadable > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn compare(
    before: &Config,
    after: &Config,
    arguments: &Arguments,
    differences: &mut dyn Differences,
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
            Err(wrong) => {
                summary.count_unreadable(&wrong);
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
    /// Some are shown, all are counted.
    fn count_unreadable(&mut self, wrong: &WrongInput) {
        self.unreadable += 1;
        if self.unreadable <= MAX_UNREADABLE {
            // Nobody is there to read it.
            let _ = writeln!(io::stderr(), "{}", printable(&wrong.to_string()));
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
    let Summary { samples, different, unreadable, .. } = summary;
    let differ = match different {
        0 => "no difference".to_owned(),
        1 => "1 is treated differently".to_owned(),
        _ => format!("{different} are treated differently"),
    };
    writeln!(out, "\n{}: {differ}", counted(*samples, "sample"))?;
    match unreadable {
        0 => Ok(()),
        _ => writeln!(out, "{} not compared: no samples", counted(*unreadable, "line")),
    }
}
