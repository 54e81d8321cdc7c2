//! `routes.test.yaml`: the test cases for the routes of a configuration.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::load::load;
use super::model::Config;
use super::text::decode;
use super::text::decode::{At, List, NamedEntries, mapping};
use super::text::diagnostic::{Diagnostic, Diagnostics};
use super::text::environment::Options;
use super::text::literal::Literal;
use super::text::reader::Reader;
use super::text::scalar::Text;
use super::text::tree::{Key, Node, Span};
use crate::event::{AlertSample, Message, Reason, SourceName, sample};

/// The key under which a reason is expected in the place of sinks.
const DEAD_LETTER: &str = "dead_letter";
/// The key under which alerts are expected, unless a sink has this name.
const ALERTS: &str = "alerts";
/// What can be expected of one delivery.
const FIELDS: [&str; 14] = [
    "topic",
    "key",
    "timestamp",
    "url",
    "exchange",
    "routingKey",
    "path",
    "headers",
    "properties",
    "body",
    "encoded",
    "group",
    "route",
    DEAD_LETTER,
];

#[derive(Debug, Clone)]
pub struct Case {
    pub name: String,
    /// Its line in the file, counted from 1.
    pub line: usize,
    /// The source that receives the message; `None` is the only source.
    pub source: Option<String>,
    /// Replaces the tenant of the message.
    pub tenant: Option<String>,
    pub message: CaseMessage,
    /// The alerts that match, each of them; `None` expects nothing of them.
    pub alerts: Option<Vec<String>>,
    /// `None`: only alerts are expected.
    pub expect: Option<Expectation>,
}

#[derive(Debug, Clone)]
pub enum CaseMessage {
    /// Decoded from the file of cases; its source is only known later.
    Sample(Box<Message>),
    /// A line of a file of samples, counted from 1.
    Line(PathBuf, usize),
    /// Messages whose events are delivered together; decoded from the file of cases.
    Digest(Vec<Message>),
    Alert(Box<AlertSample>),
}

/// The expected result of a case.
#[derive(Debug, Clone, PartialEq)]
pub enum Expectation {
    /// A dead letter with this reason, and no deliveries.
    DeadLetter(Reason),
    /// Deliveries for exactly these sinks, with at least these values.
    Sinks(Vec<(String, Map<String, Value>)>),
}

mapping! {
    Root {
        /// The test cases
        tests: List<RawCase> = required,
    }
}

mapping! {
    RawCase {
        /// What the case shows
        name: Text = required,
        /// The source that receives the message; needed if the configuration has several
        source: Text,
        /// The tenant, instead of the message's own
        tenant: Text,
        /// A sample: `{ properties: …, body: … }`
        message: Literal,
        /// Several samples in the place of one: their events are one digest at each sink with `group`, and no other sink is looked at
        messages: List<Literal>,
        /// An alert in the place of a message: `{ name: …, status: RAISED, tenant: …, correlationId: … }`
        alert: Literal,
        /// A sample in a line of a file: `samples.ndjson#3`
        sample: Text,
        /// All sinks that get the message, each with its expected fields; or `dead_letter: REASON`; and `alerts: [NAME]`, all alerts that match
        expect: NamedEntries<Literal> = required,
    }
}

impl Case {
    /// Loads the cases of a file for that configuration.
    pub fn load(path: &Path, config: &Config, options: &Options) -> Result<(Vec<Self>, Diagnostics), Diagnostics> {
        load(path, ("cases", "name another file, or write one"), options, |tree, reader| cases(tree, config, reader))
    }
}

fn cases(tree: &Node, config: &Config, reader: &mut Reader<'_>) -> Option<Vec<Case>> {
    let root: At<Root> = decode::at(tree, reader)?;
    let tests = root.value.tests?;
    if tests.value.0.is_empty() {
        reader.report(
            Diagnostic::error("no-tests", tests.span, "there is no case here")
                .help("write one: `{ name: …, message: { body: … }, expect: { SINK: {} } }`"),
        );
    }
    // All cases are checked, also after a wrong one.
    let all: Vec<_> = tests.value.0.iter().map(|raw| case(raw, config, reader)).collect();
    all.into_iter().collect()
}

