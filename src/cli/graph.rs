//! `graph`: the routes and alerts as a Mermaid flowchart.

use std::fmt::Write as _;
use std::io::Write;
use std::process::ExitCode;

use super::{Global, load_offline};
use crate::config::{Config, SinkConfig, SinkKind, SourceKind};
use crate::rules::{Glob, SinkIndex, Trigger, Unrouted, in_words};

/// A longer condition is cut, in characters.
const MAX_LABEL: usize = 200;

pub fn run(global: &Global) -> anyhow::Result<ExitCode> {
    match load_offline(&global.config, global) {
        Ok(config) => {
            std::io::stdout().lock().write_all(chart(&config).as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        Err(code) => Ok(code),
    }
}

/// Nodes have numbers as ids, because names may contain any character.
fn chart(config: &Config) -> String {
    let mut lines = vec!["flowchart LR".to_owned(), "  events((events))".to_owned()];
    for (number, source) in config.sources.iter().enumerate() {
        let from = match &source.kind {
            SourceKind::Amqp(amqp) => format!("queue {}", amqp.queue),
            SourceKind::Recording(recording) => {
                let file = recording.path.file_name().unwrap_or_default();
                format!("recording {}", file.display())
            }
        };
        lines.push(format!("  source{number}([{}]) --> events", label(&[source.name.as_str(), &from])));
    }
    for (number, sink) in config.sinks.iter().enumerate() {
        lines.push(format!("  sink{number}[/{}/]", label(&[sink.name.as_str(), &destination(sink)])));
    }
    for (number, route) in config.rules.routes().iter().enumerate() {
        let when = route.when.to_string();
        let asked = if when.is_empty() { String::new() } else { format!("|{}|", label(&[&when])) };
        let mut about = vec![route.name.as_str()];
        about.extend(route.transform.is_some().then_some("transforms"));
        about.extend(route.is_final.then_some("final"));
        lines.push(format!("  events -->{asked} route{number}[{}]", label(&about)));
        lines.extend(edges(&format!("route{number}"), &route.to));
    }
    lines.push("  events -.->|no route| unrouted[unrouted]".to_owned());
    match config.rules.unrouted() {
        Unrouted::Drop => lines.push("  unrouted -.-> dropped((dropped))".to_owned()),
        Unrouted::DeadLetter => lines.push("  unrouted -.-> dead_letters[(dead letters)]".to_owned()),
        Unrouted::Sinks(sinks) => lines.extend(edges("unrouted", sinks)),
    }
    for (number, alert) in config.alerts.iter().enumerate() {
        lines.push(format!("  alert{number}{{{{{}}}}}", label(&[alert.name.as_str(), &condition(&alert.trigger)])));
        lines.extend(alert.to.iter().map(|sink| format!("  alert{number} --> sink{}", sink.0)));
    }
    if let Some(number) =
        config.dead_letters.to.as_ref().and_then(|to| config.sinks.iter().position(|sink| sink.name == *to))
    {
        lines.push(format!("  dead_letters[(dead letters)] -.->|copies| sink{number}"));
    }
    lines.join("\n") + "\n"
}

fn edges(from: &str, to: &[SinkIndex]) -> Vec<String> {
    if to.is_empty() {
        return vec![format!("  {from} --> dropped((dropped))")];
    }
    to.iter().map(|sink| format!("  {from} --> sink{}", sink.0)).collect()
}

fn condition(trigger: &Trigger) -> String {
    let names = |globs: &[Glob]| globs.iter().map(Glob::as_str).collect::<Vec<_>>().join(", ");
    match trigger {
        Trigger::Overdue(overdue) => format!("no end within {}: {}", overdue.limit(), overdue.when),
        Trigger::SinkFailing { sinks, after } => format!("sink {} failing for {}", names(sinks), in_words(*after)),
        Trigger::SourceDown { sources, after } => format!("source {} down for {}", names(sources), in_words(*after)),
        Trigger::SpoolFilling { above } => format!("spool filled above {above}%"),
        Trigger::DeadLetters { more_than } => format!("more than {more_than} dead letters"),
        Trigger::ReloadFailed => "reload failed".to_owned(),
    }
}

fn destination(sink: &SinkConfig) -> String {
    match &sink.kind {
        SinkKind::Kafka(kafka) => format!("kafka topic {}", kafka.topic.shown()),
        SinkKind::Amqp(amqp) => format!("exchange {}", amqp.exchange),
        SinkKind::File(file) => format!("file {}", file.path.shown()),
        SinkKind::Webhook(_) | SinkKind::Stdout => sink.kind.as_str().to_owned(),
    }
}

/// A quoted label, in which Mermaid interprets only `"` and HTML.
fn label(lines: &[&str]) -> String {
    let escape = |line: &&str| {
        let mut out = String::new();
        for (index, char) in line.chars().enumerate() {
            match char {
                _ if index >= MAX_LABEL => {
                    out.push('…');
                    break;
                }
                '"' | '<' | '>' | '&' | '#' => {
                    // Writing to a String can't fail.
                    let _ = write!(out, "#{};", u32::from(char));
                }
                char if char.is_control() => out.push(' '),
                char => out.push(char),
            }
        }
        out
    };
    format!("\"{}\"", lines.iter().map(escape).collect::<Vec<_>>().join("<br>"))
}
