//! Decoding, validation and normalization: from [`Message`] to [`Event`], or to the reason why not.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::json::{self, Members, Value};
use super::{
    DecodeError, DecodeOptions, Event, ExpectedFamily, Family, HeaderValue, Message, NotUtf8, Outcome, Reason, Slot,
    UNREADABLE, Validation, date, identity,
};

/// The header that names the tenant.
pub const TENANT_HEADER: &str = "regards.tenant";
/// The headers that name the Java class of the body.
const TYPE_HEADERS: [&str; 2] = ["__TypeId__", "regards.type"];
/// A tenant becomes topics, routing keys (at most 255 bytes in AMQP) and paths.
const MAX_TENANT_BYTES: usize = 255;
/// So many warnings are written out; of the rest, how many there are.
const MAX_WARNINGS: usize = 16;
/// So much of an outside text is quoted in a detail or a warning, in characters.
const MAX_QUOTED: usize = 64;
/// A longer text is no status of any family, and isn't kept as one; in bytes.
const MAX_STATUS_BYTES: usize = 255;

/// Why not: what [`DecodeError`] says, without what could be read all the same.
struct Refusal {
    reason: Reason,
    detail: String,
}

impl Refusal {
    fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

pub(super) fn decode(message: &Message, options: &DecodeOptions) -> Result<Event, Box<DecodeError>> {
    let mut relaxed = None;
    let mut warnings = Warnings::default();
    let members = body_text(message, options).and_then(|text| members(text, &mut relaxed));
    let known = members.and_then(|members| Ok((members, family(message, options.expects)?)));
    let (mut body, family) = match known {
        Ok((members, family)) => (Body::sort(members, family, &mut warnings), family),
        Err(refusal) => return Err(Box::new(invalid(refusal, message, options, &Body::default()))),
    };
    event(message, options, family, &mut body, warnings)
        .map_err(|refusal| Box::new(invalid(refusal, message, options, &body)))
}

/// A refusal with what could be read all the same, so that a person can find the message.
fn invalid(refusal: Refusal, message: &Message, options: &DecodeOptions, body: &Body<'_>) -> DecodeError {
    let text = |raw: Option<&RawValue>| match raw.map(Value::of) {
        Some(Value::Text(text)) => Some(text.into_owned()),
        _ => None,
    };
    DecodeError {
        reason: refusal.reason,
        detail: refusal.detail,
        tenant: tenant(message, options).ok().map(|tenant| tenant.as_ref().to_owned()),
        status: text(body.fields.status).filter(|status| status.len() <= MAX_STATUS_BYTES),
        correlation_id: text(body.fields.key).or_else(|| message.properties.correlation_id.clone()),
    }
}

/// The event of a body that is an object.
fn event(
    message: &Message,
    options: &DecodeOptions,
    family: &'static Family,
    body: &mut Body<'_>,
    mut warnings: Warnings,
) -> Result<Event, Refusal> {
    let Body { fields, extra } = body;
    let properties = &message.properties;
    let correlation_id = required(family.key, fields.key)?.into_owned();
    let (status, outcome) = status(family, fields.status)?;

    let mut optional = Optional { validation: options.validation, family, warnings: &mut warnings };
    let product_id = optional.text(Slot::ProductId, fields.product_id)?;
    let session = optional.text(Slot::Session, fields.session)?;
    let expires = optional.date(Slot::Expires, fields.expires)?;
    let text = optional.text(Slot::Message, fields.message)?;

    optional.properties(&properties.not_utf8)?;

    let tenant = tenant(message, options)?;
    if let Some(property) = properties.correlation_id.as_deref().filter(|property| !property.is_empty())
        && property != correlation_id
        // Of what has another name in the body, the property is not known to be the same.
        && family.key == "correlationId"
    {
        let (property, key) = (quoted(property), quoted(&correlation_id));
        warnings.add(|| format!("the property correlation_id is {property}, the body's {} is {key}", family.key));
    }
    let time = properties.timestamp.and_then(date::of_seconds);
    if let (Some(timestamp), None) = (properties.timestamp, &time) {
        warnings.add(|| format!("the property timestamp is {timestamp}: not within the years 0001 to 9999"));
    }
    Ok(Event {
        id: identity::id(&tenant, &correlation_id, status, properties.timestamp, &message.body),
        kind: family.kind,
        source: message.source.clone(),
        tenant,
        status,
        outcome,
        correlation_id,
        product_id,
        session,
        expires,
        message: text,
        time,
        extra: std::mem::take(extra),
        warnings: warnings.finish(),
    })
}

/// The family of that message: the only one, or that of the Java class that its headers name.
fn family(message: &Message, expects: ExpectedFamily) -> Result<&'static Family, Refusal> {
    if let ExpectedFamily::One(family) = expects {
        return Ok(family);
    }
    let classes = TYPE_HEADERS.map(|name| match message.properties.header(name) {
        Some(HeaderValue::Text(class)) if !class.is_empty() => Some(class.as_str()),
        _ => None,
    });
    let classes = classes.into_iter().flatten();
    classes.clone().find_map(Family::of_class).ok_or_else(|| {
        let [first, second] = TYPE_HEADERS;
        match classes.map(quoted).next() {
            None => {
                let detail =
                    format!("neither the header {first} nor {second} is there, by which `auto` tells responses");
                Refusal::new(Reason::MissingField, detail)
            }
            Some(class) => {
                let detail =
                    format!("{first} or {second} is {class}; expected the Java class of a response that is known");
                Refusal::new(Reason::InvalidField, detail)
            }
        }
    })
}

