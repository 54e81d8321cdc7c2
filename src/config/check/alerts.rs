//! The key `alerts:`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::common::{DAY, MAX_NAME, SECOND, number, period};
use super::overlap::Overlap;
use super::routes::{self, Sinks};
use crate::config::raw;
use crate::config::text::decode::{At, OneOrMany};
use crate::config::text::diagnostic::Diagnostic;
use crate::config::text::reader::Reader;
use crate::config::text::scalar::{DurationOrExpires, Period, Text, ValueOrWord};
use crate::config::text::tree::Span;
use crate::config::text::words::list;
use crate::event::{Family, OptionalField, Outcome};
use crate::rules::{Alert, AlertName, Condition, Field, Glob, Overdue, SinkIndex, Trigger};

/// The keys of which an alert has one.
const TRIGGERS: [&str; 6] =
    ["overdue", "sink_failing", "source_down", "spool_filling", "dead_letters", "reload_failed"];
const MAX_ALERTS: usize = 100;
/// REGARDS takes longer than this for every request that it accepts: it works in batches, which its scheduler starts.
const FASTEST_END: Duration = Duration::from_mins(1);
const DEFAULT_FOR: Duration = Duration::from_mins(5);
const DEFAULT_ABOVE: u8 = 80;

pub(super) fn alerts(raw: &raw::Root, reader: &mut Reader<'_>) -> Option<Arc<[Alert]>> {
    let Some(alerts) = &raw.alerts else { return Some(Arc::default()) };
    if alerts.value.0.len() > MAX_ALERTS {
        reader.report(
            Diagnostic::error("too-many", alerts.head, format!("there are more than {MAX_ALERTS} alerts"))
                .help("a pattern with `*` lets one alert watch many tenants, sources or sinks"),
        );
        return None;
    }
    let sinks = Sinks::of(raw);
    let mut names: HashMap<&str, Span> = HashMap::new();
    let mut all = Vec::new();
    for at in &alerts.value.0 {
        if let Some(name) = &at.value.name
            && let Some(first) = names.insert(&name.value.text, name.span)
        {
            let message = format!("there are two alerts named {}", reader.quote(name.span));
            reader.report(
                Diagnostic::error("duplicate-alert", name.span, message)
                    .also(first, "first here")
                    .help("give each alert its own name: its events and metrics have it"),
            );
        }
        all.push(alert(at, raw, &sinks, reader));
    }
    // All alerts are checked, also after a wrong one.
    all.into_iter().collect()
}

fn alert(at: &At<raw::Alert>, root: &raw::Root, sinks: &Sinks<'_>, reader: &mut Reader<'_>) -> Option<Alert> {
    let raw = &at.value;
    let name = raw.name.as_ref().and_then(|name| alert_name(name, reader));
    let to = raw.to.as_ref().and_then(|to| {
        if to.value.0.is_empty() {
            reader.report(
                Diagnostic::error("empty-list", to.span, "nobody gets this alert")
                    .help("name the sinks that get it, or remove the alert"),
            );
        }
        sinks.find(&to.value.0, reader)
    });
    let trigger = one_trigger(at, reader).then(|| trigger(raw, root, reader)).flatten();
    if reader.lacks_value_in(at.span) {
        return None;
    }
    let alert = Alert { name: name?, trigger: trigger?, to: to? };
    check_receivers(&alert, raw, root, reader);
    Some(alert)
}

fn alert_name(name: &At<Text>, reader: &mut Reader<'_>) -> Option<AlertName> {
    let text = &name.value.text;
    if text.trim().is_empty() || text.len() > MAX_NAME || text.contains(char::is_control) {
        let message = format!("{} can't be the name of an alert", reader.quote(name.span));
        reader.report(
            Diagnostic::error("illegal-name", name.span, message)
                .help(format!("write 1 to {MAX_NAME} bytes of text on one line")),
        );
        return None;
    }
    Some(AlertName::new(text))
}

