//! How differences are printed: each sample's, or equal ones once with how many samples have them; for people or programs.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use crate::cli::counted;
use crate::dry_run::{Change, Changed, ChangedValue, DeadLetter, Difference, SinkDifference};
use crate::event::Event;
use crate::telemetry::printable;

/// What people are shown of a value, in characters.
const MAX_SHOWN: usize = 200;
/// So many groups of equal differences are kept; samples with yet another difference are counted together.
const MAX_GROUPS: usize = 200;

/// Where differences go.
pub(super) trait Differences {
    /// One sample is treated differently.
    fn add(
        &mut self,
        line: usize,
        event: Option<&Event>,
        difference: Difference,
        out: &mut dyn Write,
    ) -> io::Result<()>;

    /// There are no more.
    fn finish(&mut self, _out: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

/// Each, for people or for programs.
pub(super) struct Each {
    pub(super) samples: PathBuf,
    pub(super) json: bool,
}

/// How one message is treated differently. These names are relied on.
#[derive(Serialize)]
struct Document<'d> {
    line: usize,
    event: Option<&'d Event>,
    #[serde(flatten)]
    difference: &'d Difference,
}

impl Differences for Each {
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
            || "can't be read as an event".to_owned(),
            |event| format!("{} {} {}", event.tenant, event.status, event.correlation_id),
        );
        writeln!(out, "{}:{line}: {}", self.samples.display(), printable(&event))?;
        show(&difference, out)
    }
}

/// Equal ones once, the most frequent first.
pub(super) struct Groups {
    json: bool,
    by_kind: HashMap<String, Group>,
    /// How many samples have a difference that found no place.
    others: u64,
}

/// Samples that the same becomes of. These names are relied on.
#[derive(Serialize)]
struct Group {
    count: u64,
    /// The line of the first of them.
    line: usize,
    #[serde(flatten)]
    difference: Difference,
}

impl Groups {
    pub(super) fn new(json: bool) -> Self {
        Self { json, by_kind: HashMap::new(), others: 0 }
    }
}

impl Differences for Groups {
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
                writeln!(out, "{}, the first in line {}:", counted(group.count, "sample"), group.line)?;
                show(&group.difference, out)?;
            }
        }
        match self.others {
            0 => Ok(()),
            others if self.json => writeln!(out, "{{\"count\":{others},\"line\":null}}"),
            others => writeln!(out, "{} with other differences", counted(others, "sample")),
        }
    }
}

/// What equal differences have in common: the sinks, how each of them differs, and in which values; not the values, which every
/// sample has its own of.
fn kind_of(difference: &Difference) -> String {
    use std::fmt::Write as _;

    let mut kind = String::new();
    // Writing to a string doesn't fail.
    if let Some(Changed { before, after }) = &difference.dead_letter {
        let reason = |letter: &Option<DeadLetter>| letter.as_ref().map_or("none", |letter| letter.reason.as_str());
        let _ = write!(kind, "{} {}", reason(before), reason(after));
    }
    for SinkDifference { sink, change } in &difference.sinks {
        let _ = match change {
            Change::Added { route } => write!(kind, "\n+ {sink} {route:?}"),
            Change::Removed { route } => write!(kind, "\n- {sink} {route:?}"),
            Change::Changed { values } => {
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
