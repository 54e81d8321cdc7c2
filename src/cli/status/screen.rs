//! The state of a relay on one screen: what is wrong first, then sources, sinks, spool, dead letters, raised alerts and jobs.

use std::io::{self, Write};
use std::time::Duration;

use super::super::table::Table;
use super::super::{plural, units};
use super::{Reading, write_jobs};
use crate::admin::control::{ShardStatus, SinkStatus, SourceStatus, Status};
use crate::clock::WallTime;
use crate::spool::configuration_warning;
use crate::telemetry::printable;

/// The width of the lines, unless the terminal has another one.
const WIDTH: usize = 80;
/// A narrower terminal gets lines of this width.
const MIN_WIDTH: usize = 40;
/// A name is not cut below this width to make a line fit.
const MIN_NAME: usize = 8;
/// Rows of a table that are shown; `--json` has all.
const MAX_ROWS: usize = 8;
/// The lines that one problem may take.
const MAX_PROBLEM_LINES: usize = 2;
/// The lines that all problems together may take, unless the terminal has room for more.
const MAX_LINES_OF_PROBLEMS: usize = 7;
/// An error of a sink that delivers is shown for this time: the longest default pause between two attempts, and a bit.
const RECENT_ERROR: Duration = Duration::from_mins(15);
/// From this percentage on, a limit is a problem.
const NEARLY_FULL: u64 = 80;

pub(super) struct Screen<'r> {
    pub(super) reading: &'r Reading,
    /// The reading before, for the rates.
    pub(super) before: Option<&'r Reading>,
    /// Why the last reading failed.
    pub(super) error: Option<&'r str>,
    /// The size of the terminal in lines and columns, if the screen is redrawn there.
    pub(super) size: Option<(usize, usize)>,
}

/// The lines and columns of the terminal on standard output.
pub(super) fn terminal_size() -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    let (lines, columns) = (usize::from(size.ws_row), usize::from(size.ws_col));
    (lines > 1 && columns > 0).then_some((lines, columns))
}

/// Draws over what was drawn before, without clearing the screen in between, which would flicker.
pub(super) fn redraw(lines: &[String], is_first: bool, out: &mut impl Write) -> io::Result<()> {
    if is_first {
        write!(out, "\x1b[2J")?;
    }
    write!(out, "\x1b[H")?;
    for line in lines {
        // Erased before it is written: after a line of the full width, some terminals would erase its last character.
        write!(out, "\x1b[K{line}\r\n")?;
    }
    write!(out, "\x1b[J")
}

impl Screen<'_> {
    /// No line is wider than the terminal, and there are fewer lines than it has.
    pub(super) fn lines(&self, now: WallTime) -> io::Result<Vec<String>> {
        let status = &self.reading.status;
        let width = self.size.map_or(WIDTH, |(_, columns)| columns.max(MIN_WIDTH));
        let head = format!("regards-relay {}, up {}", status.version, units::age(Duration::from_secs(status.uptime)));
        let time = jiff::Timestamp::from_millisecond(now.0 - now.0 % 1_000)
            .map_or_else(|_| String::new(), |now| now.to_string());
        let gap = width.saturating_sub(head.chars().count() + time.chars().count()).max(1);
        let mut lines = vec![format!("{head}{:gap$}{time}", "")];
        lines.extend(self.problem_lines(now, width));
        lines.push(String::new());
        lines.extend(fit(source_rows(self, now), "sources; `--json` has all", width)?);
        lines.push(String::new());
        lines.extend(fit(sink_rows(self, now), "sinks; `--json` has all", width)?);
        lines.push(String::new());
        lines.extend(totals(status));
        let alerts = alert_rows(status, now);
        if !alerts.cells.is_empty() {
            lines.push(String::new());
            lines.extend(fit(alerts, "raised; `--json` names the oldest of each alert", width)?);
        }
        if !status.jobs.is_empty() {
            let mut jobs = Vec::new();
            write_jobs(status.jobs.get(..MAX_ROWS).unwrap_or(&status.jobs), &mut jobs)?;
            lines.push(String::new());
            lines.extend(String::from_utf8_lossy(&jobs).lines().map(str::to_owned));
        }
        for line in &mut lines {
            cut(line, width);
        }
        // The last line of the terminal is where the cursor stays.
        let most = self.size.map_or(usize::MAX, |(lines, _)| lines - 1);
        if lines.len() > most {
            lines.truncate(most.saturating_sub(1));
            lines.push("… the terminal is too low for the rest".to_owned());
        }
        Ok(lines)
    }

    fn problem_lines(&self, now: WallTime, width: usize) -> Vec<String> {
        let mut problems: Vec<String> =
            self.error.map(|error| format!("{error}; the last state it told:")).into_iter().collect();
        problems.extend(self::problems(self.reading, now));
        if problems.is_empty() {
            return vec!["no problems: every source consumes and every sink delivers".to_owned()];
        }
        let most = self.size.map_or(0, |(lines, _)| lines / 4).max(MAX_LINES_OF_PROBLEMS);
        let in_full: Vec<_> = problems.iter().flat_map(|problem| wrapped(problem, width, MAX_PROBLEM_LINES)).collect();
        if in_full.len() <= most {
            return in_full;
        }
        // Too many for all of the text: the beginning of each says what has the problem.
        let shown = if problems.len() <= most { problems.len() } else { most - 1 };
        let mut lines: Vec<_> = problems.iter().take(shown).flat_map(|problem| wrapped(problem, width, 1)).collect();
        if let more @ 1.. = problems.len() - shown {
            lines.push(format!("! and {}", plural(more as u64, "more problem")));
        }
        lines
    }

    /// The increase of a counter per second; `-` if it is unknown, as after a restart of the relay.
    fn rate(&self, value: u64, before: impl Fn(&Status) -> Option<u64>) -> String {
        let increase =
            self.before.filter(|before| before.status.uptime <= self.reading.status.uptime).and_then(|reading| {
                let increase = value.checked_sub(before(&reading.status)?)?;
                Some((increase, self.reading.taken.saturating_duration_since(reading.taken)))
            });
        increase.map_or_else(|| "-".to_owned(), |(increase, time)| units::rate(increase, time))
    }
}

