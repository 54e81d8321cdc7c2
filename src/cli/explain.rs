//! `explain`: how one message is routed and what each sink would get, without a broker.

use std::io::Write;
use std::process::ExitCode;

use serde_json::Value;

use super::message::Input;
use super::{Global, load_briefly, message, note};
use crate::config::Strictness;
use crate::dry_run::{
    DeadLetterReason, DryRun, ExplainedAlert, ExplainedDelivery, ExplainedGroup, ExplainedRoute, Explanation,
};
use crate::event::{HeaderValue, Reason};
use crate::sink::{EncodedBySchema, MaskedDelivery, MaskedDestination};
use crate::telemetry::{printable, printable_lines};

/// If more routes than this don't match, the text shows none of these.
const MAX_UNMATCHED: usize = 20;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// File with a sample, a bare body or an alert, `{"alert": {"name": NAME, …}}`; FILE#LINE takes one line of a file of samples, `-` standard input
    message: String,
    /// Tenant, instead of the message's own
    #[arg(long)]
    tenant: Option<String>,
    /// Source that receives the message; needed if the configuration has several
    #[arg(long)]
    source: Option<String>,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
    /// Also ask the schema registries of the sinks for ids and latest schemas; registers nothing
    #[arg(long)]
    connect: bool,
}