/// Reports an alert with no condition, or with several. True: it has one.
fn one_trigger(at: &At<raw::Alert>, reader: &mut Reader<'_>) -> bool {
    let raw = &at.value;
    let heads = [
        raw.overdue.as_ref().map(|at| at.head),
        raw.sink_failing.as_ref().map(|at| at.head),
        raw.source_down.as_ref().map(|at| at.head),
        raw.spool_filling.as_ref().map(|at| at.head),
        raw.dead_letters.as_ref().map(|at| at.head),
        raw.reload_failed.as_ref().map(|at| at.head),
    ];
    let mut given = heads.into_iter().flatten();
    match (given.next(), given.next()) {
        (Some(_), None) => return true,
        (Some(_), Some(second)) => reader.report(
            Diagnostic::error("two-triggers", second, "an alert has one condition")
                .help("make it two alerts, each with its own name"),
        ),
        (None, _) if reader.failed_in(at.span) => {}
        (None, _) => reader.report(
            Diagnostic::error("no-trigger", at.head, "this alert has no condition: nothing raises it")
                .help(format!("add one of {}; a condition without settings is `{{}}`", list(TRIGGERS))),
        ),
    }
    false
}

fn trigger(raw: &raw::Alert, root: &raw::Root, reader: &mut Reader<'_>) -> Option<Trigger> {
    if let Some(overdue) = &raw.overdue {
        return self::overdue(overdue, reader).map(Trigger::Overdue);
    }
    if let Some(failing) = &raw.sink_failing {
        let known: Vec<_> =
            root.sinks.iter().flat_map(|sinks| &sinks.value.0).map(|(key, _)| key.text.clone()).collect();
        let sinks = names("sink", failing.value.sink.as_ref(), root.sinks.is_some().then_some(&*known), reader);
        return Some(Trigger::SinkFailing { sinks, after: duration(failing.value.r#for.as_ref(), reader) });
    }
    if let Some(down) = &raw.source_down {
        let entries = root.sources.iter().flat_map(|sources| &sources.value.0);
        let known = entries.flat_map(|(key, source)| super::source::expand(&key.text, &source.value));
        let known: Vec<_> = known.map(|(name, _)| name).collect();
        let sources = names("source", down.value.source.as_ref(), root.sources.is_some().then_some(&*known), reader);
        return Some(Trigger::SourceDown { sources, after: duration(down.value.r#for.as_ref(), reader) });
    }
    if let Some(filling) = &raw.spool_filling {
        let above = filling.value.above.as_ref();
        if let Some(above) = above.filter(|above| above.value.0 >= 100) {
            reader.report(
                Diagnostic::error("never-fires", above.span, "the spool is never filled to more than `100%`")
                    .help("write a smaller share, as in `80%`"),
            );
        }
        return Some(Trigger::SpoolFilling { above: above.map_or(DEFAULT_ABOVE, |above| above.value.0) });
    }
    if let Some(letters) = &raw.dead_letters {
        let more_than = number(reader, letters.value.more_than.as_ref(), 0, 0..=1_000_000_000);
        return Some(Trigger::DeadLetters { more_than });
    }
    raw.reload_failed.as_ref().map(|_| Trigger::ReloadFailed)
}

fn duration(at: Option<&At<Period>>, reader: &mut Reader<'_>) -> Duration {
    period(reader, at, DEFAULT_FOR, SECOND..=30 * DAY)
}

/// The patterns of names. Reports those that match no name of the file.
fn names(what: &str, at: Option<&At<OneOrMany<Text>>>, known: Option<&[String]>, reader: &mut Reader<'_>) -> Vec<Glob> {
    let Some(at) = at else { return vec![Glob::new("*")] };
    if at.value.0.is_empty() {
        reader.report(
            Diagnostic::error("empty-list", at.span, "an empty list matches nothing")
                .help("remove the key to match everything"),
        );
    }
    let mut globs = Vec::new();
    for pattern in &at.value.0 {
        let glob = Glob::new(&pattern.value.text);
        if let Some(known) = known
            && !pattern.value.placeholder
            && !known.iter().any(|name| glob.matches(name))
            && !reader.is_full()
        {
            let message = format!("there is no {what} {}", reader.quote(pattern.span));
            let diagnostic = Diagnostic::error(
                if what == "sink" { "unknown-sink" } else { "unknown-source" },
                pattern.span,
                message,
            );
            reader.report(diagnostic.suggest_one_of(&pattern.value.text, known.iter().map(String::as_str)));
        }
        globs.push(glob);
    }
    globs
}

fn overdue(at: &At<raw::Overdue>, reader: &mut Reader<'_>) -> Option<Overdue> {
    let raw = &at.value;
    let when = match &raw.when {
        Some(when) => routes::condition(when, reader),
        None => Some(Condition {
            fields: vec![(Field::Outcome, vec![Glob::new(Outcome::Accepted.as_str())])],
            ..Condition::default()
        }),
    };
    let within = raw.within.as_ref()?;
    let (mut shortest, mut at_expiry) = (None, false);
    if within.value.0.is_empty() {
        reader.report(
            Diagnostic::error("empty-list", within.span, "no time limit: the alert is never raised")
                .help("write a duration, as in `24h`, or `expires`"),
        );
    }
    for deadline in &within.value.0 {
        match deadline.value {
            DurationOrExpires(ValueOrWord::Word) => at_expiry = true,
            DurationOrExpires(ValueOrWord::Value(limit)) => {
                check_limit(deadline.span, limit, reader);
                shortest = Some(shortest.map_or(limit, |known: Duration| known.min(limit)));
            }
        }
    }
    Some(Overdue { when: when?, within: shortest, at_expiry })
}

fn check_limit(span: Span, limit: Duration, reader: &mut Reader<'_>) {
    if !(SECOND..=366 * DAY).contains(&limit) {
        let message = format!("{} is out of range", reader.quote(span));
        reader.report(Diagnostic::error("out-of-range", span, message).help("write something between `1s` and `366d`"));
    } else if limit < FASTEST_END {
        reader.report(
            Diagnostic::warning("overdue-too-soon", span, "REGARDS needs longer than this for any request")
                .label("every request becomes overdue")
                .help("write how long a request may take at most, as in `24h`"),
        );
    }
}

/// Warns of an alert that nobody gets, because it is only about the sink that it goes to.
fn check_receivers(alert: &Alert, raw: &raw::Alert, root: &raw::Root, reader: &mut Reader<'_>) {
    let (Trigger::SinkFailing { sinks, .. }, [SinkIndex(only)], Some(to)) = (&alert.trigger, &*alert.to, &raw.to)
    else {
        return;
    };
    let Some((key, _)) = root.sinks.as_ref().and_then(|sinks| sinks.value.0.get(*only)) else { return };
    if !sinks.iter().any(|glob| glob.matches(&key.text)) {
        return;
    }
    let message = format!("nobody hears when `{}` fails: an alert about a sink never goes to that sink", key.text);
    reader.report(
        Diagnostic::warning("alert-about-itself", to.span, message)
            .help("name a second sink in `to`, with another destination"),
    );
}

/// Reports alerts of requests that can never be raised.
pub(super) fn check_overdue(raw: &raw::Root, alerts: &[Alert], families: &[&'static Family], reader: &mut Reader<'_>) {
    let overlap = Overlap::of(families);
    let raw = raw.alerts.iter().flat_map(|alerts| &alerts.value.0);
    for (alert, raw) in alerts.iter().zip(raw) {
        let (Some(overdue), Some(raw)) = (alert.overdue(), &raw.value.overdue) else { continue };
        let span = raw.value.when.as_ref().map_or(raw.head, |when| when.span);
        let opening = [Outcome::Accepted, Outcome::Progress].map(|outcome| Condition {
            fields: vec![(Field::Outcome, vec![Glob::new(outcome.as_str())])],
            ..Condition::default()
        });
        if reader.failed_in(span) {
            continue;
        }
        if overlap.contradicts_itself(&overdue.when) {
            reader.report(
                Diagnostic::warning("never-fires", span, "no event opens a request here: the conditions exclude each other")
                    .help("`type`, `status` and `outcome` have to be possible together, and `not:` must not exclude everything"),
            );
        } else if opening.iter().all(|opening| overlap.disjoint(&overdue.when, opening)) {
            reader.report(
                Diagnostic::error(
                    "never-fires",
                    span,
                    "this matches only events that end their request: none is ever overdue",
                )
                .help("write what opens a request, as in `when: { outcome: accepted }`"),
            );
        }
        let has_expiry = |family: &&Family| family.fields.iter().any(|(_, field)| *field == OptionalField::Expires);
        if let (None, true, Some(within)) = (overdue.within, overdue.at_expiry, &raw.value.within)
            && !families.iter().any(has_expiry)
        {
            reader.report(
                Diagnostic::error("never-fires", within.span, "the events of these sources have no `expires`")
                    .help("write a duration, as in `within: 24h`"),
            );
        }
    }
}