/// The body as text, within the bounds.
fn body_text<'a>(message: &'a Message, options: &DecodeOptions) -> Result<&'a str, Refusal> {
    let length = message.body.len();
    if length > options.max_body {
        let detail = format!("the body has {length} bytes; max_body is {}", options.max_body);
        return Err(Refusal::new(Reason::TooLarge, detail));
    }
    if let Some(encoding) = message.properties.content_encoding.as_deref()
        && !["", "utf-8", "utf8", "us-ascii"].iter().any(|known| encoding.eq_ignore_ascii_case(known))
    {
        let detail = format!("content_encoding is {}; expected UTF-8", quoted(encoding));
        return Err(Refusal::new(Reason::UnsupportedEncoding, detail));
    }
    if message.properties.headers_too_deep {
        return Err(Refusal::new(Reason::TooDeep, "a header is nested deeper than the relay keeps"));
    }
    let text = std::str::from_utf8(&message.body).map_err(|error| {
        let detail = format!("the body is not UTF-8: an invalid byte at offset {}", error.valid_up_to());
        Refusal::new(Reason::NotUtf8, detail)
    })?;
    if json::too_deep(text) {
        let detail = format!("the body is nested more than {} deep", json::MAX_DEPTH);
        return Err(Refusal::new(Reason::TooDeep, detail));
    }
    Ok(text)
}

/// The members of the body: strictly, or else with trailing commas allowed. `relaxed` keeps the text without them.
fn members<'a>(text: &'a str, relaxed: &'a mut Option<String>) -> Result<Members<'a>, Refusal> {
    let (reason, detail) = match json::members(text) {
        Ok(members) => return Ok(members),
        Err(error) => error,
    };
    *relaxed = json::without_trailing_commas(text);
    match relaxed.as_deref().map(json::members) {
        Some(Ok(members)) => Ok(members),
        // The relaxed text is JSON but no object, or not JSON for another reason, which is the one to fix.
        Some(Err((reason, detail))) => Err(Refusal::new(reason, detail)),
        None => Err(Refusal::new(reason, detail)),
    }
}

/// The body's members, each in its place.
#[derive(Default)]
struct Body<'a> {
    fields: Fields<'a>,
    extra: BTreeMap<String, Box<RawValue>>,
}

