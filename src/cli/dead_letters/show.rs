//! `dead-letters show`: all of one dead letter.

use std::borrow::Cow;
use std::io::{self, Write};

use serde::Serialize;
use serde_json::value::RawValue;

use super::DeadLetterJson;
use crate::event::sample::Sample;
use crate::event::{Carrier, Event, EventView, Format};
use crate::spool::StoredDeadLetter;
use crate::telemetry::{printable, printable_lines};

/// The keys of `list` and those of a sample. Users rely on them.
#[derive(Debug, Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    line: DeadLetterJson<'a>,
    #[serde(flatten)]
    sample: Sample<'a>,
    event: Option<Box<RawValue>>,
}

pub(super) fn print(shown: &StoredDeadLetter, json: bool, out: &mut impl Write) -> anyhow::Result<()> {
    let event = event(shown);
    if json {
        let sample = Sample::of(&shown.message);
        let document = Document { line: DeadLetterJson::of(&shown.summary), sample, event };
        crate::cli::write_json(&document, &mut *out)?;
    } else {
        write_text(shown, event.as_deref(), out)?;
    }
    Ok(())
}

fn write_text(shown: &StoredDeadLetter, event: Option<&RawValue>, out: &mut impl Write) -> io::Result<()> {
    let letter = &shown.summary;
    let (id, at, attempts) = (letter.id.to_string(), letter.at.to_rfc3339(), letter.attempts.to_string());
    let lines = [
        ("dead letter", Some(&*id)),
        ("at", Some(&at)),
        ("reason", Some(&letter.reason)),
        ("detail", Some(&letter.detail)),
        ("sink", letter.sink.as_deref()),
        ("source", Some(&letter.source)),
        ("tenant", letter.tenant.as_deref()),
        ("status", letter.status.as_deref()),
        ("correlation id", letter.correlation_id.as_deref()),
        ("attempts", Some(&attempts)),
    ];
    for (name, value) in lines {
        writeln!(out, "{name:<15} {}", printable(value.unwrap_or("-")))?;
    }
    let properties = serde_json::to_string_pretty(&shown.message.properties)?;
    writeln!(out, "\nproperties\n{}", printable_lines(&properties))?;
    let body = &shown.message.body;
    let lossy = String::from_utf8_lossy(body);
    let note = if matches!(lossy, Cow::Owned(_)) { ", not UTF-8: invalid ones are shown as �" } else { "" };
    writeln!(out, "\nbody ({} bytes{note})\n{}", body.len(), printable_lines(&lossy))?;
    match event {
        Some(event) => writeln!(out, "\nevent\n{}", printable_lines(event.get())),
        None => writeln!(out, "\nevent\nnone: the message could not be decoded"),
    }
}

/// The normalized event. To decode a message again needs no configuration: its type and tenant are stored.
fn event(shown: &StoredDeadLetter) -> Option<Box<RawValue>> {
    let (kind, tenant) = (shown.kind.as_deref()?, shown.summary.tenant.as_deref()?);
    let event = Event::decode_as(&shown.message, kind, &tenant.into()).ok()?;
    let encoded = Format::Normalized.encode(EventView::of(&event, &shown.message), Carrier::Line).ok()?;
    RawValue::from_string(String::from_utf8(encoded.body.to_vec()).ok()?).ok()
}
