//! The key `group:` of a sink: digests.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::common::{DAY, number, period};
use crate::config::model::{Group, MAX_DIGEST_EVENTS, Retry};
use crate::config::raw;
use crate::config::text::decode::At;
use crate::config::text::diagnostic::Diagnostic;
use crate::config::text::reader::Reader;
use crate::config::text::tree::Span;
use crate::config::text::units::written_duration;

const WAIT: Duration = Duration::from_secs(30);
const WAITS: RangeInclusive<Duration> = Duration::from_millis(100)..=DAY;
const MAX: u64 = 100;

pub(super) fn group(at: &At<raw::Group>, reader: &mut Reader<'_>) -> Group {
    let raw = &at.value;
    let mut by = Vec::new();
    for field in raw.by.iter().flat_map(|by| &by.value.0) {
        if by.contains(&field.value.0) {
            let message = format!("{} is named twice", reader.quote(field.span));
            reader.report(Diagnostic::error("field-twice", field.span, message).help("name each field once"));
        } else {
            by.push(field.value.0);
        }
    }
    if let Some(empty) = raw.by.as_ref().filter(|by| by.value.0.is_empty() && !reader.failed_in(by.span)) {
        reader.report(
            Diagnostic::error("empty-list", empty.span, "there is no field to group by")
                .help("name at least one, or remove `by` to put all events of the sink together"),
        );
    }
    let most = u64::try_from(MAX_DIGEST_EVENTS).unwrap_or(u64::MAX);
    let max = number(reader, raw.max.as_ref(), MAX, 2..=most);
    Group {
        by,
        wait: period(reader, raw.wait.as_ref(), WAIT, WAITS),
        max: usize::try_from(max).unwrap_or(MAX_DIGEST_EVENTS),
    }
}

/// Reports settings of the sink that make no sense for digests.
pub(super) fn check(raw: &raw::Sink, group: &Group, retry: &Retry, takes_dead_letters: bool, reader: &mut Reader<'_>) {
    let Some(at) = &raw.group else { return };
    if raw.file.is_some() || raw.stdout.is_some() {
        reader.report(
            Diagnostic::error(
                "group-kind",
                at.head,
                "files and standard output get one line for each event, no digests",
            )
            .help("remove `group`, or use a `webhook`, `amqp` or `kafka` sink"),
        );
    }
    if takes_dead_letters {
        reader.report(
            Diagnostic::error("dead-letter-sink", at.head, "copies of dead letters are sent one by one")
                .help("remove `group` from the sink that `dead_letters.to` names"),
        );
        return;
    }
    if let Some(order_by) = &raw.order_by {
        reader.report(
            Diagnostic::error("group-order", order_by.span, "a sink with `group` keeps the order of its groups")
                .also(at.head, "the groups")
                .help("remove `order_by`: the digests of a group are delivered one after another, each with its events in the order of receipt"),
        );
    }
    if let Some(keep) = &raw.keep_headers {
        reader.report(
            Diagnostic::error(
                "group-headers",
                keep.span,
                "a digest has several messages, and no headers of any of them",
            )
            .help("remove `keep_headers`; a template in `body` can use `events[0].headers`"),
        );
    }
    check_format(raw, at.head, reader);
    if let Some(limit) = retry.give_up_after.filter(|limit| group.wait >= *limit) {
        let place = at.value.wait.as_ref().map_or(at.head, |wait| wait.span);
        let (wait, limit) = (written_duration(group.wait), written_duration(limit));
        let message = format!("a group waits for {wait}, and its events are given up after {limit}");
        reader.report(Diagnostic::error("group-wait", place, message).help(
            "make `wait` much shorter than `retry.give_up_after`, so that a failed digest can be attempted again",
        ));
    }
    check_fields_are_shown(raw, group, reader);
}

fn check_format(raw: &raw::Sink, group: Span, reader: &mut Reader<'_>) {
    let Some(format) = &raw.format else { return };
    let raw::FormatChoice::Name(name) = &format.value else { return };
    let (message, help) = match name.text.as_str() {
        "original" => (
            "several messages can't be sent as they were received",
            "remove `format`: the body is then a JSON array of the normalized events; or write a template in `body`",
        ),
        "cloudevents" if raw.webhook.is_none() => (
            "CloudEvents has batches of events for HTTP only",
            "remove `format`: the body is then a JSON array of the normalized events; or write a template in `body`",
        ),
        _ => return,
    };
    reader.report(Diagnostic::error("group-format", format.span, message).also(group, "the groups").help(help));
}

/// Warns of fields that make separate digests although the body doesn't show them.
fn check_fields_are_shown(raw: &raw::Sink, group: &Group, reader: &mut Reader<'_>) {
    let Some(body) = &raw.body else { return };
    if body.value.placeholder {
        return;
    }
    let is_word = |char: char| char.is_alphanumeric() || char == '_';
    let words: Vec<&str> = body.value.text.split(|char| !is_word(char)).filter(|word| !word.is_empty()).collect();
    // A whole event has all fields.
    if words.windows(2).any(|pair| pair == ["events", "tojson"]) {
        return;
    }
    let by = raw.group.iter().filter_map(|group| group.value.by.as_ref()).flat_map(|by| &by.value.0);
    for field in by.filter(|field| group.by.contains(&field.value.0)) {
        let name = field.value.0.as_str();
        if !words.contains(&name) {
            let message =
                format!("events that differ in `{name}` come in different digests, and the body does not show it");
            reader.report(
                Diagnostic::warning("group-not-shown", field.span, message)
                    .also(body.span, "the body")
                    .help(format!("write `{{{{ {name} }}}}` in the body, or remove `{name}` here")),
            );
        }
    }
}