/// What a person may have to deal with, the worst first.
fn problems(reading: &Reading, now: WallTime) -> Vec<String> {
    let status = &reading.status;
    let of_sinks = |states: &'static [&str]| {
        let sinks = status.sinks.iter().filter(|sink| states.contains(&sink.state.as_str()));
        sinks.filter_map(|sink| sink_problem(sink, now)).collect::<Vec<_>>()
    };
    let mut problems: Vec<String> = status.spool.problem.clone().into_iter().collect();
    problems.extend(status.sources.iter().filter_map(source_problem));
    problems.extend(of_sinks(&["unavailable"]));
    if reading.last_reload_failed {
        problems
            .push("the last reload failed, and the old configuration is in use: see `regards-relay check`".to_owned());
    }
    problems.extend(overdue_requests(status));
    problems.extend(different_configurations(status));
    problems.extend(limits(status));
    problems.extend(of_sinks(&["delivering"]));
    problems.extend(of_sinks(&["paused", "orphaned"]));
    problems
}

/// What the other alerts report is a problem without them, too.
fn overdue_requests(status: &Status) -> impl Iterator<Item = String> {
    let overdue = status.alerts.iter().filter(|alert| alert.open.is_some() && alert.active > 0);
    overdue.map(|alert| {
        let are = if alert.active == 1 { "is" } else { "are" };
        format!("alert {}: {} {are} overdue", alert.name, plural(alert.active, "request"))
    })
}

fn different_configurations(status: &Status) -> Option<String> {
    let differing = status.spool.instances.iter().filter(|instance| !instance.same_configuration);
    let differing: Vec<_> = differing.map(|instance| instance.name.clone()).collect();
    configuration_warning(&differing)
}

/// The limits that are nearly reached.
fn limits(status: &Status) -> Vec<String> {
    let (spool, letters) = (&status.spool, &status.dead_letters);
    let mut problems = Vec::new();
    let used = units::percent(spool.bytes, spool.max_bytes);
    if used >= NEARLY_FULL {
        problems.push(format!("the spool uses {used} % of `spool.max_size`"));
    }
    for sink in &status.sinks {
        let used = units::percent(sink.bytes, spool.max_sink_bytes);
        if used >= NEARLY_FULL {
            problems.push(format!("sink {} uses {used} % of its share of the spool (`spool.max_share`)", sink.name));
        }
    }
    let used = letters.max_bytes.map_or(0, |most| units::percent(letters.bytes, most));
    if used >= NEARLY_FULL {
        problems.push(format!("dead letters use {used} % of `dead_letters.max_size`: redrive or purge some"));
    }
    problems
}

fn source_problem(source: &SourceStatus) -> Option<String> {
    let SourceStatus { name, state, reason, .. } = source;
    match (state.as_str(), reason) {
        ("consuming", _) => None,
        ("paused", _) => Some(format!("source {name} is paused: `regards-relay resume --source {name}` resumes it")),
        ("blocked", Some(reason)) => Some(format!("source {name} is blocked: {reason}")),
        // The reason continues the sentence.
        (_, Some(reason)) => Some(format!("source {name} {reason}")),
        (state, None) => Some(format!("source {name} is {state}")),
    }
}

