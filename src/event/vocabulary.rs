//! What templates and expressions see of an event, or of a dead letter, and by which names.

use std::borrow::Cow;

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

/// Names beside the event's texts.
const OTHERS: [&str; 4] = ["extra", "warnings", "headers", "properties"];
/// A name that differs more is no misspelling (Jaro-Winkler).
const SIMILAR: f64 = 0.8;

/// What templates and expressions see: an event, or a copy of a dead letter.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// Its fields, by their names in the normalized event.
    pub event: &'a Event,
    /// `headers` and `properties`.
    pub message: &'a Message,
}

/// What the names in a template or an expression are those of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Vocabulary {
    /// An event.
    #[default]
    Event,
    /// A copy of a dead letter: it may never have been an event.
    DeadLetter,
}

impl<'a> Scope<'a> {
    /// That event, made of that message.
    #[must_use]
    pub fn of(event: &'a Event, message: &'a Message) -> Self {
        Self { event, message }
    }
}

impl Vocabulary {
    /// All names there are.
    pub(super) fn names(self) -> impl Iterator<Item = &'static str> {
        self.fields().iter().map(|field| field.name()).chain(self.others().iter().copied())
    }

    /// The texts there are.
    fn fields(self) -> &'static [Field] {
        match self {
            Self::Event => &Field::OF_EVENTS,
            Self::DeadLetter => &Field::OF_DEAD_LETTERS,
        }
    }

    /// What there is beside them.
    pub(super) fn others(self) -> &'static [&'static str] {
        match self {
            Self::Event => &OTHERS,
            Self::DeadLetter => &[],
        }
    }

    /// The text of that name.
    pub(super) fn field(self, name: &str) -> Option<Field> {
        self.fields().iter().copied().find(|field| field.name() == name)
    }

    /// Whether that text can be null.
    pub(super) fn can_be_null(self, field: Field) -> bool {
        match self {
            Self::Event => {
                matches!(field, Field::ProductId | Field::Session | Field::Expires | Field::Message | Field::Time)
            }
            Self::DeadLetter => matches!(field, Field::Sink | Field::Tenant),
        }
    }

    /// Whether the value of that name, possibly nested, can be null.
    pub(super) fn name_can_be_null(self, name: &str) -> bool {
        let (first, _) = name.split_once('.').unwrap_or((name, ""));
        match self.field(first) {
            Some(field) => self.can_be_null(field),
            None => ["extra", "headers", "properties"].contains(&first),
        }
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
        let Scope { event, message, .. } = scope;
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
pub(super) fn unknown(shown: &str, name: &str, known: impl IntoIterator<Item = &'static str>) -> (String, String) {
    let mut known: Vec<_> = known.into_iter().collect();
    known.sort_by(|a, b| similarity(name, b).total_cmp(&similarity(name, a)));
    let hint = match known.first() {
        Some(best) if similarity(name, best) >= SIMILAR => format!("did you mean {best}?"),
        _ => {
            known.sort_unstable();
            format!("there are {}", known.join(", "))
        }
    };
    (format!("there is no {shown}"), hint)
}

fn similarity(a: &str, b: &str) -> f64 {
    // correlation_id for correlationId is the misspelling to expect.
    let plain = |name: &str| name.replace('_', "").to_lowercase();
    strsim::jaro_winkler(&plain(a), &plain(b))
}
