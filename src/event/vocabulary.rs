//! What templates and expressions see of an event, or of a dead letter, and by which names.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::transform::Transformed;
use super::{Event, Message};

/// The members of `properties`: AMQP's own names.
pub(super) const PROPERTIES: [&str; 13] = [
    "app_id",
    "cluster_id",
    "content_encoding",
    "content_type",
    "correlation_id",
    "delivery_mode",
    "expiration",
    "message_id",
    "priority",
    "reply_to",
    "timestamp",
    "type",
    "user_id",
];

/// A name that differs more is no misspelling (Jaro-Winkler).
const SIMILAR: f64 = 0.8;

/// What templates, formats and expressions see: an event, or a copy of a dead letter.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// Its fields, by their names in the normalized event.
    pub event: &'a Event,
    /// `headers` and `properties`.
    pub message: &'a Message,
    /// What templates and formats see in the place of the event's fields.
    pub transformed: Option<&'a Transformed>,
}

/// What the names in a template or an expression are those of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Vocabulary {
    /// An event.
    #[default]
    Event,
    /// An event that some routes transform: it has the fields that any of them leaves.
    Transformed(Arc<Fields>),
    /// A copy of a dead letter: it may never have been an event.
    DeadLetter,
}

/// The fields that a transform leaves, or several do.
pub type Fields = BTreeMap<String, Shape>;

/// What is known of a field before there is an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// What it holds.
    pub holds: Holds,
    /// It can be null.
    pub nullable: bool,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// Text.
    Text,
    /// A list.
    List,
    /// Members by any names.
    Members,
    /// The members of [`PROPERTIES`].
    Properties,
    /// Whatever it was set to.
    Anything,
}

impl<'a> Scope<'a> {
    /// That event, made of that message.
    #[must_use]
    pub fn of(event: &'a Event, message: &'a Message) -> Self {
        Self { event, message, transformed: None }
    }
}

impl Vocabulary {
    /// All names there are.
    pub(super) fn names(&self) -> Vec<&str> {
        let (fields, others): (Vec<&str>, &[&str]) = match self {
            Self::Event => {
                (Field::OF_EVENTS.map(Field::name).to_vec(), &["extra", "warnings", "headers", "properties"])
            }
            Self::Transformed(fields) => (fields.keys().map(String::as_str).collect(), &["headers", "properties"]),
            Self::DeadLetter => (Field::OF_DEAD_LETTERS.map(Field::name).to_vec(), &[]),
        };
        fields.into_iter().chain(others.iter().copied()).collect()
    }

    /// What that name stands for.
    pub(super) fn shape(&self, name: &str) -> Option<Shape> {
        let shape = |holds, nullable| Some(Shape { holds, nullable });
        if let Some(field) = self.field(name) {
            return shape(Holds::Text, self.can_be_null(field));
        }
        match (self, name) {
            (Self::DeadLetter, _) => None,
            (_, "headers") | (Self::Event, "extra") => shape(Holds::Members, true),
            (_, "properties") => shape(Holds::Properties, true),
            (Self::Transformed(fields), _) => fields.get(name).copied(),
            (Self::Event, "warnings") => shape(Holds::List, false),
            _ => None,
        }
    }

    /// The text of that name, where it is always that of the event or of the dead letter.
    pub(super) fn field(&self, name: &str) -> Option<Field> {
        let fields: &[Field] = match self {
            Self::Event => &Field::OF_EVENTS,
            Self::Transformed(_) => &[],
            Self::DeadLetter => &Field::OF_DEAD_LETTERS,
        };
        fields.iter().copied().find(|field| field.name() == name)
    }

    /// Whether that text can be null.
    pub(super) fn can_be_null(&self, field: Field) -> bool {
        match self {
            Self::DeadLetter => matches!(field, Field::Sink | Field::Tenant),
            _ => matches!(field, Field::ProductId | Field::Session | Field::Expires | Field::Message | Field::Time),
        }
    }

    /// Whether the value of that name, possibly nested, can be null.
    pub(super) fn name_can_be_null(&self, name: &str) -> bool {
        let (first, _) = name.split_once('.').unwrap_or((name, ""));
        self.shape(first).is_some_and(|shape| shape.nullable || shape.holds == Holds::Anything && first != name)
    }
}

/// What there is of an event, or of a dead letter, that is one text: by its name in the normalized event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Id,
    Type,
    Source,
    Tenant,
    Status,
    Outcome,
    CorrelationId,
    ProductId,
    Session,
    Expires,
    Message,
    Time,
    Reason,
    Sink,
}

impl Field {
    /// Those of an event.
    pub(super) const OF_EVENTS: [Self; 12] = [
        Self::Id,
        Self::Type,
        Self::Source,
        Self::Tenant,
        Self::Status,
        Self::Outcome,
        Self::CorrelationId,
        Self::ProductId,
        Self::Session,
        Self::Expires,
        Self::Message,
        Self::Time,
    ];
    /// Those of a dead letter.
    pub(super) const OF_DEAD_LETTERS: [Self; 4] = [Self::Reason, Self::Source, Self::Sink, Self::Tenant];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Type => "type",
            Self::Source => "source",
            Self::Tenant => "tenant",
            Self::Status => "status",
            Self::Outcome => "outcome",
            Self::CorrelationId => "correlationId",
            Self::ProductId => "productId",
            Self::Session => "session",
            Self::Expires => "expires",
            Self::Message => "message",
            Self::Time => "time",
            Self::Reason => "reason",
            Self::Sink => "sink",
        }
    }

    /// Its value; none is null.
    pub(super) fn of<'a>(self, scope: &Scope<'a>) -> Option<Cow<'a, str>> {
        let Scope { event, message, transformed } = scope;
        if let Some(transformed) = transformed {
            return transformed.text(self.name());
        }
        match self {
            Self::Id => return Some(Cow::Owned(event.id.to_string())),
            Self::Type => Some(event.kind),
            Self::Source => Some(event.source.as_str()),
            Self::Tenant => Some(&*event.tenant).filter(|tenant| !tenant.is_empty()),
            Self::Status => Some(event.status),
            Self::Outcome => Some(event.outcome.as_str()),
            Self::CorrelationId => Some(event.correlation_id.as_str()),
            Self::ProductId => event.product_id.as_deref(),
            Self::Session => event.session.as_deref(),
            Self::Expires => event.expires.as_deref(),
            Self::Message => event.message.as_deref(),
            Self::Time => event.time.as_deref(),
            Self::Reason => message.reason_of_death(),
            Self::Sink => message.sink_of_death(),
        }
        .map(Cow::Borrowed)
    }
}

/// What is said of a name that there isn't, and what may have been meant.
pub(super) fn unknown<'k>(shown: &str, name: &str, known: impl IntoIterator<Item = &'k str>) -> (String, String) {
    let mut known: Vec<_> = known.into_iter().collect();
    let hint = if let Some(best) = closest(name, known.iter().copied()) {
        format!("did you mean {best}?")
    } else {
        known.sort_unstable();
        format!("there are {}", known.join(", "))
    };
    (format!("there is no {shown}"), hint)
}

/// The name that was likely meant.
pub(super) fn closest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let best = known.into_iter().max_by(|a, b| similarity(name, a).total_cmp(&similarity(name, b)))?;
    (similarity(name, best) >= SIMILAR).then_some(best)
}

fn similarity(a: &str, b: &str) -> f64 {
    // correlation_id for correlationId is the misspelling to expect.
    let plain = |name: &str| name.replace('_', "").to_lowercase();
    strsim::jaro_winkler(&plain(a), &plain(b))
}
