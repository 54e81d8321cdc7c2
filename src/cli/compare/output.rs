//! Prints differences: one by one, or equal ones once with the number of samples; as text or JSON.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use crate::cli::plural;
use crate::dry_run::{BeforeAfter, ChangedValue, DeadLetterReason, Difference, SinkChange, SinkDifference};
use crate::event::Event;
use crate::telemetry::printable;

/// A longer value is cut in the text, in characters.
const MAX_SHOWN: usize = 200;
/// Beyond this number of groups of equal differences, the rest are counted together.
const MAX_GROUPS: usize = 200;

pub(super) trait DifferenceWriter {
    /// Called for each sample that the configurations treat differently.
    fn add(
        &mut self,
        line: usize,
        event: Option<&Event>,
        difference: Difference,
        out: &mut dyn Write,
    ) -> io::Result<()>;

    /// Called after the last sample.
    fn finish(&mut self, _out: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

pub(super) struct EachDifference {
    pub(super) samples: PathBuf,
    pub(super) json: bool,
}

/// Users rely on these names.
#[derive(Serialize)]
struct Document<'d> {
    line: usize,
    event: Option<&'d Event>,
    #[serde(flatten)]
    difference: &'d Difference,
}

impl DifferenceWriter for EachDifference {
    fn add(
        &mut self,
        line: usize,
        event: Option<&Event>,
        difference: Difference,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        if self.json {
            return write_json(&Document { line, event, difference: &difference }, out);
        }
        let event = event.map_or_else(
            || "the message can't be decoded".to_owned(),
            |event| format!("{} {} {}", event.tenant, event.status, event.correlation_id),
        );
        writeln!(out, "{}:{line}: {}", self.samples.display(), printable(&event))?;
        show(&difference, out)
    }
}

/// Prints equal differences once, the most frequent first.
pub(super) struct DifferenceGroups {
    json: bool,
    by_kind: HashMap<String, Group>,
    /// How many samples have a difference beyond [`MAX_GROUPS`].
    others: u64,
}

/// Samples with equal differences. Users rely on these names.
#[derive(Serialize)]
struct Group {
    count: u64,
    /// The line of the first sample.
    line: usize,
    #[serde(flatten)]
    difference: Difference,
}

impl DifferenceGroups {
    pub(super) fn new(json: bool) -> Self {
        Self { json, by_kind: HashMap::new(), others: 0 }
    }
}

impl DifferenceWriter for DifferenceGroups {
    fn add(&mut self, line: usize, _: Option<&Event>, difference: Difference, _: &mut dyn Write) -> io::Result<()> {
        let key = kind_of(&difference);
        if let Some(group) = self.by_kind.get_mut(&key) {
            group.count += 1;
        } else if self.by_kind.len() < MAX_GROUPS {
            self.by_kind.insert(key, Group { count: 1, line, difference });
        } else {
            self.others += 1;
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let mut groups: Vec<Group> = std::mem::take(&mut self.by_kind).into_values().collect();
        groups.sort_by_key(|group| (std::cmp::Reverse(group.count), group.line));
        for group in &groups {
            if self.json {
                write_json(group, out)?;
            } else {
                writeln!(out, "{}, the first in line {}:", plural(group.count, "sample"), group.line)?;
                show(&group.difference, out)?;
            }
        }
        match self.others {
            0 => Ok(()),
            others if self.json => writeln!(out, "{{\"count\":{others},\"line\":null}}"),
            others => writeln!(out, "{} with other differences", plural(others, "sample")),
        }
    }
}

/// What equal differences have in common: the sinks, how each of them differs, and in which fields; not the values, which differ
/// between samples.
fn kind_of(difference: &Difference) -> String {
    use std::fmt::Write as _;

    let mut kind = String::new();
    // Writing to a String can't fail.
    if let Some(BeforeAfter { before, after }) = &difference.dead_letter {
        let reason =
            |letter: &Option<DeadLetterReason>| letter.as_ref().map_or("none", |letter| letter.reason.as_str());
        let _ = write!(kind, "{} {}", reason(before), reason(after));
    }
    for SinkDifference { sink, change } in &difference.sinks {
        let _ = match change {
            SinkChange::Added { route } => write!(kind, "\n+ {sink} {route:?}"),
            SinkChange::Removed { route } => write!(kind, "\n- {sink} {route:?}"),
            SinkChange::Changed { values } => {
                let paths: Vec<_> = values.iter().map(|value| value.path.as_str()).collect();
                write!(kind, "\n~ {sink} {paths:?}")
            }
        };
    }
    kind
}

fn write_json(document: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    crate::cli::write_json(document, &mut *out)
}

fn show(difference: &Difference, out: &mut dyn Write) -> io::Result<()> {
    if let Some(BeforeAfter { before, after }) = &difference.dead_letter {
        let text = |letter: &Option<DeadLetterReason>| {
            letter
                .as_ref()
                .map_or("none".to_owned(), |DeadLetterReason { reason, detail }| format!("{reason} ({detail})"))
        };
        writeln!(out, "  dead letter: {} -> {}", printable(&text(before)), printable(&text(after)))?;
    }
    for SinkDifference { sink, change } in &difference.sinks {
        let by = |route: &Option<String>| {
            route.as_ref().map_or_else(|| "`unrouted:`".to_owned(), |route| format!("the route {route}"))
        };
        match change {
            SinkChange::Added { route } => writeln!(out, "  + {sink}, by {}", by(route))?,
            SinkChange::Removed { route } => writeln!(out, "  - {sink}, which got it by {}", by(route))?,
            SinkChange::Changed { values } => {
                // Spaces in JSON and secrets are not shown.
                let hidden = if values.is_empty() { ", in a part that is not shown" } else { "" };
                writeln!(out, "  ~ {sink}{hidden}")?;
                for ChangedValue { path, changed: BeforeAfter { before, after } } in values {
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