fn sink_problem(sink: &SinkStatus, now: WallTime) -> Option<String> {
    let SinkStatus { name, state, reason, .. } = sink;
    let reason = reason.as_deref().unwrap_or("the reason is unknown");
    let next = sink.next_attempt.as_deref().and_then(|at| until(at, now));
    match state.as_str() {
        "unavailable" => {
            let next = next.map_or_else(|| "an attempt is due".to_owned(), |wait| format!("next attempt in {wait}"));
            Some(format!("sink {name} is unavailable ({next}): {reason}"))
        }
        "paused" => {
            let reason = reason.strip_prefix("paused: ").unwrap_or(reason);
            let end = next.map_or_else(
                || format!("`regards-relay resume --sink {name}` resumes it"),
                |wait| format!("it resumes in {wait}"),
            );
            Some(format!("sink {name} is paused ({end}): {reason}"))
        }
        "orphaned" => Some(reason.to_owned()),
        _ => {
            let error = sink.last_error.as_ref().filter(|_| sink.spooled > 0)?;
            let age = since(sink.last_error_at.as_deref()?, now)?;
            (age <= RECENT_ERROR).then(|| format!("sink {name} failed {} ago: {error}", units::age(age)))
        }
    }
}

/// In the order of the configuration, but those with problems first if there are too many to show.
fn source_rows(screen: &Screen<'_>, now: WallTime) -> TableRows<5> {
    let sources = &screen.reading.status.sources;
    let (shown, more) = most_important(sources, |source| source.state != "consuming");
    let rows = shown.into_iter().map(|source| {
        let before =
            |status: &Status| status.sources.iter().find(|one| one.name == source.name).map(|one| one.received);
        let last = source.last_message.as_deref().and_then(|at| since(at, now));
        [
            printable(&source.name).into_owned(),
            source.state.clone(),
            source.received.to_string(),
            screen.rate(source.received, before),
            last.map_or_else(|| "-".to_owned(), |age| format!("{} ago", units::age(age))),
        ]
    });
    TableRows { heads: ["SOURCE", "STATE", "RECEIVED", "RATE", "LAST MESSAGE"], cells: rows.collect(), more }
}

fn sink_rows(screen: &Screen<'_>, now: WallTime) -> TableRows<7> {
    let sinks = &screen.reading.status.sinks;
    let (shown, more) = most_important(sinks, |sink| sink.state != "delivering" || sink.spooled > 0);
    let rows = shown.into_iter().map(|sink| {
        let before = |status: &Status| status.sinks.iter().find(|one| one.name == sink.name).map(|one| one.delivered);
        let oldest = sink.oldest.as_deref().filter(|_| sink.spooled > 0).and_then(|at| since(at, now));
        [
            printable(&sink.name).into_owned(),
            sink.state.clone(),
            sink.delivered.to_string(),
            screen.rate(sink.delivered, before),
            sink.in_flight.to_string(),
            sink.spooled.to_string(),
            oldest.map_or_else(|| "-".to_owned(), units::age),
        ]
    });
    let heads = ["SINK", "STATE", "DELIVERED", "RATE", "IN FLIGHT", "BACKLOG", "OLDEST"];
    TableRows { heads, cells: rows.collect(), more }
}

/// What the alerts are raised for: parts of the relay, then the requests that have been overdue for the longest time.
fn alert_rows(status: &Status, now: WallTime) -> TableRows<3> {
    let active: u64 = status.alerts.iter().map(|alert| alert.active).sum();
    let (of_requests, others): (Vec<_>, Vec<_>) = status.alerts.iter().partition(|alert| alert.open.is_some());
    let alerts = others.into_iter().chain(of_requests);
    let raised = alerts.flat_map(|alert| alert.raised.iter().map(|raised| (&alert.name, raised)));
    // One row says how many are left out.
    let shown = if active <= MAX_ROWS as u64 { MAX_ROWS } else { MAX_ROWS - 1 };
    let rows = raised.take(shown).map(|(name, raised)| {
        let since = since(&raised.since, now).map_or_else(|| "-".to_owned(), |age| format!("{} ago", units::age(age)));
        [printable(name).into_owned(), since, printable(&raised.subject).into_owned()]
    });
    let cells: Vec<_> = rows.collect();
    let more = usize::try_from(active).unwrap_or(usize::MAX).saturating_sub(cells.len());
    TableRows { heads: ["ALERT", "SINCE", "SUBJECT"], cells, more }
}

/// At most [`MAX_ROWS`] of them, and how many are left out.
fn most_important<T>(all: &[T], matters: impl Fn(&T) -> bool) -> (Vec<&T>, usize) {
    if all.len() <= MAX_ROWS {
        return (all.iter().collect(), 0);
    }
    let first = all.iter().filter(|one| matters(one));
    let others = all.iter().filter(|one| !matters(one));
    // One row says how many are left out.
    let shown = MAX_ROWS - 1;
    (first.chain(others).take(shown).collect(), all.len() - shown)
}

