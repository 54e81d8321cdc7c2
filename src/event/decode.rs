//! Decoding, validation and normalization: from [`Message`] to [`Event`], or to a [`DecodeError`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::json::{self, ObjectMembers, TextValue};
use super::{
    DecodeError, DecodeOptions, Event, ExpectedFamily, Family, HeaderValue, Message, NotUtf8, OptionalField, Outcome,
    Reason, UNREADABLE, Validation, date, identity,
};

/// The header that names the tenant.
pub const TENANT_HEADER: &str = "regards.tenant";
/// The headers that name the Java class of the body.
const TYPE_HEADERS: [&str; 2] = ["__TypeId__", "regards.type"];
/// A tenant becomes part of topics, routing keys (at most 255 bytes in AMQP) and paths.
pub const MAX_TENANT_BYTES: usize = 255;
/// Limit of the warnings in an event; further ones are only counted.
const MAX_WARNINGS: usize = 16;
/// Longer text from the message is cut in a detail or a warning, in characters.
const MAX_QUOTED: usize = 64;
/// A longer text is no status of any family, and a dead letter doesn't keep it as one; in bytes.
const MAX_STATUS_BYTES: usize = 255;

/// A [`DecodeError`] before the fields that could be read are added.
struct Failure {
    reason: Reason,
    detail: String,
}

impl Failure {
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
        Ok((members, family)) => (Body::of(members, family, &mut warnings), family),
        Err(failure) => return Err(Box::new(decode_error(failure, message, options, &Body::default()))),
    };
    event(message, options, family, &mut body, warnings)
        .map_err(|failure| Box::new(decode_error(failure, message, options, &body)))
}

fn decode_error(failure: Failure, message: &Message, options: &DecodeOptions, body: &Body<'_>) -> DecodeError {
    let text = |raw: Option<&RawValue>| match raw.map(TextValue::of) {
        Some(TextValue::Text(text)) => Some(text.into_owned()),
        _ => None,
    };
    DecodeError {
        reason: failure.reason,
        detail: failure.detail,
        tenant: tenant(message, options).ok().map(|tenant| tenant.as_ref().to_owned()),
        status: text(body.fields.status).filter(|status| status.len() <= MAX_STATUS_BYTES),
        correlation_id: text(body.fields.key).or_else(|| message.properties.correlation_id.clone()),
    }
}

fn event(
    message: &Message,
    options: &DecodeOptions,
    family: &'static Family,
    body: &mut Body<'_>,
    mut warnings: Warnings,
) -> Result<Event, Failure> {
    let Body { fields, extra } = body;
    let properties = &message.properties;
    let correlation_id = required(family.key, fields.key)?.into_owned();
    let (status, outcome) = status(family, fields.status)?;

    let mut optional = OptionalFields { validation: options.validation, family, warnings: &mut warnings };
    let product_id = optional.text(OptionalField::ProductId, fields.product_id)?;
    let session = optional.text(OptionalField::Session, fields.session)?;
    let expires = optional.date(OptionalField::Expires, fields.expires)?;
    let text = optional.text(OptionalField::Message, fields.message)?;

    optional.properties(&properties.not_utf8)?;

    let tenant = tenant(message, options)?;
    if let Some(property) = properties.correlation_id.as_deref().filter(|property| !property.is_empty())
        && property != correlation_id
        // Families that name the field otherwise don't promise that it equals the property.
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

/// The expected family, or with `auto` that of the Java class that the headers name.
fn family(message: &Message, expects: ExpectedFamily) -> Result<&'static Family, Failure> {
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
                let detail = format!("the message has neither of the headers {first} and {second}, which `auto` needs");
                Failure::new(Reason::MissingField, detail)
            }
            Some(class) => {
                let detail = format!("{first} or {second} is {class}; expected the Java class of a known response");
                Failure::new(Reason::InvalidField, detail)
            }
        }
    })
}