fn case(at: &At<RawCase>, config: &Config, reader: &mut Reader<'_>) -> Option<Case> {
    let raw = &at.value;
    if let Some(source) = &raw.source {
        let names = config.sources.iter().map(|source| source.name.as_str());
        known("unknown-source", "source", (&source.value.text, source.span), names, reader);
    }
    let message = message(at, config, reader);
    let expect = raw.expect.as_ref().map(|expect| expectations(expect, config, reader));
    let (alerts, expect) = expect??;
    Some(Case {
        name: raw.name.as_ref()?.value.text.clone(),
        line: reader.line(at.span),
        source: raw.source.as_ref().map(|source| source.value.text.clone()),
        tenant: raw.tenant.as_ref().map(|tenant| tenant.value.text.clone()),
        message: message?,
        alerts,
        expect,
    })
}

fn message(at: &At<RawCase>, config: &Config, reader: &mut Reader<'_>) -> Option<CaseMessage> {
    let RawCase { message, messages, sample, alert, .. } = &at.value;
    match (message, messages, sample, alert) {
        (Some(message), None, None, None) => {
            self::sample(message, reader).map(|message| CaseMessage::Sample(Box::new(message)))
        }
        (None, Some(messages), None, None) => digest(messages, reader),
        (None, None, Some(sample), None) => line(sample, reader),
        (None, None, None, Some(alert)) => self::alert(alert, config, reader),
        given => {
            if !reader.failed_in(at.span) {
                let is_given = !matches!(given, (None, None, None, None));
                let message = if is_given { "a case has one message" } else { "there is no message" };
                reader.report(Diagnostic::error("sample", at.head, message).help(
                    "write `message: { body: … }`, `sample: FILE#LINE`, `messages: [{ body: … }, …]` for a digest, or \
                     `alert: { name: … }`",
                ));
            }
            None
        }
    }
}

fn sample(at: &At<Literal>, reader: &mut Reader<'_>) -> Option<Message> {
    match sample::parse(&at.value.0.to_string(), &SourceName::new("a case")) {
        Ok(message) => Some(message),
        Err(error) => {
            reader.report(
                Diagnostic::error("sample", at.span, error.to_string())
                    .help("write `{ properties: …, body: … }`: the body as text, or as an object"),
            );
            None
        }
    }
}

fn digest(at: &At<List<Literal>>, reader: &mut Reader<'_>) -> Option<CaseMessage> {
    if at.value.0.is_empty() {
        reader.report(
            Diagnostic::error("sample", at.span, "a digest has at least one event")
                .help("write the messages of its events: `messages: [{ body: … }, { body: … }]`"),
        );
        return None;
    }
    let messages: Vec<_> = at.value.0.iter().map(|message| sample(message, reader)).collect();
    messages.into_iter().collect::<Option<_>>().map(CaseMessage::Digest)
}

fn line(at: &At<Text>, reader: &mut Reader<'_>) -> Option<CaseMessage> {
    let place = at.value.text.rsplit_once('#').and_then(|(path, line)| Some((path, line.parse().ok()?)));
    if place.is_none() && !at.value.placeholder {
        reader.report(
            Diagnostic::error("sample", at.span, "this is not a line of a file")
                .help("write `FILE#LINE`, as in `samples.ndjson#3`; lines are counted from 1"),
        );
    }
    place.map(|(path, line)| CaseMessage::Line(reader.folder.join(path), line))
}

fn alert(at: &At<Literal>, config: &Config, reader: &mut Reader<'_>) -> Option<CaseMessage> {
    match AlertSample::parse(&at.value.0) {
        Ok(alert) => {
            let names = config.alerts.iter().map(|alert| alert.name.as_str());
            let span = reader.word_in(at.span, &alert.name);
            known("unknown-alert", "alert", (&alert.name, span), names, reader)
                .then(|| CaseMessage::Alert(Box::new(alert)))
        }
        Err(error) => {
            reader.report(
                Diagnostic::error("alert", at.span, format!("this is no alert: {error}"))
                    .help("write `{ name: NAME, status: RAISED }`, and the fields of its event that the sinks use"),
            );
            None
        }
    }
}

/// The alerts that are expected, and what else is.
type Expectations = (Option<Vec<String>>, Option<Expectation>);