struct TableRows<const COLUMNS: usize> {
    heads: [&'static str; COLUMNS],
    cells: Vec<[String; COLUMNS]>,
    /// How many are left out.
    more: usize,
}

/// The lines of a table; names are cut where a line would be too wide.
fn fit<const COLUMNS: usize>(rows: TableRows<COLUMNS>, what: &str, width: usize) -> io::Result<Vec<String>> {
    let TableRows { heads, cells: mut rows, more } = rows;
    let widest = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(String::as_str);
        cells.chain(heads.get(column).copied()).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let others: usize = (1..COLUMNS).map(|column| widest(column) + 2).sum();
    let name = width.saturating_sub(others).max(MIN_NAME);
    let mut table = Table::new(heads);
    let mut lines = Vec::new();
    for row in &mut rows {
        if let Some(first) = row.first_mut() {
            cut(first, name);
        }
        table.row(std::mem::replace(row, [const { String::new() }; COLUMNS]), &mut lines)?;
    }
    table.finish(&mut lines)?;
    let mut lines: Vec<_> = String::from_utf8_lossy(&lines).lines().map(str::to_owned).collect();
    if more > 0 {
        lines.push(format!("and {more} more {what}"));
    }
    Ok(lines)
}

fn totals(status: &Status) -> Vec<String> {
    let (spool, letters) = (&status.spool, &status.dead_letters);
    let [bytes, most] = [spool.bytes, spool.max_bytes].map(units::size);
    let letters_most = letters.max_bytes.map_or_else(String::new, |most| format!(" of {}", units::size(most)));
    let hint = if letters.count > 0 { "; see `dead-letters list`" } else { "" };
    let mut totals = vec![
        format!("spool         {}, {bytes} of {most}", plural(spool.deliveries, "delivery")),
        format!("dead letters  {}, {}{letters_most}{hint}", letters.count, units::size(letters.bytes)),
    ];
    for instance in spool.instances.iter().take(MAX_ROWS) {
        let name = printable(&instance.name);
        if instance.shards.is_empty() {
            totals.push(format!("relay         {name} stands by"));
        }
        totals.extend(instance.shards.iter().take(MAX_ROWS).map(|shard| {
            let ShardStatus { source, epoch, lease } = shard;
            let source = source.as_ref().map_or_else(String::new, |source| format!("source {}, ", printable(source)));
            let lease = Duration::from_millis(*lease).as_secs_f32();
            format!("relay         {name} works, {source}epoch {epoch}, lease {lease:.1} s")
        }));
    }
    let watched = status.alerts.iter().filter_map(|alert| Some((&alert.name, alert.open?, alert.active)));
    totals.extend(watched.take(MAX_ROWS).map(|(name, open, overdue)| {
        format!("requests      {open} open, {overdue} overdue (alert {})", printable(name))
    }));
    totals
}

/// A problem in at most that many lines, of which the first begins with `!`.
fn wrapped(problem: &str, width: usize, most: usize) -> Vec<String> {
    let problem = printable(problem);
    let mut lines = vec!["!".to_owned()];
    for word in problem.split(' ') {
        let is_last = lines.len() >= most;
        if let Some(line) = lines.last_mut() {
            let is_full = line.chars().count() + 1 + word.chars().count() > width;
            if !is_full || is_last || line.len() == 1 {
                line.push(' ');
                line.push_str(word);
                continue;
            }
        }
        lines.push(format!("  {word}"));
    }
    for line in &mut lines {
        cut(line, width);
    }
    lines
}

/// Cuts a text that is wider, and ends it with `…` then.
fn cut(text: &mut String, width: usize) {
    if text.chars().count() > width
        && let Some((end, _)) = text.char_indices().nth(width.saturating_sub(1))
    {
        text.truncate(end);
        text.push('…');
    }
}

/// How long ago that time was, RFC 3339.
fn since(at: &str, now: WallTime) -> Option<Duration> {
    let at = at.parse::<jiff::Timestamp>().ok()?.as_millisecond();
    Some(Duration::from_millis(u64::try_from(now.0.saturating_sub(at)).unwrap_or(0)))
}

/// How long it is until that time; none if it has passed.
fn until(at: &str, now: WallTime) -> Option<String> {
    let at = at.parse::<jiff::Timestamp>().ok()?.as_millisecond();
    let left = u64::try_from(at.saturating_sub(now.0)).ok().filter(|left| *left > 0)?;
    Some(units::age(Duration::from_millis(left).max(Duration::from_secs(1))))
}

#[cfg(test)]
mod tests;
