//! The condition of a route: its `when:`.

use serde::{Deserialize, Serialize};

use super::Glob;
use crate::event::{Event, EventView, Expression, ExpressionError};

/// All parts must match; a condition without parts matches every event.
#[derive(Debug, Clone, Default)]
pub struct Condition {
    /// Of each field at least one glob must match; null matches no glob.
    pub fields: Vec<(Field, Vec<Glob>)>,
    /// None of these blocks may match.
    pub not: Vec<Condition>,
    /// `if:`, which must be true.
    pub expression: Option<Expression>,
}

/// The fields of an event that `when:` can have globs for, and that `group:` can group by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::IntoStaticStr, Serialize, Deserialize)]
#[strum(serialize_all = "camelCase", const_into_str)]
#[serde(rename_all = "camelCase")]
pub enum Field {
    Tenant,
    Status,
    Outcome,
    Type,
    Source,
    Session,
    ProductId,
    CorrelationId,
}

impl Condition {
    /// Whether the condition matches. `if:` is evaluated last, if all other parts match. Recurses as deep as `not:` blocks are
    /// nested in the file.
    pub fn matches(&self, view: EventView<'_>) -> Result<bool, ExpressionError> {
        let event = view.event;
        let is_one = |(field, globs): &(Field, Vec<Glob>)| {
            field.of(event).is_some_and(|value| globs.iter().any(|glob| glob.matches(value)))
        };
        if !self.fields.iter().all(is_one) {
            return Ok(false);
        }
        for block in &self.not {
            if block.matches(view)? {
                return Ok(false);
            }
        }
        self.expression.as_ref().map_or(Ok(true), |expression| expression.is_true(view))
    }
}

impl Field {
    /// The name in the event and under `when:`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }

    /// The field's value in that event; none means null.
    #[must_use]
    pub fn of(self, event: &Event) -> Option<&str> {
        match self {
            Self::Tenant => Some(&event.tenant),
            Self::Status => Some(event.status),
            Self::Outcome => Some(event.outcome.as_str()),
            Self::Type => Some(event.kind),
            Self::Source => Some(event.source.as_str()),
            Self::Session => event.session.as_deref(),
            Self::ProductId => event.product_id.as_deref(),
            Self::CorrelationId => Some(&event.correlation_id),
        }
    }
}