/// The body as text, if its length, encoding and depth are within bounds.
fn body_text<'a>(message: &'a Message, options: &DecodeOptions) -> Result<&'a str, Failure> {
    let length = message.body.len();
    if length > options.max_body {
        let detail = format!("the body has {length} bytes; max_body is {}", options.max_body);
        return Err(Failure::new(Reason::TooLarge, detail));
    }
    if let Some(encoding) = message.properties.content_encoding.as_deref()
        && !["", "utf-8", "utf8", "us-ascii"].iter().any(|known| encoding.eq_ignore_ascii_case(known))
    {
        let detail = format!("content_encoding is {}; expected UTF-8", quoted(encoding));
        return Err(Failure::new(Reason::UnsupportedEncoding, detail));
    }
    if message.properties.headers_too_deep {
        return Err(Failure::new(Reason::TooDeep, "a header is nested deeper than the relay supports"));
    }
    let text = std::str::from_utf8(&message.body).map_err(|error| {
        let detail = format!("the body is not UTF-8: an invalid byte at offset {}", error.valid_up_to());
        Failure::new(Reason::NotUtf8, detail)
    })?;
    if json::too_deep(text) {
        let detail = format!("the body is nested more than {} levels deep", json::MAX_DEPTH);
        return Err(Failure::new(Reason::TooDeep, detail));
    }
    Ok(text)
}

/// The members of the body, parsed strictly or else without trailing commas. `relaxed` keeps the text without them.
fn members<'a>(text: &'a str, relaxed: &'a mut Option<String>) -> Result<ObjectMembers<'a>, Failure> {
    let (reason, detail) = match json::members(text) {
        Ok(members) => return Ok(members),
        Err(error) => error,
    };
    *relaxed = json::without_trailing_commas(text);
    match relaxed.as_deref().map(json::members) {
        Some(Ok(members)) => Ok(members),
        // The text without commas is no object, or has another mistake, which is the one to report.
        Some(Err((reason, detail))) => Err(Failure::new(reason, detail)),
        None => Err(Failure::new(reason, detail)),
    }
}

#[derive(Default)]
struct Body<'a> {
    fields: BodyFields<'a>,
    extra: BTreeMap<String, Box<RawValue>>,
}

/// The members that have their own field in the event.
#[derive(Default)]
struct BodyFields<'a> {
    key: Option<&'a RawValue>,
    status: Option<&'a RawValue>,
    product_id: Option<&'a RawValue>,
    session: Option<&'a RawValue>,
    expires: Option<&'a RawValue>,
    message: Option<&'a RawValue>,
}

