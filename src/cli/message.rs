//! The messages that a user gives to a command: samples, as `capture` writes them, or bare bodies.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use anyhow::Context as _;
use bytes::Bytes;
use serde_json::Value;

use super::InvalidInput;
use crate::config::{Config, unknown_name};
use crate::event::{AlertSample, HeaderValue, Message, Properties, SourceName, TENANT_HEADER, sample};

/// The longest message, and the longest line of a file of samples, in bytes.
const MAX_MESSAGE: u64 = 64 * 1024 * 1024;

/// The source of that name, or the only one.
pub(super) fn source(config: &Config, named: Option<&str>) -> anyhow::Result<SourceName> {
    let names: Vec<_> = config.sources.iter().map(|source| source.name.as_str()).collect();
    match (named, config.sources.as_slice()) {
        (None, [source]) => Ok(source.name.clone()),
        (None, _) => {
            let names = names.join(", ");
            let line =
                format!("the configuration has several sources: name one of them with `--source`; there are {names}");
            Err(InvalidInput(line).into())
        }
        (Some(named), sources) => match sources.iter().find(|source| source.name.as_str() == named) {
            Some(source) => Ok(source.name.clone()),
            None => Err(InvalidInput(unknown_name("source", named, &names)).into()),
        },
    }
}

pub(super) fn set_tenant(message: &mut Message, tenant: &str) {
    let headers = &mut message.properties.headers;
    headers.retain(|(name, _)| name != TENANT_HEADER);
    headers.push((TENANT_HEADER.to_owned(), HeaderValue::Text(tenant.to_owned())));
}

/// What a user wants to be explained.
pub(super) enum Input {
    /// Its source is not known yet.
    Message(Box<Message>),
    Alert(Box<AlertSample>),
}

/// Reads `FILE`, one line of it for `FILE#LINE`, or standard input for `-`: a sample, a bare body or an alert.
pub(super) fn read(given: &str) -> anyhow::Result<Input> {
    let source = SourceName::new("");
    if given == "-" {
        return parse(&read_bounded(std::io::stdin().lock(), "standard input")?, "standard input", &source);
    }
    if let Some((path, line)) = given.rsplit_once('#')
        && let Ok(line) = line.parse::<usize>()
        && !Path::new(given).exists()
    {
        return line_of(Path::new(path), line, &source).map(|message| Input::Message(Box::new(message)));
    }
    let file = File::open(given).with_context(|| format!("{given} can't be read"))?;
    parse(&read_bounded(file, given)?, given, &source)
}

/// `{"alert": {…}}`; no response of REGARDS has this form.
fn alert(text: &str) -> Option<Value> {
    match serde_json::from_str(text) {
        Ok(Value::Object(members)) if members.len() == 1 => {
            members.into_iter().find(|(name, value)| name == "alert" && value.is_object()).map(|(_, alert)| alert)
        }
        _ => None,
    }
}

pub(super) fn line_of(path: &Path, line: usize, source: &SourceName) -> anyhow::Result<Message> {
    for found in samples(path, source)? {
        let found = found?;
        if found.line == line {
            return Ok(found.message?);
        }
        if found.line > line {
            break;
        }
    }
    Err(InvalidInput(format!("there is no sample in line {line} of {}", path.display())).into())
}

pub(super) struct SampleLine {
    pub(super) line: usize,
    /// The error names file and line.
    pub(super) message: Result<Message, InvalidInput>,
}

/// All samples of a file. The iterator continues after a line that is no sample; a read error ends it.
pub(super) fn samples<'s>(
    path: &'s Path,
    source: &'s SourceName,
) -> anyhow::Result<impl Iterator<Item = anyhow::Result<SampleLine>> + 's> {
    let file = File::open(path).with_context(|| format!("{} can't be read", path.display()))?;
    let mut file = BufReader::new(file);
    let mut number = 0;
    Ok(std::iter::from_fn(move || {
        loop {
            let mut line = Vec::new();
            number += 1;
            let read = (&mut file).take(MAX_MESSAGE).read_until(b'\n', &mut line);
            match read.with_context(|| format!("{}:{number} can't be read", path.display())) {
                Err(error) => return Some(Err(error)),
                Ok(0) => return None,
                Ok(_) if line.len() as u64 >= MAX_MESSAGE => {
                    let error = format!("{}:{number} is longer than the limit of {MAX_MESSAGE} bytes", path.display());
                    return Some(Err(InvalidInput(error).into()));
                }
                Ok(_) if line.trim_ascii().is_empty() => {}
                Ok(_) => {
                    let invalid = |error: String| InvalidInput(format!("{}:{number}: {error}", path.display()));
                    let text = std::str::from_utf8(&line).map_err(|_| invalid("it is not UTF-8".to_owned()));
                    let message =
                        text.and_then(|text| sample::parse(text, source).map_err(|error| invalid(error.to_string())));
                    return Some(Ok(SampleLine { line: number, message }));
                }
            }
        }
    }))
}

fn parse(bytes: &[u8], from: &str, source: &SourceName) -> anyhow::Result<Input> {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let invalid = |error: &dyn std::fmt::Display| InvalidInput(format!("{from}: {error}"));
    if let Some(alert) = alert(text) {
        let alert = AlertSample::parse(&alert).map_err(|error| invalid(&error))?;
        return Ok(Input::Alert(Box::new(alert)));
    }
    if sample::is_sample(text) {
        return Ok(Input::Message(Box::new(sample::parse(text, source).map_err(|error| invalid(&error))?)));
    }
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    if text.lines().find(|line| !line.trim().is_empty()).is_some_and(sample::is_sample) {
        let error = format!("{from} has {} samples: name the line of one as {from}#LINE", lines.count());
        return Err(InvalidInput(error).into());
    }
    let body = Bytes::copy_from_slice(bytes);
    let (source, properties) = (source.clone(), Properties::default());
    Ok(Input::Message(Box::new(Message { source, body, properties, redelivered: false })))
}

fn read_bounded(from: impl Read, name: &str) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(MAX_MESSAGE + 1).read_to_end(&mut bytes).with_context(|| format!("{name} can't be read"))?;
    if bytes.len() as u64 > MAX_MESSAGE {
        return Err(InvalidInput(format!("{name} is longer than the limit of {MAX_MESSAGE} bytes")).into());
    }
    Ok(bytes)
}
