//! The messages that a user gives to a command: samples, as `capture` writes them, or bare bodies.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use anyhow::Context as _;
use bytes::Bytes;

use super::InvalidInput;
use crate::config::{Config, unknown_name};
use crate::event::{HeaderValue, Message, Properties, SourceName, TENANT_HEADER, sample};

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

/// Reads `FILE`, one line of it for `FILE#LINE`, or standard input for `-`: a sample or a bare body. The message gets
/// `source` as its source.
pub(super) fn read(given: &str, source: &SourceName) -> anyhow::Result<Message> {
    if given == "-" {
        return parse(&read_bounded(std::io::stdin().lock(), "standard input")?, "standard input", source);
    }
    if let Some((path, line)) = given.rsplit_once('#')
        && let Ok(line) = line.parse::<usize>()
        && !Path::new(given).exists()
    {
        return line_of(Path::new(path), line, source);
    }
    let file = File::open(given).with_context(|| format!("{given} can't be read"))?;
    parse(&read_bounded(file, given)?, given, source)
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

fn parse(bytes: &[u8], from: &str, source: &SourceName) -> anyhow::Result<Message> {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    if sample::is_sample(text) {
        return sample::parse(text, source).map_err(|error| InvalidInput(format!("{from}: {error}")).into());
    }
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    if text.lines().find(|line| !line.trim().is_empty()).is_some_and(sample::is_sample) {
        let error = format!("{from} has {} samples: name the line of one as {from}#LINE", lines.count());
        return Err(InvalidInput(error).into());
    }
    let body = Bytes::copy_from_slice(bytes);
    Ok(Message { source: source.clone(), body, properties: Properties::default(), redelivered: false })
}

fn read_bounded(from: impl Read, name: &str) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(MAX_MESSAGE + 1).read_to_end(&mut bytes).with_context(|| format!("{name} can't be read"))?;
    if bytes.len() as u64 > MAX_MESSAGE {
        return Err(InvalidInput(format!("{name} is longer than the limit of {MAX_MESSAGE} bytes")).into());
    }
    Ok(bytes)
}