fn expectations(at: &At<NamedEntries<Literal>>, config: &Config, reader: &mut Reader<'_>) -> Option<Expectations> {
    let is_sink = |value: &Value| {
        matches!(value, Value::Object(_) | Value::Null) && config.sinks.iter().any(|sink| sink.name.as_str() == ALERTS)
    };
    let alerts = at.value.0.iter().find(|(key, value)| key.text == ALERTS && !is_sink(&value.value.0));
    let others: Vec<_> =
        at.value.0.iter().filter(|other| alerts.is_none_or(|alerts| !std::ptr::eq(alerts, *other))).collect();
    let alerts = match alerts {
        None => None,
        Some((_, alerts)) => Some(self::alerts(alerts, config, reader)?),
    };
    let expect = if others.is_empty() && alerts.is_some() { None } else { Some(expected(&others, config, reader)?) };
    Some((alerts, expect))
}

fn alerts(at: &At<Literal>, config: &Config, reader: &mut Reader<'_>) -> Option<Vec<String>> {
    let names = match &at.value.0 {
        Value::String(name) => Some(vec![name.clone()]),
        Value::Array(names) => names.iter().map(|name| name.as_str().map(str::to_owned)).collect(),
        _ => None,
    };
    let Some(names) = names else {
        reader.report(
            Diagnostic::error("expect", at.span, "these are no names of alerts")
                .help("write those that match, as in `alerts: [silent]`; none is `alerts: []`"),
        );
        return None;
    };
    let mut all = true;
    for name in &names {
        let span = reader.word_in(at.span, name);
        let configured = config.alerts.iter().map(|alert| alert.name.as_str());
        all &= known("unknown-alert", "alert", (name, span), configured, reader);
    }
    all.then_some(names)
}

fn expected(all: &[&(Key, At<Literal>)], config: &Config, reader: &mut Reader<'_>) -> Option<Expectation> {
    if let [(key, reason)] = all
        && key.text == DEAD_LETTER
    {
        let text = reason.value.0.as_str().unwrap_or_default();
        let names = Reason::NAMES.iter().copied();
        let is_known = known("unknown-reason", "reason", (text, reason.span), names, reader);
        return text.parse().ok().filter(|_| is_known).map(Expectation::DeadLetter);
    }
    let names = config.sinks.iter().map(|sink| sink.name.as_str());
    let sink = |(key, at): &(Key, At<Literal>)| {
        if key.text == DEAD_LETTER {
            reader.report(
                Diagnostic::error("expect", key.span, "a dead letter goes to no sink")
                    .help("write `dead_letter` alone, or the sinks alone"),
            );
            return None;
        }
        let is_known = known("unknown-sink", "sink", (&key.text, key.span), names.clone(), reader);
        is_known.then(|| Some((key.text.clone(), fields(at, reader)?)))?
    };
    let sinks: Vec<_> = all.iter().copied().map(sink).collect();
    sinks.into_iter().collect::<Option<_>>().map(Expectation::Sinks)
}

fn fields(at: &At<Literal>, reader: &mut Reader<'_>) -> Option<Map<String, Value>> {
    let Value::Object(fields) = &at.value.0 else {
        if at.value.0.is_null() {
            return Some(Map::new());
        }
        reader.report(
            Diagnostic::error("expect", at.span, "these are not the expected fields of a delivery")
                .help("write `{}` to expect any delivery, or the expected fields: `{ topic: …, body: { … } }`"),
        );
        return None;
    };
    let mut all = true;
    for name in fields.keys() {
        let span = reader.word_in(at.span, name);
        all &= known("unknown-field", "field", (name, span), FIELDS.into_iter(), reader);
    }
    all.then(|| fields.clone())
}

/// Whether that is one of the names. It reports any other.
fn known<'w>(
    code: &'static str,
    what: &str,
    (name, span): (&str, Span),
    names: impl Iterator<Item = &'w str> + Clone,
    reader: &mut Reader<'_>,
) -> bool {
    if names.clone().any(|known| known == name) {
        return true;
    }
    let diagnostic = Diagnostic::error(code, span, format!("there is no {what} {}", reader.quote(span)));
    reader.report(diagnostic.suggest_one_of(name, names));
    false
}
