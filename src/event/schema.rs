//! The names that templates and expressions can use, and what is known of their values before there is an event.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::EventView;

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

/// A name with a lower Jaro-Winkler similarity is not suggested.
const SIMILAR: f64 = 0.8;

/// The kind of event that a template or an expression is compiled for. It decides which names they can use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum EventSchema {
    #[default]
    Event,
    /// An event, or an alert that may be about no request.
    EventOrAlert,
    /// An event that some routes transform. It has the fields that at least one of them leaves.
    Transformed(Arc<Fields>),
    /// The copy of a dead letter, which may never have been an event.
    DeadLetter,
    Digest(Arc<DigestSchema>),
    /// An event in a record of Kafka, whose `topic` is known too.
    Record(Arc<EventSchema>),
}

/// Several events in one delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigestSchema {
    /// The fields that all of them have in common.
    by: Vec<TextField>,
    /// Each of them.
    pub(super) event: EventSchema,
}

/// The list of a digest's events.
pub(super) const EVENTS: &str = "events";
/// The topic of an event's record.
pub(super) const TOPIC: &str = "topic";
/// How many events a digest has.
pub(super) const COUNT: &str = "count";

/// The fields that one or several transforms leave, by name.
pub type Fields = BTreeMap<String, FieldType>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldType {
    pub kind: FieldKind,
    pub nullable: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    Text,
    Number,
    List,
    /// A map with members of any names.
    Map,
    /// A map with the members of [`PROPERTIES`].
    Properties,
    /// A value of any type: what a transform sets a field to.
    Any,
}

impl EventSchema {
    pub(super) fn names(&self) -> Vec<&str> {
        let (fields, others): (Vec<&str>, &[&str]) = match self {
            Self::Record(event) => (event.names(), &[TOPIC]),
            Self::Event | Self::EventOrAlert => {
                (TextField::OF_EVENTS.map(TextField::name).to_vec(), &["extra", "warnings", "headers", "properties"])
            }
            Self::Transformed(fields) => (fields.keys().map(String::as_str).collect(), &["headers", "properties"]),
            Self::DeadLetter => (TextField::OF_DEAD_LETTERS.map(TextField::name).to_vec(), &[]),
            Self::Digest(digest) => (digest.by.iter().map(|field| field.name()).collect(), &[EVENTS, COUNT]),
        };
        fields.into_iter().chain(others.iter().copied()).collect()
    }

    pub(super) fn field_type(&self, name: &str) -> Option<FieldType> {
        let field_type = |kind, nullable| Some(FieldType { kind, nullable });
        if let Some(field) = self.field(name) {
            return field_type(FieldKind::Text, self.can_be_null(field));
        }
        match (self, name) {
            (Self::Record(event), _) => event.field_type(name),
            (Self::Digest(_), COUNT) => field_type(FieldKind::Number, false),
            (Self::Digest(_), EVENTS) | (Self::Event | Self::EventOrAlert, "warnings") => {
                field_type(FieldKind::List, false)
            }
            (Self::DeadLetter | Self::Digest(_), _) => None,
            (_, "headers") | (Self::Event | Self::EventOrAlert, "extra") => field_type(FieldKind::Map, true),
            (_, "properties") => field_type(FieldKind::Properties, true),
            (Self::Transformed(fields), _) => fields.get(name).copied(),
            _ => None,
        }
    }

    /// The field of that name, if no transform can replace it.
    pub(super) fn field(&self, name: &str) -> Option<TextField> {
        let fields: &[TextField] = match self {
            Self::Record(_) if name == TOPIC => return Some(TextField::Topic),
            Self::Record(event) => return event.field(name),
            Self::Event | Self::EventOrAlert => &TextField::OF_EVENTS,
            Self::Transformed(_) => &[],
            Self::DeadLetter => &TextField::OF_DEAD_LETTERS,
            Self::Digest(digest) => &digest.by,
        };
        fields.iter().copied().find(|field| field.name() == name)
    }

    pub(super) fn can_be_null(&self, field: TextField) -> bool {
        match self {
            Self::Record(event) => event.can_be_null(field),
            Self::DeadLetter => matches!(field, TextField::Sink | TextField::Tenant),
            Self::Digest(digest) => digest.event.can_be_null(field),
            Self::EventOrAlert if matches!(field, TextField::Tenant | TextField::CorrelationId) => true,
            _ => matches!(
                field,
                TextField::ProductId | TextField::Session | TextField::Expires | TextField::Message | TextField::Time
            ),
        }
    }

    /// Events of this schema, each with the topic of its record.
    #[must_use]
    pub fn of_record(self) -> Self {
        Self::Record(Arc::new(self))
    }

    /// Digests of events of this schema, grouped by these fields.
    #[must_use]
    pub fn grouped(self, by: &[&str]) -> Self {
        let by = TextField::OF_EVENTS.into_iter().filter(|field| by.contains(&field.name())).collect();
        Self::Digest(Arc::new(DigestSchema { by, event: self }))
    }

    /// The fields that the events of a digest have in common.
    #[must_use]
    pub fn group_fields(&self) -> Vec<&'static str> {
        match self {
            Self::Digest(digest) => digest.by.iter().map(|field| field.name()).collect(),
            Self::Record(event) => event.group_fields(),
            _ => Vec::new(),
        }
    }

    /// The same for any name, also a nested one such as `headers.x`.
    pub(super) fn name_can_be_null(&self, name: &str) -> bool {
        let (first, _) = name.split_once('.').unwrap_or((name, ""));
        self.field_type(first).is_some_and(|of| of.nullable || of.kind == FieldKind::Any && first != name)
    }
}

/// A field of an event or of a dead letter that is text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextField {
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
    Topic,
}

impl TextField {
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
    pub(super) const OF_DEAD_LETTERS: [Self; 4] = [Self::Reason, Self::Source, Self::Sink, Self::Tenant];

    /// The name in the normalized event.
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
            Self::Topic => TOPIC,
        }
    }

    /// The value in that event; none means null.
    pub(super) fn of<'a>(self, view: &EventView<'a>) -> Option<Cow<'a, str>> {
        let EventView { event, message, transformed, topic, .. } = view;
        if self == Self::Topic {
            return topic.map(Cow::Borrowed);
        }
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
            Self::CorrelationId => Some(event.correlation_id.as_str()).filter(|id| !id.is_empty()),
            Self::ProductId => event.product_id.as_deref(),
            Self::Session => event.session.as_deref(),
            Self::Expires => event.expires.as_deref(),
            Self::Message => event.message.as_deref(),
            Self::Time => event.time.as_deref(),
            Self::Reason => message.dead_letter_reason(),
            Self::Sink => message.dead_letter_sink(),
            Self::Topic => None,
        }
        .map(Cow::Borrowed)
    }
}

/// The error message for an unknown name, and a help text with a similar name or all known ones.
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

/// The known name that is similar, if there is one.
pub(super) fn closest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let best = known.into_iter().max_by(|a, b| similarity(name, a).total_cmp(&similarity(name, b)))?;
    (similarity(name, best) >= SIMILAR).then_some(best)
}

fn similarity(a: &str, b: &str) -> f64 {
    // correlation_id for correlationId is a likely mistake.
    let plain = |name: &str| name.replace('_', "").to_lowercase();
    strsim::jaro_winkler(&plain(a), &plain(b))
}