pub fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let strictness = if arguments.connect { Strictness::Run } else { Strictness::Offline };
    let config = match load_briefly(&global.config, global, strictness) {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    let (mut dry_run, message) = match message::read(&arguments.message)? {
        Input::Alert(alert) => DryRun::of_alert(&config, &alert)?,
        Input::Message(mut message) => {
            message.source = message::source(&config, arguments.source.as_deref())?;
            if let Some(tenant) = &arguments.tenant {
                message::set_tenant(&mut message, tenant);
            }
            (DryRun::of(&config, &message)?, *message)
        }
    };
    let problems = if arguments.connect { ask_registries(&mut dry_run)? } else { Vec::new() };
    let explanation = dry_run.explain(&config, &message);
    let mut out = std::io::stdout().lock();
    if arguments.json {
        crate::cli::write_json(&explanation, &mut out)?;
    } else {
        let copies = config.dead_letters.to.as_ref().map(crate::rules::SinkName::as_str);
        write_text(&explanation, copies, &mut out)?;
    }
    for problem in &problems {
        note(problem);
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns what is wrong with the registries.
fn ask_registries(dry_run: &mut DryRun<'_>) -> anyhow::Result<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let problems = runtime.block_on(dry_run.ask_registries());
    // A lookup that hangs in the resolver must not delay the exit.
    runtime.shutdown_background();
    Ok(problems)
}

fn write_text(explanation: &Explanation<'_>, copies_to: Option<&str>, out: &mut impl Write) -> std::io::Result<()> {
    if let Some(event) = explanation.event {
        writeln!(out, "event\n{}", indented(&serde_json::to_string_pretty(event)?))?;
    }
    routes(&explanation.routes, out)?;
    alerts(&explanation.alerts, out)?;
    if let Some(DeadLetterReason { reason, detail }) = explanation.dead_letter {
        writeln!(out, "\ndead letter\n  {reason}: {}", printable(detail))?;
        if *reason == Reason::MissingTenant {
            writeln!(out, "  name one with `--tenant` to see how the message would be routed")?;
        }
        if let Some(sink) = copies_to {
            writeln!(out, "  a copy goes to the sink {sink}")?;
        }
    }
    for delivery in &explanation.deliveries {
        writeln!(out)?;
        self::delivery(delivery, out)?;
    }
    if explanation.deliveries.is_empty() && explanation.dead_letter.is_none() {
        writeln!(out, "\nno sink gets this message")?;
    }
    Ok(())
}

fn routes(routes: &[ExplainedRoute<'_>], out: &mut impl Write) -> std::io::Result<()> {
    if routes.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nroutes")?;
    let is_long = routes.iter().filter(|route| !route.matched).count() > MAX_UNMATCHED;
    let shown: Vec<_> = routes.iter().filter(|route| route.matched || !is_long).collect();
    let width = shown.iter().map(|route| route.name.chars().count()).max().unwrap_or_default();
    for ExplainedRoute { name, matched, because } in &shown {
        let matches = if *matched { "matches" } else { "-      " };
        writeln!(out, "  {matches}  {name:width$}  {}", printable(because))?;
    }
    if is_long {
        writeln!(out, "  and {} that don't match; `--json` shows all of them", routes.len() - shown.len())?;
    }
    Ok(())
}

/// Those that match; `--json` shows the others, too.
fn alerts(alerts: &[ExplainedAlert<'_>], out: &mut impl Write) -> std::io::Result<()> {
    let matched: Vec<_> = alerts.iter().filter(|alert| alert.matched).collect();
    if !matched.is_empty() {
        writeln!(out, "\nalerts")?;
    }
    for ExplainedAlert { name, because, .. } in matched {
        writeln!(out, "  matches  {name}  {}", printable(because))?;
    }
    Ok(())
}

pub(super) fn delivery(delivery: &ExplainedDelivery<'_>, out: &mut impl Write) -> std::io::Result<()> {
    let ExplainedDelivery { sink, kind, rendered, group, dead_letter, .. } = delivery;
    let by = delivery.by();
    writeln!(out, "{sink} ({kind}), by {by}")?;
    if let Some(DeadLetterReason { reason, detail }) = dead_letter {
        writeln!(out, "  a dead letter, {reason}: {}", printable(detail))?;
    }
    if let Some(ExplainedGroup { by, wait, max }) = group {
        let by: Vec<_> =
            by.iter().map(|(name, value)| format!("{name} {}", value.as_deref().unwrap_or("null"))).collect();
        let of = if by.is_empty() { "all events of the sink".to_owned() } else { by.join(", ") };
        writeln!(
            out,
            "  {:<12} {} (waits {wait}, or until there are {max}); shown is the digest of this event alone",
            "group",
            printable(&of)
        )?;
    }
    rendered.as_ref().map_or(Ok(()), |rendered| self::rendered(rendered, out))
}

/// Destination, headers, properties and body.
pub(super) fn rendered(rendered: &MaskedDelivery, out: &mut impl Write) -> std::io::Result<()> {
    for (name, value) in destination(&rendered.destination) {
        writeln!(out, "  {name:<12} {}", printable(&value))?;
    }
    for (title, fields) in [
        ("headers", rendered.headers.iter().map(|(name, value)| (name.clone(), json(value))).collect()),
        ("properties", members(serde_json::to_value(&rendered.properties)?)),
    ] {
        for (index, (name, value)) in fields.into_iter().enumerate() {
            let title = if index == 0 { title } else { "" };
            writeln!(out, "  {title:<12} {}: {}", printable(&name), plain(&value))?;
        }
    }
    if let Some(encoded) = &rendered.encoded {
        self::encoded(encoded, out)?;
    }
    writeln!(out, "  body\n{}", indented(&rendered.body))
}

fn encoded(encoded: &EncodedBySchema, out: &mut impl Write) -> std::io::Result<()> {
    let EncodedBySchema { format, schema, subject, id, bytes } = encoded;
    let of = subject.as_ref().map_or_else(String::new, |subject| format!(" of the subject {}", printable(subject)));
    let id = id.map_or_else(String::new, |id| format!(", id {id}"));
    let by = format!("{format} by the schema {}{of}{id}", printable(schema));
    match bytes {
        Some(bytes) => writeln!(out, "  {:<12} {by}: {bytes} (base64); the body as JSON is", "encoded"),
        None => {
            writeln!(out, "  {:<12} {by}, which `--connect` reads from the registry; the body as JSON is", "encoded")
        }
    }
}

fn destination(destination: &MaskedDestination) -> Vec<(&'static str, String)> {
    match destination {
        MaskedDestination::Kafka { topic, key, timestamp } => {
            let key = key.clone().unwrap_or_else(|| "null".to_owned());
            let timestamp = timestamp.map(|millis| ("timestamp", format!("{millis} (milliseconds since 1970)")));
            [("topic", topic.clone()), ("key", key)].into_iter().chain(timestamp).collect()
        }
        MaskedDestination::Webhook { url } => vec![("url", url.clone())],
        MaskedDestination::Amqp { exchange, routing_key } => {
            vec![("exchange", exchange.clone()), ("routing key", routing_key.clone())]
        }
        MaskedDestination::File { path } => vec![("path", path.clone())],
        MaskedDestination::Stdout {} => Vec::new(),
    }
}

fn json(value: &HeaderValue) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

fn members(value: Value) -> Vec<(String, Value)> {
    match value {
        Value::Object(members) => members.into_iter().collect(),
        _ => Vec::new(),
    }
}

/// A string without quotes, anything else as JSON.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => printable(text).into_owned(),
        other => printable(&other.to_string()).into_owned(),
    }
}

fn indented(text: &str) -> String {
    let lines: Vec<_> = printable_lines(text).lines().map(|line| format!("    {line}")).collect();
    lines.join("\n")
}