impl<'a> Body<'a> {
    /// If several members have one name, the last one is used, as in REGARDS' own parser (Gson).
    fn of(members: ObjectMembers<'a>, family: &Family, warnings: &mut Warnings) -> Self {
        let mut body = Self::default();
        for (name, value) in members.0 {
            let again = match body.fields.slot(&name, family) {
                Some(slot) => slot.replace(value).is_some(),
                None => match body.extra.get_mut(&*name) {
                    Some(slot) => {
                        *slot = json::compact(value);
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

impl<'a> BodyFields<'a> {
    fn slot(&mut self, name: &str, family: &Family) -> Option<&mut Option<&'a RawValue>> {
        if name == family.key {
            return Some(&mut self.key);
        }
        if name == family.status {
            return Some(&mut self.status);
        }
        family.fields.iter().find(|(known, _)| *known == name).map(|(_, field)| match field {
            OptionalField::ProductId => &mut self.product_id,
            OptionalField::Session => &mut self.session,
            OptionalField::Expires => &mut self.expires,
            OptionalField::Message => &mut self.message,
        })
    }
}

fn required<'a>(name: &str, raw: Option<&'a RawValue>) -> Result<Cow<'a, str>, Failure> {
    let found = match raw.map(TextValue::of) {
        Some(TextValue::Text(text)) => return Ok(text),
        Some(TextValue::Other(other)) => {
            let detail = format!("{name} is {other}; expected text");
            return Err(Failure::new(Reason::InvalidField, detail));
        }
        None => "missing",
        Some(TextValue::Empty) if raw.is_some_and(|raw| raw.get() == "null") => "null",
        Some(TextValue::Empty) => "empty",
    };
    Err(Failure::new(Reason::MissingField, format!("{name} is {found}; every response has it")))
}

fn status(family: &Family, raw: Option<&RawValue>) -> Result<(&'static str, Outcome), Failure> {
    let word = required(family.status, raw)?;
    family.status(&word).ok_or_else(|| {
        let mut detail = format!("{} is {}; expected one of", family.status, quoted(&word));
        for (at, (known, _)) in family.statuses.iter().enumerate() {
            let _ = write!(detail, "{} {known}", if at == 0 { "" } else { "," });
        }
        Failure::new(Reason::UnknownStatus, detail)
    })
}

/// The tenant of the header, or else that of the source.
fn tenant(message: &Message, options: &DecodeOptions) -> Result<Arc<str>, Failure> {
    let invalid = |detail| Err(Failure::new(Reason::InvalidTenant, detail));
    let tenant: Arc<str> = match (message.properties.header(TENANT_HEADER), &options.tenant) {
        (Some(HeaderValue::Text(tenant)), _) if !tenant.is_empty() => tenant.as_str().into(),
        (None | Some(HeaderValue::Null | HeaderValue::Text(_)), Some(tenant)) => Arc::clone(tenant),
        (None | Some(HeaderValue::Null | HeaderValue::Text(_)), None) => {
            let detail = format!("no header {TENANT_HEADER}, and the source has no tenant of its own");
            return Err(Failure::new(Reason::MissingTenant, detail));
        }
        (Some(other), _) => {
            return invalid(format!("the header {TENANT_HEADER} is {}; expected text", other.kind()));
        }
    };
    if tenant.len() > MAX_TENANT_BYTES {
        return invalid(format!("the tenant has {} bytes; at most {MAX_TENANT_BYTES} are allowed", tenant.len()));
    }
    if tenant.chars().any(char::is_control) {
        return invalid(format!("the tenant {} has control characters", quoted(&tenant)));
    }
    Ok(tenant)
}

/// Decodes the optional fields and collects warnings.
struct OptionalFields<'a> {
    validation: Validation,
    family: &'static Family,
    warnings: &'a mut Warnings,
}

impl OptionalFields<'_> {
    fn text(&mut self, field: OptionalField, raw: Option<&RawValue>) -> Result<Option<String>, Failure> {
        match raw.map(TextValue::of) {
            None | Some(TextValue::Empty) => Ok(None),
            Some(TextValue::Text(text)) => Ok(Some(text.into_owned())),
            Some(TextValue::Other(found)) => self.invalid(field, found, "text"),
        }
    }

    fn date(&mut self, field: OptionalField, raw: Option<&RawValue>) -> Result<Option<String>, Failure> {
        match raw.map(TextValue::of) {
            None | Some(TextValue::Empty) => Ok(None),
            Some(TextValue::Text(text)) => match date::normalize(&text) {
                Some(date) => Ok(Some(date)),
                None => self.invalid(field, &quoted(&text), date::FORMS),
            },
            Some(TextValue::Other(found)) => self.invalid(field, found, date::FORMS),
        }
    }

    fn invalid(&mut self, field: OptionalField, found: &str, expected: &str) -> Result<Option<String>, Failure> {
        let name = self.family.fields.iter().find(|(_, known)| *known == field).map_or("", |(name, _)| name);
        self.tolerate(format!("{name} is {found}; expected {expected}"))?;
        Ok(None)
    }

    fn properties(&mut self, not_utf8: &[NotUtf8]) -> Result<(), Failure> {
        for NotUtf8 { place, bytes } in not_utf8 {
            let found = quoted_bytes(bytes);
            self.tolerate(match place.strip_prefix("headers") {
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

    /// A warning, or with strict validation an error.
    fn tolerate(&mut self, detail: String) -> Result<(), Failure> {
        match self.validation {
            Validation::Lenient => {
                self.warnings.add(|| detail);
                Ok(())
            }
            Validation::Strict => Err(Failure::new(Reason::InvalidField, detail)),
        }
    }
}

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

fn quoted_bytes(bytes: &[u8]) -> String {
    let (quoted, rest) = bytes.split_at(bytes.len().min(MAX_QUOTED));
    format!("\"{}{}\"", quoted.escape_ascii(), if rest.is_empty() { "" } else { "…" })
}

/// Text from the message in quotes, with control characters escaped and a long end cut off.
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