/// What the event has a place of its own for.
#[derive(Default)]
struct Fields<'a> {
    key: Option<&'a RawValue>,
    status: Option<&'a RawValue>,
    product_id: Option<&'a RawValue>,
    session: Option<&'a RawValue>,
    expires: Option<&'a RawValue>,
    message: Option<&'a RawValue>,
}

impl<'a> Body<'a> {
    /// Of members of one name the last one counts, as in REGARDS' own parser (Gson).
    fn sort(members: Members<'a>, family: &Family, warnings: &mut Warnings) -> Self {
        let mut body = Self::default();
        for (name, value) in members.0 {
            let again = match body.fields.place(&name, family) {
                Some(place) => place.replace(value).is_some(),
                None => match body.extra.get_mut(&*name) {
                    Some(place) => {
                        *place = json::compact(value);
                        true
                    }
                    None => body.extra.insert(name.clone().into_owned(), json::compact(value)).is_some(),
                },
            };
            if again {
                warnings.add(|| format!("{} is there more than once; the last one counts", quoted(&name)));
            }
        }
        body
    }
}

impl<'a> Fields<'a> {
    fn place(&mut self, name: &str, family: &Family) -> Option<&mut Option<&'a RawValue>> {
        if name == family.key {
            return Some(&mut self.key);
        }
        if name == family.status {
            return Some(&mut self.status);
        }
        family.fields.iter().find(|(known, _)| *known == name).map(|(_, slot)| match slot {
            Slot::ProductId => &mut self.product_id,
            Slot::Session => &mut self.session,
            Slot::Expires => &mut self.expires,
            Slot::Message => &mut self.message,
        })
    }
}

fn required<'a>(name: &str, raw: Option<&'a RawValue>) -> Result<Cow<'a, str>, Refusal> {
    let found = match raw.map(Value::of) {
        Some(Value::Text(text)) => return Ok(text),
        Some(Value::Other(other)) => {
            let detail = format!("{name} is {other}; expected text");
            return Err(Refusal::new(Reason::InvalidField, detail));
        }
        None => "missing",
        Some(Value::Nothing) if raw.is_some_and(|raw| raw.get() == "null") => "null",
        Some(Value::Nothing) => "empty",
    };
    Err(Refusal::new(Reason::MissingField, format!("{name} is {found}; every response has it")))
}

fn status(family: &Family, raw: Option<&RawValue>) -> Result<(&'static str, Outcome), Refusal> {
    let word = required(family.status, raw)?;
    family.status(&word).ok_or_else(|| {
        let mut detail = format!("{} is {}; expected one of", family.status, quoted(&word));
        for (at, (known, _)) in family.statuses.iter().enumerate() {
            let _ = write!(detail, "{} {known}", if at == 0 { "" } else { "," });
        }
        Refusal::new(Reason::UnknownStatus, detail)
    })
}

/// The header's tenant, else the source's.
fn tenant(message: &Message, options: &DecodeOptions) -> Result<Arc<str>, Refusal> {
    let invalid = |detail| Err(Refusal::new(Reason::InvalidTenant, detail));
    let tenant: Arc<str> = match (message.properties.header(TENANT_HEADER), &options.tenant) {
        (Some(HeaderValue::Text(tenant)), _) if !tenant.is_empty() => tenant.as_str().into(),
        (None | Some(HeaderValue::Null | HeaderValue::Text(_)), Some(tenant)) => Arc::clone(tenant),
        (None | Some(HeaderValue::Null | HeaderValue::Text(_)), None) => {
            let detail = format!("no header {TENANT_HEADER}, and the source has no tenant of its own");
            return Err(Refusal::new(Reason::MissingTenant, detail));
        }
        (Some(other), _) => {
            return invalid(format!("the header {TENANT_HEADER} is {}; expected text", other.kind()));
        }
    };
    if tenant.len() > MAX_TENANT_BYTES {
        return invalid(format!("the tenant has {} bytes; at most {MAX_TENANT_BYTES} are possible", tenant.len()));
    }
    if tenant.chars().any(char::is_control) {
        return invalid(format!("the tenant {} has control characters", quoted(&tenant)));
    }
    Ok(tenant)
}

/// Reads the optional fields.
struct Optional<'a> {
    validation: Validation,
    family: &'static Family,
    warnings: &'a mut Warnings,
}

impl Optional<'_> {
    fn text(&mut self, slot: Slot, raw: Option<&RawValue>) -> Result<Option<String>, Refusal> {
        match raw.map(Value::of) {
            None | Some(Value::Nothing) => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text.into_owned())),
            Some(Value::Other(found)) => self.unreadable(slot, found, "text"),
        }
    }

    fn date(&mut self, slot: Slot, raw: Option<&RawValue>) -> Result<Option<String>, Refusal> {
        match raw.map(Value::of) {
            None | Some(Value::Nothing) => Ok(None),
            Some(Value::Text(text)) => match date::normalize(&text) {
                Some(date) => Ok(Some(date)),
                None => self.unreadable(slot, &quoted(&text), date::FORMS),
            },
            Some(Value::Other(found)) => self.unreadable(slot, found, date::FORMS),
        }
    }

    fn unreadable(&mut self, slot: Slot, found: &str, expected: &str) -> Result<Option<String>, Refusal> {
        let name = self.family.fields.iter().find(|(_, known)| *known == slot).map_or("", |(name, _)| name);
        self.complain(format!("{name} is {found}; expected {expected}"))?;
        Ok(None)
    }

    /// Of properties that are no UTF-8 a source has left only the bytes.
    fn properties(&mut self, not_utf8: &[NotUtf8]) -> Result<(), Refusal> {
        for NotUtf8 { place, bytes } in not_utf8 {
            let found = quoted_bytes(bytes);
            self.complain(match place.strip_prefix("headers") {
                None if place == UNREADABLE => format!("the properties can't be read ({found}); none is known"),
                None => format!("the property {place} is not UTF-8 ({found})"),
                Some("") => "headers can't be read; not all of them are named here".to_owned(),
                Some(name) => {
                    let instead = quoted(name.strip_prefix('.').unwrap_or(name));
                    format!("the name of a header is not UTF-8 ({found}); it is kept as {instead}")
                }
            })?;
        }
        Ok(())
    }

    fn complain(&mut self, detail: String) -> Result<(), Refusal> {
        match self.validation {
            Validation::Lenient => {
                self.warnings.add(|| detail);
                Ok(())
            }
            Validation::Strict => Err(Refusal::new(Reason::InvalidField, detail)),
        }
    }
}

/// What was tolerated, bounded.
#[derive(Default)]
struct Warnings {
    texts: Vec<String>,
    more: usize,
}

impl Warnings {
    fn add(&mut self, text: impl FnOnce() -> String) {
        if self.texts.len() < MAX_WARNINGS {
            self.texts.push(text());
        } else {
            self.more += 1;
        }
    }

    fn finish(mut self) -> Vec<String> {
        if self.more > 0 {
            self.texts.push(format!("and {} more", self.more));
        }
        self.texts
    }
}

/// An outside text in quotes, its control characters escaped, its end cut off where it is long.
fn quoted_bytes(bytes: &[u8]) -> String {
    let (quoted, rest) = bytes.split_at(bytes.len().min(MAX_QUOTED));
    format!("\"{}{}\"", quoted.escape_ascii(), if rest.is_empty() { "" } else { "…" })
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    let mut chars = text.chars();
    for char in chars.by_ref().take(MAX_QUOTED) {
        if char == '"' || char == '\\' || char.is_control() {
            quoted.extend(char.escape_debug());
        } else {
            quoted.push(char);
        }
    }
    quoted.push_str(if chars.next().is_some() { "…\"" } else { "\"" });
    quoted
}
